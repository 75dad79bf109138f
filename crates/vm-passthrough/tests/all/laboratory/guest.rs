//! Guests that run, and how they end.

use std::fs;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use serde_json::json;

use super::boot::{boot_sector, then};
use super::machine::{Machine, succeed};
use super::{OTHER_USER, QEMU_USER};

/// Whether a user's packet to the loopback leaves, and the listener there gets it and nothing else.
fn reaches_loopback(user: &str, address: &str) -> bool {
    let listener = UdpSocket::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let send = format!("echo {user} > /dev/udp/{address}/{port}");
    let sender = Command::new("setpriv")
        .args([
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
            "bash",
            "-c",
            &send,
        ])
        .output()
        .expect("setpriv");
    listener.set_nonblocking(true).unwrap();
    let mut packet = [0; 16];
    // On the loopback a packet that was sent has arrived.
    let arrived = listener
        .recv(&mut packet)
        .is_ok_and(|size| packet[..size] == *format!("{user}\n").as_bytes());
    assert_eq!(
        sender.status.success(),
        arrived,
        "{}",
        String::from_utf8_lossy(&sender.stderr)
    );
    arrived
}

#[test]
fn a_guest_boots_writes_to_its_own_disk_and_shuts_down() {
    let machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    let base = fs::read(machine.path("base.qcow2")).unwrap();
    let ended = machine.run();

    let guest = ended.section("guest");
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert_eq!(
        (&guest["changed"], &guest["ended"], &guest["handed_back"]),
        (&json!(true), &json!("shutdown"), &json!(true))
    );
    assert_eq!(
        (&guest["accel"], guest.get("ended_reason")),
        (&json!("tcg"), None)
    );
    assert!(guest["started_at"].as_str().unwrap() <= guest["ended_at"].as_str().unwrap());
    let seconds = |key: &str| guest[key].as_f64().unwrap();
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
    assert!(seconds("start_seconds") > 0.0);
    assert!((seconds("start_seconds")..uptime + 1.0).contains(&seconds("boot_to_ready_seconds")));

    assert_eq!(fs::read(machine.path("base.qcow2")).unwrap(), base);
    let [overlay, raw] =
        ["overlay.qcow2", "after.raw"].map(|name| machine.path(name).display().to_string());
    succeed("qemu-img", &["check", "-q", &overlay]);
    succeed(
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", &overlay, &raw],
    );
    let after = fs::read(raw).unwrap();
    assert_eq!(after[512..1024], boot_sector(then::WRITE_AND_SHUT_DOWN));
    machine.is_as_before();
}

#[test]
fn the_base_is_the_documents_whatever_the_disk_says() {
    let machine = Machine::any();
    let overlay = machine.path("overlay.qcow2").display().to_string();
    succeed(
        "qemu-img",
        &[
            "rebase",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            "/nonexistent",
            &overlay,
        ],
    );
    assert_eq!(machine.run().section("guest")["ended"], "shutdown");
}

#[test]
fn raw_disks_are_files_or_block_devices() {
    let mut machine = Machine::new(then::WRITE_AND_SHUT_DOWN);
    let raw = machine.path("boot.raw");
    File::options()
        .write(true)
        .open(&raw)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    machine.document = json!({"volume": {"path": "/boot.raw", "format": "raw", "ostype": "linux"}});
    assert_eq!(machine.run().section("guest")["ended"], "shutdown");
    let written = fs::read(&raw).unwrap();
    assert_eq!(written[512..1024], written[..512]);

    fs::write(&raw, boot_sector(then::WRITE_AND_SHUT_DOWN)).unwrap();
    File::options()
        .write(true)
        .open(&raw)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let device = succeed("losetup", &["--find", "--show", raw.to_str().unwrap()])
        .trim()
        .to_owned();
    fs::create_dir(machine.path("dev")).unwrap();
    symlink(&device, machine.path("dev/disk")).unwrap();
    machine.document = json!({"volume": {"path": "/dev/disk", "format": "raw", "ostype": "linux"}});
    let ended = machine.run();
    succeed("losetup", &["--detach", &device]);
    assert_eq!(ended.section("guest")["ended"], "shutdown");
    let written = fs::read(&raw).unwrap();
    assert_eq!(written[512..1024], written[..512]);

    machine.document = json!({"volume": {"path": "/dev/file", "format": "raw", "ostype": "linux"}});
    machine.write("dev/file", "");
    machine.run().refused(
        65,
        &format!(
            "opening {}: not a block device",
            machine.path("dev/file").display()
        ),
    );
}

