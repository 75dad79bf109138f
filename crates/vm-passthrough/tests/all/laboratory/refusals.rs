//! What keeps a guest from starting.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::machine::{Machine, own_mounts, succeed};
use super::{OTHER_USER, QEMU, QEMU_USER};

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
fn a_qemu_of_unknown_version_is_one_of_all_blockers() {
    for (version, message) in [
        (
            "QEMU emulator version next",
            "-version does not print QEMU's",
        ),
        (
            "QEMU emulator version 7.1.0",
            "QEMU 7.1 is too old; install Debian's package",
        ),
    ] {
        let mut machine = with_a_device("vfio-pci");
        machine.fake_program(&format!("echo '{version}'"));
        let ended = machine.run();
        ended.refused(
            78,
            "refusing to start the guest, for 2 reasons: (1) no IOMMU: ",
        );
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
    }
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

/// A machine with one device to hand over, whose driver is `driver`.
fn with_a_device(driver: &str) -> Machine {
    let machine = Machine::any();
    machine.write(
        "etc/labtools/models.ini",
        "[model.Test]\ndevices=00:02.0 8086:0152\n",
    );
    machine.write("sys/class/dmi/id/product_name", "Test\n");
    let device = "sys/bus/pci/devices/0000:00:02.0";
    for (name, text) in [
        ("vendor", "0x8086\n"),
        ("device", "0x0152\n"),
        ("class", "0x030000\n"),
    ] {
        machine.write(&format!("{device}/{name}"), text);
    }
    symlink(
        Path::new("../../drivers").join(driver),
        machine.path(device).join("driver"),
    )
    .unwrap();
    machine
}

#[test]
fn a_device_that_cannot_be_taken_is_refused_and_nothing_changes() {
    let device = "sys/bus/pci/devices/0000:00:02.0";
    let machine = with_a_device("i915");
    machine
        .run()
        .refused(78, "refusing to start the guest: no IOMMU: ");
    machine.write("sys/class/iommu/dmar0/intel-iommu/cap", "0\n");
    machine.write("proc/interrupts", "0: 8 IO-APIC 2-edge timer\n");
    let ended = machine.run();
    ended.refused(
        78,
        "refusing to start the guest, for 2 reasons: (1) interrupt remapping is off",
    );
    assert!(
        ended
            .stderr
            .contains(" (2) PCI device 0000:00:02.0: the kernel leaves"),
        "{}",
        ended.stderr
    );
    machine.write("proc/interrupts", "0: 8 IR-IO-APIC 2-edge timer\n");
    symlink(
        "../../../../kernel/iommu_groups/7",
        machine.path(device).join("iommu_group"),
    )
    .unwrap();
    machine.run().refused(
        78,
        "loading the modules vfio-pci and vfio_iommu_type1: they are not there",
    );

    // A fake: this driver keeps its device, for no file of a tree does anything.
    machine.write("sys/bus/pci/drivers/vfio-pci/bind", "");
    machine.write("sys/bus/pci/drivers/i915/unbind", "");
    machine.write("sys/module/vfio_iommu_type1/refcnt", "0\n");
    machine.write("proc/sys/kernel/random/boot_id", "b\n");
    machine.write(&format!("{device}/driver_override"), "(null)\n");
    machine
        .run()
        .refused(74, "unbinding 0000:00:02.0 from i915: it is still bound");
    let left = fs::read_to_string(machine.path(device).join("driver_override")).unwrap();
    assert_eq!(left, "\n", "the kernel makes (null) of it");
    assert!(!machine.path("run/labtools/guest.journal").exists());
    machine.is_as_before();
}

#[test]
fn a_device_that_is_not_there_is_one_of_all_blockers() {
    let machine = with_a_device("i915");
    machine.write(
        "etc/labtools/models.ini",
        "[model.Test]\ndevices=00:02.0 8086:0152, 00:14.0 8086:1e31\n",
    );
    let ended = machine.run();
    ended.refused(
        78,
        "refusing to start the guest, for 2 reasons: (1) no IOMMU: ",
    );
    assert!(
        ended
            .stderr
            .contains(" (2) PCI device 0000:00:14.0: models.ini lists 8086:1e31 here"),
        "{}",
        ended.stderr
    );
    machine.is_as_before();
}

#[test]
fn memory_must_be_there() {
    let machine = Machine::any();
    for (meminfo, status, message) in [
        (
            "MemTotal: 1114112 kB\nMemAvailable: 65535 kB\n",
            75,
            "finding memory for the guest: it needs 64M, and 63M are available; end other programs",
        ),
        (
            "MemTotal: 1114111 kB\n",
            78,
            "refusing to start the guest: the guest of [profile.linux] gets 64M and the host keeps 1024M, but this machine has 1087M; add memory",
        ),
    ] {
        machine.write("proc/meminfo", meminfo);
        machine.run().refused(status, message);
        machine.is_as_before();
    }
    machine.write(
        "proc/meminfo",
        "MemTotal: 1114112 kB\nMemAvailable: 65536 kB\n",
    );
    assert_eq!(machine.run().section("guest")["ended"], "shutdown");
}

#[test]
fn huge_pages_must_be_there() {
    let machine = Machine::any();
    machine.write(
        "etc/labtools/profiles.ini",
        "[profile.linux]\nmemory=64M\ncores=1\nhugepages=true\n",
    );
    machine.run().refused(
        78,
        "refusing to start the guest: the kernel has no huge pages; ",
    );

    machine.write(
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "0\n",
    );
    machine.run().refused(
        78,
        "refusing to start the guest: no hugetlbfs is mounted at /hugepages; ",
    );

    // A table that describes another machine is enough for a check, which says so.
    machine.write(
        "proc/self/mountinfo",
        "30 22 0:40 / /hugepages rw - hugetlbfs none rw\n",
    );
    machine.run().refused(
        78,
        "refusing to start the guest: no hugetlbfs is mounted at /hugepages; ",
    );
    let checked = check(&machine);
    assert_eq!(checked["blockers"], json!([]));
    assert!(
        checked["warnings"].to_string().contains("there are none"),
        "{checked}"
    );

    own_mounts();
    let mount = machine.path("hugepages");
    fs::create_dir(&mount).unwrap();
    let at = mount.to_str().unwrap();
    succeed("mount", &["-t", "hugetlbfs", "-o", "mode=700", "none", at]);
    let message = format!("QEMU's user, {QEMU_USER}, cannot write to /hugepages");
    machine
        .run()
        .refused(78, &format!("refusing to start the guest: {message}; "));
    let checked = check(&machine);
    assert_eq!(checked["blockers"][0]["kind"], "huge_pages");
    assert_eq!(checked["blockers"][0]["what"], json!(message));
    succeed("umount", &[at]);
    machine.is_as_before();
}

/// A check of the same machine.
fn check(machine: &Machine) -> Value {
    let ended = machine.start_by(machine.command("check")).end();
    ended.section("guest")
}

#[test]
fn all_that_is_wrong_is_named_at_once() {
    let mut machine = with_a_device("i915");
    machine.settings = "user=no-such-user\nbinary=/nonexistent/qemu\nhost_memory=999G\n".into();
    machine.write(
        "etc/labtools/profiles.ini",
        "[profile.linux]\ncores=1\nhugepages=true\nrdp=true\n",
    );
    machine.write("proc/meminfo", "MemTotal: 8054740 kB\n");
    machine.write("sys/class/iommu/dmar0/intel-iommu/cap", "0\n");
    let ended = machine.run();
    assert_eq!((ended.status, &*ended.stdout), (78, ""));
    let checked = check(&machine);
    let blockers = checked["blockers"].as_array().unwrap();
    let kinds: Vec<&str> = blockers
        .iter()
        .map(|blocker| blocker["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "intel_iommu_not_on",
            "memory_short",
            "huge_pages",
            "management_address",
            "qemu_user",
            "qemu_missing"
        ]
    );
    for (blocker, number) in blockers.iter().zip(1..) {
        let [what, way_out] = ["what", "way_out"].map(|key| blocker[key].as_str().unwrap());
        let text = format!("{what}; {way_out}");
        assert!(
            ended.stderr.contains(&text),
            "({number}) {text}: {}",
            ended.stderr
        );
    }
    machine.is_as_before();
}

/// What a plan says of this machine's KVM.
fn accel(machine: &Machine) -> Value {
    let guest = machine
        .start_by(machine.command("plan"))
        .end()
        .section("guest");
    assert_eq!(guest["argv"][2], guest["accel"]);
    assert_eq!(
        guest["argv"][4],
        if guest["accel"] == "kvm" {
            "host"
        } else {
            "qemu64"
        }
    );
    guest["accel"].clone()
}

#[test]
fn kvm_is_used_where_a_guest_really_starts_on_it() {
    let machine = Machine::any();
    assert_eq!(accel(&machine), "tcg", "a machine without /dev/kvm");

    // Here is what this machine says, and the judge is a whole kernel that shuts itself down.
    machine.write("dev/kvm", "");
    let image = machine.path("linux.qcow2");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/guest-image");
    succeed(script, &[&image.display().to_string()]);
    let disk = format!("if=none,id=disk,format=qcow2,file={}", image.display());
    let judge = Command::new("timeout")
        .args(["30", QEMU, "-accel", "kvm", "-cpu", "host", "-m", "256M"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
        .args(["-drive", &disk])
        .args([
            "-device",
            "virtio-scsi-pci",
            "-device",
            "scsi-hd,drive=disk",
        ])
        .output()
        .unwrap();
    let starts = String::from_utf8_lossy(&judge.stdout).contains("GUEST shutdown");
    assert_eq!(accel(&machine), if starts { "kvm" } else { "tcg" });
}

#[test]
fn kvm_is_believed_for_its_proof_alone() {
    // Fakes, for what a given machine's KVM does or does not do.
    for (script, accel_name) in [
        ("exit 85", "kvm"),
        ("exit 0", "tcg"),
        ("exit 1", "tcg"),
        ("exec sleep 600", "tcg"),
        (
            "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 600",
            "tcg",
        ),
    ] {
        let mut machine = Machine::any();
        machine.write("dev/kvm", "");
        machine.fake_qemu(script);
        assert_eq!(accel(&machine), accel_name, "{script}");
    }
}
