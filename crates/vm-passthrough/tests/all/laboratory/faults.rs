//! What goes wrong while a guest runs, or while it starts.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::sys::signal::{Signal, kill};
use serde_json::json;

use super::boot::{boot_sector, then};
use super::machine::{Machine, ruleset, succeed};

/// What a fake QEMU does: says QMP, hears commands in the order that is expected, and plays the
/// start.
const FAKE_QMP: &str = concat!(
    "for word; do case $word in socket,id=monitor,fd=*) monitor=${word##*=} ;; esac; done\n",
    "say() { printf '%s\\r\\n' \"$1\" >&\"$monitor\"; }\n",
    "hear() { read -r line <&\"$monitor\"; [ \"$line\" = '{\"execute\":\"'\"$1\"'\"}' ] || exit 9; say '{\"return\": {'\"$2\"'}}'; }\n",
    "fail() { say '{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"'\"$1\"'\"}}'; }\n",
    "end() { say '{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": '\"$1\"', \"reason\": \"'\"$2\"'\"}}'; exit; }\n",
    "say '{\"QMP\": {}}'; hear qmp_capabilities; hear query-status; hear cont\n",
);

#[test]
fn a_guest_that_stands_still_for_good_is_switched_off_and_named() {
    // A fake: nothing makes the real one stop a guest for good but the faults of a processor or of
    // a device that was handed over.
    for status in ["internal-error", "guest-panicked", "paused"] {
        let mut machine = Machine::any();
        machine.fake_qemu(&format!(
            "{FAKE_QMP}say '{{\"event\": \"STOP\"}}'; hear query-status '\"status\": \"{status}\"'; hear quit; end false host-qmp-quit"
        ));
        let ended = machine.run();
        let guest = ended.section("guest");
        assert_eq!(
            ended.stderr,
            format!(
                "vm-passthrough: the guest stands still for good ({status}) and is switched off\n"
            )
        );
        assert_eq!((ended.status, &guest["ended"]), (1, &json!("died")));
        let reason = format!(
            "QEMU ended: the guest stood still for good ({status}): exit status: 0: it printed nothing"
        );
        assert_eq!(guest["ended_reason"], reason);
        machine.is_as_before();
    }
}

#[test]
fn a_qemu_that_takes_no_orders_is_killed() {
    // A fake: a QEMU that its guest has taken over. Each event asks for an order, and it reads none.
    let mut machine = Machine::any();
    machine.fake_qemu(&format!(
        "{FAKE_QMP}while :; do say '{{\"event\": \"STOP\"}}'; done"
    ));
    let ended = machine.run();
    let guest = ended.section("guest");
    assert_eq!((ended.status, &guest["ended"]), (1, &json!("died")));
    assert_eq!(
        guest["ended_reason"],
        "QEMU ended: QEMU takes no more orders: signal: 9 (SIGKILL): it printed nothing"
    );
    machine.is_as_before();
}

#[test]
fn a_qemu_that_closes_its_monitor_and_prints_without_an_end_is_killed() {
    // A fake, as above.
    let mut machine = Machine::any();
    machine.fake_qemu(&format!(
        "{FAKE_QMP}exec {{monitor}}>&-; while :; do echo more >&2; done"
    ));
    let ended = machine.run();
    let guest = ended.section("guest");
    assert_eq!((ended.status, &guest["ended"]), (1, &json!("died")));
    let reason = guest["ended_reason"].as_str().unwrap();
    let start = "QEMU ended: signal: 9 (SIGKILL): ";
    assert!(
        reason.starts_with(start) && reason.ends_with("more; more"),
        "{reason}"
    );
    machine.is_as_before();
}

#[test]
fn a_guest_whose_system_crashed_died() {
    // A fake: the guest would need a device that tells of it, or Windows on KVM.
    let mut machine = Machine::any();
    machine.fake_qemu(&format!(
        "{FAKE_QMP}say '{{\"event\": \"GUEST_PANICKED\", \"data\": {{\"action\": \"poweroff\"}}}}'; end true guest-panic"
    ));
    let ended = machine.run();
    let guest = ended.section("guest");
    assert_eq!(ended.stderr, "vm-passthrough: the guest's system crashed\n");
    assert_eq!((ended.status, &guest["ended"]), (1, &json!("died")));
    assert_eq!(
        guest["ended_reason"],
        "QEMU ended: guest-panic: exit status: 0: it printed nothing"
    );
    machine.is_as_before();
}