#[test]
fn qemu_is_confined_while_the_guest_runs() {
    let machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    assert!(reaches_loopback(QEMU_USER, "127.0.0.1") && reaches_loopback(QEMU_USER, "::1"));

    // Started as careless scripts do, with a descriptor left open, and with a right of root for
    // whoever follows, another user included.
    machine.write("left-open", "");
    let mut careless = Command::new("setpriv");
    careless.args([
        "--inh-caps",
        "+dac_override",
        "--ambient-caps",
        "+dac_override",
        "--securebits",
        "+no_setuid_fixup",
    ]);
    careless
        .args(["bash", "-c", "exec 9<>\"$1\"; shift; exec \"$@\"", "bash"])
        .arg(machine.path("left-open"));
    let command = machine.command("run");
    careless.arg(command.get_program()).args(command.get_args());
    let mut session = machine.start_by(careless);
    session.is_up(1);

    let qemu = session.qemu();
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")))
            .unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for name in ["Uid", "Gid"] {
        assert_eq!(field(name), [QEMU_USER; 4].join(" "));
    }
    assert_eq!(field("Groups"), "");
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(name), "0".repeat(16), "{name}");
    }
    assert_eq!(
        (field("NoNewPrivs"), field("Seccomp")),
        ("1".into(), "2".into())
    );
    let limits = fs::read_to_string(format!("/proc/{qemu}/limits")).unwrap();
    let core: Vec<&str> = limits
        .lines()
        .find(|line| line.starts_with("Max core"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(core[4..6], ["0", "0"]);
    assert!(
        fs::read(format!("/proc/{qemu}/environ"))
            .unwrap()
            .is_empty()
    );

    // It can use what it was handed, and none of it by its path.
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{qemu}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|path| path.starts_with(machine.root.path()))
        .collect();
    for name in ["overlay.qcow2", "base.qcow2", "console"] {
        assert!(open.contains(&machine.path(name)), "{name}: {open:?}");
        let test = [
            "--reuid",
            QEMU_USER,
            "--regid",
            QEMU_USER,
            "--clear-groups",
            "test",
            "-r",
        ];
        assert!(
            !Command::new("setpriv")
                .args(test)
                .arg(machine.path(name))
                .status()
                .unwrap()
                .success()
        );
    }
    let handed = |path: &PathBuf| {
        ["overlay.qcow2", "base.qcow2", "console"]
            .iter()
            .any(|name| *path == machine.path(name))
    };
    assert!(open.iter().all(handed), "{open:?}");

    // The rule stands, and it is about this user only.
    for address in ["127.0.0.1", "::1"] {
        assert!(!reaches_loopback(QEMU_USER, address));
        assert!(reaches_loopback(OTHER_USER, address));
    }

    session.signal(Signal::SIGTERM);
    session.end();
    assert!(reaches_loopback(QEMU_USER, "127.0.0.1") && reaches_loopback(QEMU_USER, "::1"));
}

/// The segment's frames go to the room's group, on the interface that logged in.
#[test]
fn a_guest_on_the_rooms_segment_is_in_its_group() {
    let mut machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    for arguments in [
        &[
            "link", "add", "eth0", "type", "veth", "peer", "name", "switch",
        ][..],
        &["addr", "add", "192.0.2.7/24", "dev", "eth0"],
        &["link", "set", "switch", "up"],
        &["link", "set", "eth0", "up"],
    ] {
        succeed("ip", arguments);
    }
    machine.write("sys/class/net/eth0/address", "74:86:7a:fd:de:36\n");
    machine.write(
        "etc/labtools/profiles.ini",
        "[profile.linux]\nmemory=64M\ncores=1\nsegment=true\n",
    );
    machine.document["login"] = json!({"schema": 1, "authenticated": true,
        "links": [{"interface": "eth0", "addresses": ["2001:db8::7", "192.0.2.7"]}]});
    let campus = "[net.lab]\ncidr=192.0.2.0/24\ncampus=c\nbuilding=b\nroom=101\n";
    machine.write("etc/labtools/campus.ini", campus);
    machine.run().refused(
        78,
        "refusing to start the guest: finding the room's network segment: campus.ini has no segment for 192.0.2.7",
    );

    machine.write(
        "etc/labtools/campus.ini",
        &format!("{campus}segment=239.192.1.1:5010\n"),
    );
    let mut session = machine.start();
    session.is_up(1);
    let groups = succeed("ip", &["maddress", "show", "dev", "eth0"]);
    assert!(groups.contains("inet  239.192.1.1"), "{groups}");
    let sockets = succeed("ss", &["--udp", "--listening", "--numeric", "--processes"]);
    assert!(sockets.contains("239.192.1.1:5010"), "{sockets}");
    session.signal(Signal::SIGTERM);
    assert_eq!(session.end().section("guest")["ended"], "stopped");
    let groups = succeed("ip", &["maddress", "show", "dev", "eth0"]);
    assert!(!groups.contains("239.192.1.1"), "{groups}");
    machine.is_as_before();
}

