//! The IOMMU, interrupt remapping, the modules of VFIO, and memory.

use std::fs;

use blockers::Kind;
use nix::unistd::geteuid;

use crate::machine::{AUDIO, GRAPHICS, Machine, TOTAL_BYTES, USB};

#[test]
fn a_machine_without_a_fault_has_no_blocker() {
    let machine = Machine::new();
    assert_eq!(machine.kinds(), []);
    assert_eq!(machine.warnings(), [Kind::KvmMissing]);
}

#[test]
fn iommu_that_the_firmware_hides_is_a_blocker() {
    let machine = Machine::new();
    fs::remove_dir_all(machine.path("/sys/class/iommu")).unwrap();
    let found = machine.blocker();
    assert_eq!(
        (found.kind, found.setting.as_deref()),
        (Kind::IommuAbsent, None)
    );
    assert!(
        found.way_out.contains("VT-d (Intel) or AMD-Vi"),
        "{found:?}"
    );
}

#[test]
fn iommu_that_the_kernel_does_not_use_is_a_blocker_with_its_parameter() {
    // Linux uses AMD's unless it is told not to: it knows no amd_iommu=on.
    for (table, command_line, setting) in [
        ("DMAR", "quiet", Some("intel_iommu=on")),
        ("IVRS", "amd_iommu=off", Some("amd_iommu=off")),
        ("IVRS", "iommu=off quiet", Some("iommu=off")),
        ("IVRS", "quiet", None),
    ] {
        let machine = Machine::new();
        fs::remove_dir_all(machine.path("/sys/class/iommu")).unwrap();
        machine.file(&format!("/sys/firmware/acpi/tables/{table}"), "");
        machine.file("/proc/cmdline", &format!("{command_line}\n"));
        // Without an IOMMU there are no groups; that is one fault, not four.
        machine.pci(USB, "8086:1e31", "0c0330", Some("xhci_hcd"), None);
        let found = machine.blocker();
        assert_eq!(found.kind, Kind::IommuAbsent);
        assert_eq!(found.setting.as_deref(), setting, "{command_line}");
    }
}

#[test]
fn iommu_of_amd_is_accepted() {
    let mut machine = Machine::new();
    fs::remove_dir_all(machine.path("/sys/class/iommu")).unwrap();
    machine.file("/sys/class/iommu/ivhd0/amd-iommu/cap", "40300\n");
    machine.file("/sys/firmware/acpi/tables/IVRS", "");
    machine.file("/proc/cmdline", "quiet\n");
    machine.pci(GRAPHICS, "1002:15d8", "030000", Some("amdgpu"), Some(1));
    machine.model().devices[0] = crate::machine::listed(GRAPHICS, "1002:15d8");
    assert_eq!(machine.kinds(), []);
    machine.file(
        "/proc/interrupts",
        "   0:  35  IO-APIC    2-edge      timer\n",
    );
    assert_eq!(machine.kinds(), [Kind::InterruptRemappingOff]);
}

#[test]
fn interrupt_remapping_that_is_off_is_a_blocker() {
    let machine = Machine::new();
    machine.file(
        "/proc/interrupts",
        "   0:  35  IO-APIC    2-edge      timer\n",
    );
    let found = machine.blocker();
    assert_eq!(
        (found.kind, found.setting.as_deref()),
        (Kind::InterruptRemappingOff, None)
    );
    assert!(!found.way_out.contains("allow_unsafe"), "{found:?}");

    machine.file("/proc/cmdline", "intel_iommu=on intremap=off\n");
    let found = machine.blocker();
    assert_eq!(found.setting.as_deref(), Some("intremap=off"));
}

#[test]
fn integrated_graphics_outside_the_iommu_is_a_blocker_with_the_parameter() {
    let machine = Machine::new();
    machine.pci(GRAPHICS, "8086:0152", "030000", Some("i915"), None);
    machine.file("/proc/cmdline", "quiet\n");
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::IntelIommuNotOn);
    assert_eq!(found.setting.as_deref(), Some("intel_iommu=on"));
    assert_eq!(found.device.unwrap().to_string(), GRAPHICS);
    assert!(found.way_out.starts_with("add intel_iommu=on"), "{found:?}");

    machine.file("/proc/cmdline", "intel_iommu=igfx_off\n");
    let found = machine.blocker();
    assert!(
        found
            .way_out
            .starts_with("replace intel_iommu=igfx_off with intel_iommu=on"),
        "{found:?}"
    );
}

#[test]
fn each_missing_module_is_a_blocker() {
    let machine = Machine::new();
    // The list names it, and the file is gone.
    fs::remove_file(
        machine.path("/lib/modules/6.1.0-41-amd64/kernel/drivers/vfio/pci/vfio-pci.ko.xz"),
    )
    .unwrap();
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::VfioMissing);
    assert_eq!(found.driver.as_deref(), Some("vfio-pci"));

    // So is a module that all others need.
    fs::remove_file(machine.path("/lib/modules/6.1.0-41-amd64/kernel/drivers/vfio/vfio.ko"))
        .unwrap();
    assert_eq!(machine.kinds(), [Kind::VfioMissing; 2]);
    fs::remove_dir_all(machine.path("/lib/modules")).unwrap();
    assert_eq!(machine.kinds(), [Kind::VfioMissing; 2]);

    machine.file("/sys/module/vfio_pci/refcnt", "0\n");
    let found = machine.blocker();
    assert_eq!(found.driver.as_deref(), Some("vfio_iommu_type1"));
    machine.file(
        "/lib/modules/6.1.0-41-amd64/modules.builtin",
        "kernel/drivers/vfio/vfio_iommu_type1.ko\n",
    );
    assert_eq!(machine.kinds(), []);
}