#[test]
fn a_disk_without_room_is_known_by_the_status_where_qemu_did_not_tell_of_it() {
    // A fake: QEMU 10 keeps an event back for a second after another like it, which it has to be
    // made to show.
    let mut machine = Machine::any();
    machine.fake_qemu(&format!(
        "{FAKE_QMP}fail report; say '{{\"event\": \"STOP\"}}'; hear query-status '\"status\": \"io-error\"'; hear cont; end true guest-shutdown"
    ));
    let ended = machine.run();
    assert_eq!(
        (ended.status, &ended.section("guest")["ended"]),
        (0, &json!("shutdown"))
    );
    assert_eq!(ended.stderr, [DISK_FAILED, STANDS_STILL, GOES_ON].concat());
    machine.is_as_before();
}

const DISK_FAILED: &str = "vm-passthrough: the guest's disk could not be read or written, and the guest received the error; see the kernel's log\n";
const GOES_ON: &str = "vm-passthrough: the guest goes on\n";
const STANDS_STILL: &str = "vm-passthrough: the guest stands still: no space left for its disk; it goes on by itself when there is room\n";

#[test]
fn a_guest_whose_disk_has_no_room_waits_and_goes_on() {
    let mut machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    machine.fill_the_disk();
    let mut session = machine.start();
    assert_eq!(session.complaint(), STANDS_STILL);
    fs::remove_file(machine.path("full/filler")).unwrap();
    let ended = session.end();
    assert_eq!(
        (ended.status, &ended.section("guest")["ended"]),
        (0, &json!("shutdown"))
    );
    assert_eq!(ended.stderr, GOES_ON, "also of one that ends soon");

    let [overlay, raw] =
        ["full/overlay.qcow2", "after.raw"].map(|name| machine.path(name).display().to_string());
    succeed("qemu-img", &["check", "-q", &overlay]);
    succeed(
        "qemu-img",
        &[
            "rebase",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            "../base.qcow2",
            &overlay,
        ],
    );
    succeed(
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", &overlay, &raw],
    );
    assert_eq!(
        fs::read(raw).unwrap()[512..1024],
        boot_sector(then::WRITE_AND_SHUT_DOWN)
    );
    succeed("umount", &[machine.path("full").to_str().unwrap()]);
    machine.is_as_before();
}

#[test]
fn a_guest_whose_disk_has_no_room_can_be_stopped() {
    let mut machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    machine.settings += "shutdown_seconds=1\n";
    machine.fill_the_disk();
    let mut session = machine.start();
    assert_eq!(session.complaint(), STANDS_STILL);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(
        (ended.signal, &guest["ended"]),
        (Some(Signal::SIGTERM as i32), &json!("stopped"))
    );
    let reason = "it did not shut down within 1 s: it stood still: no space was left for its disk";
    assert_eq!(
        (&guest["ended_reason"], &guest["handed_back"]),
        (&json!(reason), &json!(true))
    );
    succeed("umount", &[machine.path("full").to_str().unwrap()]);
    machine.is_as_before();
}

#[test]
fn of_a_disk_that_fails_again_and_again_one_line_is_said() {
    let mut machine = Machine::any();
    // A fake, for it is to fail so often and no more.
    machine.fake_qemu(&format!(
        "{FAKE_QMP}{}",
        concat!(
            "fail report; fail report; fail stop; fail stop; hear cont; fail stop; hear cont\n",
            // Longer than until the next attempt, which does not come: the guest goes on.
            "read -rt 4 <&\"$monitor\" && exit 9; fail stop; hear cont; end true guest-shutdown\n",
        )
    ));
    let ended = machine.run();
    assert_eq!(
        (ended.status, &ended.section("guest")["ended"]),
        (0, &json!("shutdown")),
        "{}",
        ended.section("guest")
    );
    assert_eq!(
        ended.stderr,
        [DISK_FAILED, STANDS_STILL, GOES_ON, STANDS_STILL, GOES_ON].concat()
    );
    machine.is_as_before();
}