#[test]
fn a_guest_that_reboots_goes_on() {
    let mut machine = Machine::new(then::REBOOT);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(3);
    session.signal(Signal::SIGINT);
    let ended = session.end();
    assert_eq!(
        (ended.signal, &ended.section("guest")["ended"]),
        (Some(Signal::SIGINT as i32), &json!("stopped"))
    );
    machine.is_as_before();
}

#[test]
fn a_signal_shuts_the_guest_down_and_then_ends_the_tool() {
    let mut machine = Machine::new(then::WAIT_FOR_THE_BUTTON);
    machine.settings += "shutdown_seconds=4294967295\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(
        (ended.signal, ended.stderr.as_str()),
        (Some(Signal::SIGTERM as i32), "")
    );
    assert_eq!(
        (
            &guest["ended"],
            guest.get("ended_reason"),
            &guest["handed_back"]
        ),
        (&json!("stopped"), None, &json!(true))
    );
    machine.is_as_before();
}

#[test]
fn a_guest_that_does_not_listen_is_switched_off() {
    let mut machine = Machine::new(then::STAND_STILL);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(ended.signal, Some(Signal::SIGTERM as i32));
    assert_eq!(
        (&guest["ended"], &guest["ended_reason"]),
        (&json!("stopped"), &json!("it did not shut down within 0 s"))
    );
    machine.is_as_before();
}

#[test]
fn a_qemu_that_hangs_is_killed() {
    let mut machine = Machine::new(then::STAND_STILL);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(1);
    kill(session.qemu(), Signal::SIGSTOP).unwrap();
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(ended.signal, Some(Signal::SIGTERM as i32));
    assert_eq!(
        (&guest["ended"], &guest["ended_reason"]),
        (
            &json!("stopped"),
            &json!("QEMU did not quit within 10 s and was killed")
        )
    );
    machine.is_as_before();
}

#[test]
fn a_qemu_that_is_killed_is_a_guest_that_died() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    kill(session.qemu(), Signal::SIGKILL).unwrap();
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(ended.status, 1);
    assert_eq!(
        (&guest["ended"], &guest["handed_back"]),
        (&json!("died"), &json!(true))
    );
    assert_eq!(
        guest["ended_reason"],
        "QEMU ended: signal: 9 (SIGKILL): it printed nothing"
    );
    machine.is_as_before();
}

#[test]
fn a_qemu_that_dies_while_the_guest_shuts_down_is_said() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    let qemu = session.qemu();
    session.signal(Signal::SIGTERM);
    kill(qemu, Signal::SIGKILL).unwrap();
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(
        (ended.signal, &guest["ended"]),
        (Some(Signal::SIGTERM as i32), &json!("stopped"))
    );
    assert_eq!(
        guest["ended_reason"],
        "QEMU ended: signal: 9 (SIGKILL): it printed nothing"
    );
    machine.is_as_before();
}

#[test]
fn a_qemu_that_somebody_else_stops_is_a_guest_that_died() {
    let machine = Machine::new(then::STAND_STILL);
    let mut session = machine.start();
    session.is_up(1);
    kill(session.qemu(), Signal::SIGTERM).unwrap();
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!((ended.status, &guest["ended"]), (1, &json!("died")));
    let reason = guest["ended_reason"].as_str().unwrap();
    assert!(
        reason.starts_with("QEMU ended: host-signal: exit status: 0: "),
        "{reason}"
    );
    machine.is_as_before();
}
