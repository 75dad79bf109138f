//! Disks, programs and rights that keep a guest from starting.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::OTHER_USER;
use super::machine::{Machine, own_mounts, succeed};

#[test]
fn a_missing_disk_is_66() {
    let machine = Machine::any();
    for name in ["base.qcow2", "overlay.qcow2"] {
        fs::remove_file(machine.path(name)).unwrap();
        let ended = machine.run();
        ended.refused(
            66,
            &format!("opening {}: No such file", machine.path(name).display()),
        );
        machine.is_as_before();
    }
}

#[test]
fn an_immutable_disk_is_no_lack_of_rights() {
    let machine = Machine::any();
    let overlay = machine.path("overlay.qcow2");
    succeed("chattr", &["+i", overlay.to_str().unwrap()]);
    let ended = machine.run();
    succeed("chattr", &["-i", overlay.to_str().unwrap()]);
    ended.refused(
        74,
        &format!("opening {}: Operation not permitted", overlay.display()),
    );
    machine.is_as_before();
}

#[test]
fn a_console_that_cannot_be_made_is_73() {
    let mut machine = Machine::any();
    own_mounts();
    fs::create_dir(machine.path("closed")).unwrap();
    succeed(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "ro,mode=700",
            "tmpfs",
            machine.path("closed").to_str().unwrap(),
        ],
    );
    machine.settings = machine.settings.replace("=/console", "=/closed/console");
    let ended = machine.run();
    succeed("umount", &[machine.path("closed").to_str().unwrap()]);
    ended.refused(
        73,
        &format!(
            "opening qemu.console {}: Read-only file system",
            machine.path("closed/console").display()
        ),
    );
    machine.is_as_before();
}

#[test]
fn a_link_leads_to_the_base_but_not_to_the_users_disk() {
    let machine = Machine::any();
    let put_elsewhere = |name: &str| {
        fs::rename(machine.path(name), machine.path("elsewhere").join(name)).unwrap();
        symlink(Path::new("elsewhere").join(name), machine.path(name)).unwrap();
    };
    fs::create_dir(machine.path("elsewhere")).unwrap();
    put_elsewhere("base.qcow2");
    assert_eq!(machine.run().section("guest")["ended"], "shutdown");

    put_elsewhere("overlay.qcow2");
    let overlay = machine.path("overlay.qcow2");
    machine.run().refused(
        65,
        &format!(
            "opening {}: a symbolic link, which is not followed",
            overlay.display()
        ),
    );
    machine.is_as_before();
}

#[test]
fn pipes_are_refused_at_once() {
    let machine = Machine::any();
    for name in ["base.qcow2", "overlay.qcow2"] {
        fs::remove_file(machine.path(name)).unwrap();
        mkfifo(&machine.path(name), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        machine.run().refused(
            65,
            &format!(
                "opening {}: not a regular file",
                machine.path(name).display()
            ),
        );
    }
}

#[test]
fn a_broken_disk_is_what_qemu_says() {
    let machine = Machine::any();
    machine.write("overlay.qcow2", "no qcow2");
    let ended = machine.run();
    ended.refused(69, "QEMU ended before it was ready: exit status: 1: ");
    assert!(
        ended.stderr.contains("Image is not in qcow2 format"),
        "{}",
        ended.stderr
    );
    machine.is_as_before();
}

#[test]
fn missing_qemu_is_69() {
    let mut machine = Machine::any();
    machine.settings += "binary=/nonexistent/qemu\n";
    machine.run().refused(
        69,
        "refusing to start the guest: starting /nonexistent/qemu: No such file or directory (os error 2); install Debian's package qemu-system-x86",
    );
    machine.is_as_before();
}

#[test]
fn a_qemu_that_dies_after_its_greeting_is_69() {
    let mut machine = Machine::any();
    machine.fake_qemu(concat!(
        "for word; do case $word in socket,id=monitor,fd=*) monitor=${word##*=} ;; esac; done\n",
        "printf '{\"QMP\": {}}\\r\\n' >&\"$monitor\"\n",
        "echo 'cannot set up guest memory' >&2\n",
        "exit 3",
    ));
    machine.run().refused(
        69,
        "QEMU ended before it was ready: exit status: 3: cannot set up guest memory",
    );
    machine.is_as_before();
}

/// The real QEMU does so where the host's firmware leaves the graphics without a ROM; no emulated
/// machine has such graphics.
#[test]
fn graphics_without_legacy_mode_are_78() {
    let mut machine = Machine::any();
    machine.fake_qemu(concat!(
        "for word; do case $word in socket,id=monitor,fd=*) monitor=${word##*=} ;; esac; done\n",
        "printf '{\"QMP\": {}}\\r\\n{\"return\": {}}\\r\\n' >&\"$monitor\"\n",
        "echo 'qemu-system-x86_64: IGD device 0000:00:02.0 has no ROM, legacy mode disabled' >&2\n",
        "printf '{\"return\": {\"status\": \"prelaunch\"}}\\r\\n' >&\"$monitor\"\n",
        "exec sleep 600",
    ));
    machine.run().refused(
        78,
        "handing the integrated graphics over: qemu-system-x86_64: IGD device 0000:00:02.0 has no ROM, legacy mode disabled",
    );
    machine.is_as_before();
}

#[test]
fn missing_nft_is_69_and_nothing_starts() {
    let mut machine = Machine::any();
    let mark = machine.path("marks/started");
    machine.fake_qemu(&format!("> {}; exit 3", mark.display()));
    fs::create_dir(mark.parent().unwrap()).unwrap();
    fs::set_permissions(mark.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    own_mounts();
    succeed("mount", &["-t", "tmpfs", "tmpfs", "/usr/sbin"]); // Debian's place of nft
    let ended = machine.run();
    succeed("umount", &["/usr/sbin"]);
    ended.refused(
        69,
        "refusing to start the guest: no program nft; install nftables",
    );
    assert!(!mark.exists());
    machine.is_as_before();

    // It is found without a PATH to it, as after su(1).
    let mut command = machine.command("run");
    command.env("PATH", "/nonexistent");
    machine.start_by(command).end().refused(
        69,
        "QEMU ended before it was ready: exit status: 3: it printed nothing",
    );
    fs::remove_file(&mark).unwrap();

    // That mark would have been seen.
    machine.run().refused(
        69,
        "QEMU ended before it was ready: exit status: 3: it printed nothing",
    );
    assert!(mark.exists());
}

#[test]
fn starting_a_guest_needs_root() {
    let machine = Machine::any();
    fs::set_permissions(machine.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (verb, status) in [("run", 77), ("plan", 0)] {
        let command = machine.command(verb);
        let mut unprivileged = Command::new("setpriv");
        unprivileged.args([
            "--reuid",
            OTHER_USER,
            "--regid",
            OTHER_USER,
            "--clear-groups",
        ]);
        unprivileged
            .arg(command.get_program())
            .args(command.get_args());
        let ended = machine.start_by(unprivileged).end();
        assert_eq!(ended.status, status, "{}", ended.stderr);
    }
}