#[test]
fn a_killed_tool_takes_its_guest_along_and_the_next_one_clears_up() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGKILL);
    session.qemu_is_gone();
    assert_eq!(session.end().signal, Some(Signal::SIGKILL as i32));
    assert_ne!(ruleset(), "");
    assert!(machine.can_lock());

    let mut session = machine.start();
    session.is_up(1);
    assert_eq!(ruleset().matches("drop").count(), 1);
    kill(session.qemu(), Signal::SIGKILL).unwrap();
    session.end();
    machine.is_as_before();
}

#[test]
fn a_rule_that_somebody_took_away_is_noticed_at_the_end() {
    let mut machine = Machine::new(then::WAIT_FOR_SECTOR_1);
    let raw = File::options()
        .write(true)
        .open(machine.path("boot.raw"))
        .unwrap();
    raw.set_len(1 << 20).unwrap();
    machine.document = json!({"volume": {"path": "/boot.raw", "format": "raw", "ostype": "linux"}});
    let mut session = machine.start();
    session.is_up(1);
    succeed("nft", &["flush", "ruleset"]);
    raw.write_all_at(b"go", 512).unwrap();
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(ended.status, 1);
    assert_eq!(
        (&guest["ended"], &guest["handed_back"]),
        (&json!("shutdown"), &json!(false))
    );
    assert!(
        ended
            .stderr
            .starts_with("vm-passthrough: removing the firewall rule for QEMU's user: nft "),
        "{}",
        ended.stderr
    );
    machine.is_as_before();
}

/// Otherwise the second guest would take the rule of the first with it.
#[test]
fn second_guest_is_refused_although_the_lock_was_deleted() {
    let machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    let mut session = machine.start();
    session.is_up(1);
    fs::remove_dir_all(machine.path("run/labtools")).unwrap();
    machine.run().refused(
        75,
        "looking for another guest of this network: one runs, whose lock was deleted",
    );
    assert_eq!(ruleset().matches("drop").count(), 1);
    session.signal(Signal::SIGTERM);
    assert_eq!(session.end().section("guest")["ended"], "stopped");
    machine.is_as_before();
}

#[test]
fn second_guest_is_refused() {
    let machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    let mut session = machine.start();
    session.is_up(1);
    let second = machine.run();
    let lock = machine.path("run/labtools/guest.lock");
    second.refused(
        75,
        &format!(
            "locking {}: another guest runs, or old volumes are being removed; try again",
            lock.display()
        ),
    );
    // The first does not notice.
    assert_ne!(ruleset(), "");
    session.signal(Signal::SIGTERM);
    assert_eq!(session.end().section("guest")["ended"], "stopped");
    machine.is_as_before();
}

#[test]
fn a_signal_before_the_guest_is_ready_leaves_nothing() {
    let mut machine = Machine::any();
    // A fake: the real QEMU is ready too soon to be interrupted for certain.
    machine.fake_qemu(concat!(
        "for word; do case $word in fd=*,set=3,*) word=${word%%,*}; console=${word#fd=} ;; esac; done\n",
        "echo 'guest is up' >&\"$console\"\n",
        "exec sleep 600",
    ));
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    assert_eq!(
        (ended.signal, ended.stdout.as_str()),
        (Some(Signal::SIGTERM as i32), "")
    );
    machine.is_as_before();
}

#[test]
fn the_remote_desktop_is_at_the_management_address_alone() {
    for (rdp, listening) in [("rdp=false", ""), ("rdp=true", "127.0.0.2:3389")] {
        let mut machine = Machine::new(then::STAND_STILL);
        machine.write(
            "etc/labtools/profiles.ini",
            &format!("[profile.linux]\nmemory=64M\ncores=1\n{rdp}\n"),
        );
        machine.settings += "management_address=127.0.0.2\nshutdown_seconds=0\n";
        let mut session = machine.start();
        session.is_up(1);
        let sockets = succeed(
            "ss",
            &["--no-header", "--listening", "--tcp", "--udp", "--numeric"],
        );
        let addresses: Vec<&str> = sockets
            .lines()
            .filter_map(|line| line.split_whitespace().nth(4))
            .collect();
        assert_eq!(addresses.join(" "), listening, "{rdp}");
        session.signal(Signal::SIGTERM);
        session.end();
    }
}