#[test]
fn tables_that_are_not_there_are_named_as_not_looked_at() {
    let machine = Machine::new();
    for path in [
        "/proc/interrupts",
        "/proc/meminfo",
        "/proc/sys/kernel/osrelease",
    ] {
        fs::remove_file(machine.path(path)).unwrap();
    }
    assert_eq!(machine.kinds(), []);
    let warnings = machine.find().warnings;
    let whats: Vec<&str> = warnings
        .iter()
        .filter(|found| found.kind == Kind::NotLookedAt)
        .map(|found| &*found.what)
        .collect();
    assert_eq!(whats.len(), 3, "{whats:?}");
    for path in [
        "/proc/interrupts",
        "/proc/meminfo",
        "/proc/sys/kernel/osrelease",
    ] {
        assert!(whats.iter().any(|what| what.contains(path)), "{whats:?}");
    }
}

#[test]
fn memory_for_guest_and_host_must_be_there() {
    let mut machine = Machine::new();
    machine.memory_bytes = TOTAL_BYTES - machine.reserve_bytes;
    assert_eq!(machine.kinds(), [], "exactly as much");
    machine.memory_bytes += 1;
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::MemoryShort);
    assert_eq!(found.setting.as_deref(), Some("profile.windows.memory"));
    assert!(
        found
            .what
            .ends_with("gets 7097M and the host keeps 768M, but this machine has 7865M"),
        "{found:?}"
    );
    machine.memory_bytes = u64::MAX;
    assert_eq!(machine.kinds(), [Kind::MemoryShort]);
}

#[test]
fn memory_of_a_4_gb_machine_is_refused_with_the_number() {
    let machine = Machine::new();
    machine.file("/proc/meminfo", "MemTotal:        3891200 kB\n");
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::MemoryShort);
    assert!(
        found.what.ends_with("but this machine has 3800M"),
        "{found:?}"
    );
}

#[test]
fn memory_of_a_host_with_a_zfs_guest_is_at_least_2048_mib() {
    let mut machine = Machine::new();
    machine.zfs = true;
    machine.memory_bytes = TOTAL_BYTES - (2048 << 20);
    assert_eq!(machine.kinds(), [], "exactly as much");
    machine.memory_bytes += 1;
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::ZfsMemory);
    assert!(
        found
            .way_out
            .starts_with("give the guest at most 5817M, by profile.windows.memory"),
        "{found:?}"
    );
    machine.zfs = false;
    assert_eq!(machine.kinds(), []);
}

#[test]
fn huge_pages_need_the_kernel_and_a_mount() {
    let mut machine = Machine::new();
    machine.hugepages = true;
    let found = machine.blocker();
    assert_eq!((found.kind, found.mount), (Kind::HugePages, None));
    assert_eq!(found.setting.as_deref(), Some("profile.windows.hugepages"));

    machine.file(
        "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "0\n",
    );
    let found = machine.blocker();
    assert_eq!(
        (found.kind, found.mount.as_deref()),
        (Kind::HugePages, Some("/hugepages"))
    );

    machine.file(
        "/proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / /hugepages rw - hugetlbfs none rw,pagesize=2M\n",
    );
    assert_eq!(machine.kinds(), []);
    // Another file system on top of it hides it.
    machine.file(
        "/proc/self/mountinfo",
        "30 22 0:40 / /hugepages rw - hugetlbfs none rw\n31 30 0:41 / /hugepages rw - tmpfs none rw\n",
    );
    assert_eq!(machine.kinds(), [Kind::HugePages]);
}

#[test]
fn kvm_that_does_not_work_is_a_warning() {
    let mut machine = Machine::new();
    machine.kvm_fault = Some("a guest on it \u{1b}hangs");
    let found = machine.find();
    assert_eq!(found.blockers, []);
    let [warning] = &found.warnings[..] else {
        panic!("{found:?}");
    };
    assert_eq!(warning.kind, Kind::KvmMissing);
    assert!(
        warning.what.contains("a guest on it \u{fffd}hangs"),
        "{warning:?}"
    );
}

#[test]
fn kvm_that_cannot_be_asked_has_a_way_out_for_this_user() {
    let mut machine = Machine::new();
    machine.kvm_fault = None;
    machine.file("/dev/kvm", ""); // a file answers no ioctl
    let found = machine.find();
    let [warning] = &found.warnings[..] else {
        panic!("{found:?}");
    };
    assert_eq!(warning.kind, Kind::NotLookedAt);
    let as_root = warning.way_out == "run the check as root";
    assert_ne!(as_root, geteuid().is_root(), "{warning:?}");
}

#[test]
fn a_model_that_is_not_listed_is_a_warning_and_needs_no_iommu() {
    let mut machine = Machine::new();
    machine.model = None;
    fs::remove_dir_all(machine.path("/sys/class/iommu")).unwrap();
    machine.pci(AUDIO, "8086:1e20", "040300", None, None);
    assert_eq!(machine.kinds(), []);
    assert_eq!(machine.warnings(), [Kind::ModelUnknown, Kind::KvmMissing]);
    let found = machine.find();
    assert!(
        found.warnings[0].what.contains("OptiPlex 7010"),
        "{found:?}"
    );

    machine.file("/sys/class/dmi/id/product_name", "Opti\u{1b}Plex\n");
    let found = machine.find();
    assert!(
        found.warnings[0]
            .what
            .contains("the firmware's product name is no text"),
        "{found:?}"
    );
}
