//! The machines of testdata, whose PCI devices were recorded, against the shipped models.ini.

use std::fs;
use std::path::{Path, PathBuf};

use jsonpipe::Common;
use model::{Amount, Difference, Entry, Hardware, Model};
use pci::Id;

fn machine(root: PathBuf) -> Common {
    Common {
        config: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/host/etc")),
        ..jsonpipe::testkit::common(root)
    }
}

/// The directory that a recorded machine is.
fn root_of(name: &str) -> PathBuf {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vm-passthrough");
    testdata.join(name).join("machine")
}

/// A recorded machine of this model, and its entry.
fn recorded(name: &str) -> (Hardware, Model) {
    let common = machine(root_of(name));
    let name = model::of_machine(&common).unwrap();
    let entry = model::read(&common, &name).unwrap().unwrap();
    assert_eq!(model::differences(&common, &entry).unwrap(), [], "{name}");
    (Hardware::read(&common).unwrap(), entry)
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

#[test]
fn each_recorded_machine_is_as_its_entry_says() {
    for (name, devices, parked) in [
        ("optiplex-7010", 5, 0),
        ("optiplex-9020", 6, 0),
        ("optiplex-7040", 3, 3),
    ] {
        let (_, entry) = recorded(name);
        assert_eq!((entry.devices.len(), entry.parked.len()), (devices, parked));
    }
}

#[test]
fn each_entry_leaves_storage_network_and_bridges_to_the_host() {
    for name in ["optiplex-7010", "optiplex-9020", "optiplex-7040"] {
        let (hardware, entry) = recorded(name);
        for listed in entry.devices.iter().chain(&entry.parked) {
            let device = hardware
                .devices
                .iter()
                .find(|device| device.address == listed.address)
                .unwrap();
            assert!(
                !matches!(device.class >> 16, 0x01 | 0x02 | 0x06),
                "{name}: {}",
                listed.address
            );
        }
    }
}

#[test]
fn a_device_that_is_missing_or_another_is_named() {
    let (mut hardware, entry) = recorded("optiplex-7040");
    let position = |hardware: &Hardware, address: &str| {
        let address = address.parse().unwrap();
        hardware
            .devices
            .iter()
            .position(|device| device.address == address)
            .unwrap()
    };
    // A member of a group that may be parked, and that the firmware can switch off.
    hardware.devices.remove(position(&hardware, "00:14.2"));
    assert_eq!(hardware.differences(&entry), []);

    hardware.devices.remove(position(&hardware, "00:1f.3"));
    let at = position(&hardware, "00:14.0");
    hardware.devices[at].id = id("8086:1e31");
    let at = position(&hardware, "00:1f.4");
    hardware.devices[at].id = id("8086:15b7");
    assert_eq!(
        hardware.differences(&entry),
        [
            Difference::OtherDevice {
                listed: entry.devices[1].clone(),
                found: id("8086:1e31"),
            },
            Difference::NoDevice {
                listed: entry.devices[2].clone(),
            },
            Difference::OtherDevice {
                listed: entry.parked[2].clone(),
                found: id("8086:15b7"),
            },
        ]
    );
}

/// As an OptiPlex 7010 with a Radeon was recorded: its firmware switches the integrated one off.
#[test]
fn an_extra_graphics_card_is_named() {
    let (mut hardware, mut entry) = recorded("optiplex-7010");
    let graphics = hardware
        .devices
        .iter_mut()
        .find(|device| device.is_display())
        .unwrap();
    graphics.address = "01:00.0".parse().unwrap();
    graphics.id = id("1002:6779");
    assert_eq!(
        hardware.differences(&entry),
        [
            Difference::NoDevice {
                listed: entry.devices[0].clone(),
            },
            Difference::ExtraGraphics {
                address: "01:00.0".parse().unwrap(),
                id: id("1002:6779"),
            },
        ]
    );
    entry.devices.clear();
    assert_eq!(hardware.differences(&entry), [], "guests get nothing");
}

#[test]
fn a_module_that_is_missing_is_found_and_what_the_kernel_keeps_is_not() {
    let (mut hardware, entry) = recorded("optiplex-9020");
    const GIB: u64 = 1 << 30;
    let factory = entry.memory_installed.unwrap();
    assert_eq!(factory.bytes(), 8 * GIB);
    for (amount, is_less) in [
        (Amount::Modules(8 * GIB), false),
        (Amount::Modules(16 * GIB), false),
        (Amount::Modules(8 * GIB - 1), true),
        (Amount::Modules(4 * GIB), true),
        // With 512 MiB for the graphics, and without.
        (Amount::Usable(7534 << 20), false),
        (Amount::Usable(7857 << 20), false),
        // 4 + 2, and 4.
        (Amount::Usable(5820 << 20), true),
        (Amount::Usable(3857 << 20), true),
        (Amount::Usable(u64::MAX), false),
    ] {
        hardware.memory = Ok(amount);
        let expected = is_less.then_some(Difference::LessMemory {
            found: amount,
            factory,
        });
        let expected: Vec<Difference> = expected.into_iter().collect();
        assert_eq!(hardware.differences(&entry), expected, "{amount:?}");
    }
}

#[test]
fn an_older_bios_and_one_of_another_scheme_are_told_apart() {
    let (mut hardware, entry) = recorded("optiplex-7010");
    let tested = entry.bios.clone().unwrap();
    let mut differences = |version: &str| {
        hardware.bios = Ok(version.to_owned().try_into().unwrap());
        (hardware.bios.clone().unwrap(), hardware.differences(&entry))
    };
    let (found, older) = differences("A07");
    let tested = || tested.clone();
    assert_eq!(
        older,
        [Difference::OlderBios {
            found,
            tested: tested(),
        }]
    );
    for newer in ["A16", "A29"] {
        assert_eq!(differences(newer).1, []);
    }
    let (found, other) = differences("1.14.0");
    assert_eq!(
        other,
        [Difference::OtherBios {
            found,
            tested: tested(),
        }]
    );
}

#[test]
fn a_processor_is_known_by_whole_words() {
    let (mut hardware, mut entry) = recorded("optiplex-7010");
    for (found, listed, is_other) in [
        ("Intel(R) Core(TM) i7-3770 CPU @ 3.40GHz", "i7-3770", false),
        ("Intel(R) Core(TM) i7-3770S CPU @ 3.10GHz", "i7-3770", true),
        ("AMD Ryzen 5 3600 6-Core Processor", "Ryzen 5 3600", false),
        ("AMD Ryzen 5 3600X 6-Core Processor", "Ryzen 5 3600", true),
        ("", "i7-3770", true),
    ] {
        hardware.processor = Ok(found.into());
        entry.processor = Some(listed.into());
        let expected = is_other.then_some(Difference::OtherProcessor {
            found: found.into(),
            listed: listed.into(),
        });
        let expected: Vec<Difference> = expected.into_iter().collect();
        assert_eq!(hardware.differences(&entry), expected, "{found}");
    }
}

/// A machine that tells nothing, or nonsense, has its reasons.
#[test]
fn what_a_machine_does_not_tell_is_unknown_and_no_guess() {
    let root = tempfile::tempdir().unwrap();
    let common = machine(root.path().to_owned());
    let entry = Model {
        devices: Vec::new(),
        ..model::read(&common, "OptiPlex 7010").unwrap().unwrap()
    };
    let reasons = || -> Vec<(&str, String)> {
        let differences = model::differences(&common, &entry).unwrap();
        differences
            .into_iter()
            .map(|difference| match difference {
                Difference::Unknown { key, reason } => (key, reason),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(
        reasons(),
        [
            (
                "memory_installed",
                "/proc/meminfo: No such file or directory (os error 2)".into()
            ),
            ("bios", "the firmware names no version of its BIOS".into()),
            (
                "processor",
                "/proc/cpuinfo: No such file or directory (os error 2)".into()
            ),
        ]
    );
    for directory in ["proc", "sys/class/dmi/id"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    for (path, bytes) in [
        ("proc/meminfo", &b"MemTotal: 99999999999999999999 kB\n"[..]),
        ("proc/cpuinfo", b"model name\t: i7-3770\x1b[2J\n"),
        ("sys/class/dmi/id/bios_version", b"A16\xff\n"),
    ] {
        fs::write(root.path().join(path), bytes).unwrap();
    }
    assert_eq!(
        reasons(),
        [
            (
                "memory_installed",
                "/proc/meminfo: MemTotal: no number".into()
            ),
            ("bios", "the firmware's BIOS version is no text".into()),
            ("processor", "/proc/cpuinfo: model name: no text".into()),
        ]
    );
}

/// An entry that is probed on a recorded machine has the devices of the shipped one.
#[test]
fn a_probed_entry_agrees_with_the_shipped_one() {
    for name in ["optiplex-7010", "optiplex-9020", "optiplex-7040"] {
        let common = machine(root_of(name));
        let entry = Entry::of_machine(&common).unwrap();
        assert_eq!(
            Hardware::read(&common).unwrap().differences(&entry.model),
            []
        );
        let shipped = model::read(&common, &entry.name).unwrap().unwrap();
        for (probed, shipped) in [
            (&entry.model.devices, &shipped.devices),
            (&entry.model.parked, &shipped.parked),
        ] {
            let mut shipped = shipped.clone();
            shipped.sort_by_key(|listed| listed.address);
            assert_eq!(probed.len(), shipped.len(), "{name}");
            for (probed, shipped) in probed.iter().zip(&shipped) {
                assert_eq!(probed.address, shipped.address, "{name}");
                assert!(shipped.ids.contains(&probed.ids[0]), "{name}");
            }
        }
        assert_eq!(entry.model.memory_installed, shipped.memory_installed);
        assert_eq!(entry.model.processor, shipped.processor);
        assert_eq!(entry.model.bios, shipped.bios);
        assert!(entry.missing.is_empty());
    }
}
