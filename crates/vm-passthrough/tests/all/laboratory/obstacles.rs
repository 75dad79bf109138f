//! The obstacles of a machine and its configuration: a run names all of them, as a check does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::QEMU_USER;
use super::machine::{Machine, own_mounts, succeed};

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
