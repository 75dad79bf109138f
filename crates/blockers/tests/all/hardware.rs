//! The machine against its model.

use blockers::Kind;
use model::{Bios, Memory};

use crate::machine::{AUDIO, GRAPHICS, Machine, USB, listed, place};

#[test]
fn a_device_that_is_not_there_is_a_blocker() {
    let machine = Machine::new();
    std::fs::remove_file(machine.path(&format!("/sys/bus/pci/devices/{AUDIO}"))).unwrap();
    std::fs::remove_dir_all(machine.path(&place(AUDIO))).unwrap();
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::DeviceMissing);
    assert_eq!(found.device.unwrap().to_string(), AUDIO);
}

#[test]
fn a_device_of_another_model_is_a_blocker() {
    let machine = Machine::new();
    machine.pci(USB, "8086:8c31", "0c0330", Some("xhci_hcd"), Some(3));
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::DeviceDiffers);
    assert_eq!(found.device.unwrap().to_string(), USB);
    assert_eq!(
        found.what,
        "it is 8086:8c31, but models.ini lists 8086:1e31 here"
    );
}

#[test]
fn a_device_with_another_id_in_the_entry_is_fine() {
    let mut machine = Machine::new();
    machine.model().devices[0] = listed(GRAPHICS, "8086:0162/8086:0152");
    assert_eq!(machine.kinds(), []);
}

#[test]
fn an_extra_graphics_card_is_a_blocker() {
    let machine = Machine::new();
    machine.pci(
        "0000:01:00.0",
        "10de:128b",
        "030000",
        Some("nouveau"),
        Some(9),
    );
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::ExtraGraphics);
    assert_eq!(found.device.unwrap().to_string(), "0000:01:00.0");
    assert!(found.what.contains("10de:128b"), "{found:?}");
}

#[test]
fn less_memory_than_from_the_factory_is_a_blocker_with_the_number() {
    let mut machine = Machine::new();
    machine.model().memory_installed = Some(memory("8G"));
    assert_eq!(machine.kinds(), []);
    machine.memory_bytes = 2 << 30;
    machine.file("/proc/meminfo", "MemTotal:        3891200 kB\n");
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::MemoryInstalled);
    assert_eq!(
        found.what,
        "the kernel has 3800M of memory, but the model has 8192M from the factory"
    );
}

#[test]
fn a_bios_older_than_the_tested_one_is_a_blocker() {
    let mut machine = Machine::new();
    machine.model().bios = Some(Bios::try_from("A16".to_owned()).unwrap());
    machine.file("/sys/class/dmi/id/bios_version", "A16\n");
    assert_eq!(machine.kinds(), []);
    machine.file("/sys/class/dmi/id/bios_version", "A07\n");
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::BiosOld);
    assert!(
        found.what.contains("the BIOS is A07, older than A16"),
        "{found:?}"
    );
    assert_eq!(found.way_out, "update the BIOS to A16 or a newer one");

    machine.file("/sys/class/dmi/id/bios_version", "rel-1.16\n");
    assert_eq!(machine.kinds(), []);
    assert_eq!(machine.warnings(), [Kind::BiosUnknown, Kind::KvmMissing]);
}

#[test]
fn another_processor_and_unknown_properties_are_warnings() {
    let mut machine = Machine::new();
    machine.model().processor = Some("i7-3770".into());
    machine.model().bios = Some(Bios::try_from("A16".to_owned()).unwrap());
    machine.file(
        "/proc/cpuinfo",
        "model name\t: Intel(R) Core(TM) i5-3470 CPU @ 3.20GHz\n",
    );
    assert_eq!(machine.kinds(), []);
    assert_eq!(
        machine.warnings(),
        [Kind::ProcessorDiffers, Kind::KvmMissing, Kind::NotLookedAt]
    );
}

fn memory(text: &str) -> Memory {
    Memory::try_from(text.to_owned()).unwrap()
}
