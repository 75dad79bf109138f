//! Groups, bridges and graphics.

use blockers::Kind;

use crate::machine::{AUDIO, GRAPHICS, Machine, USB, listed};

/// An OptiPlex 7040 whose network is in the audio's group.
fn with_siblings() -> Machine {
    let mut machine = Machine::new();
    let audio = "0000:00:1f.3";
    machine.pci(audio, "8086:a170", "040300", Some("snd_hda_intel"), Some(8));
    machine.pci("0000:00:1f.0", "8086:a146", "060100", None, Some(8));
    machine.pci(
        "0000:00:1f.4",
        "8086:a123",
        "0c0500",
        Some("i801_smbus"),
        Some(8),
    );
    machine.pci(
        "0000:00:1f.6",
        "8086:15b7",
        "020000",
        Some("e1000e"),
        Some(8),
    );
    machine.model().devices[2] = listed(audio, "8086:a170");
    machine.model().parked = vec![listed("0000:00:1f.4", "8086:a123")];
    machine
}

#[test]
fn a_sibling_that_is_not_listed_is_a_blocker() {
    let machine = with_siblings();
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::GroupSibling);
    assert_eq!(found.device.unwrap().to_string(), "0000:00:1f.6");
    assert_eq!(found.driver.as_deref(), Some("e1000e"));
    assert_eq!(
        found.what,
        "the host uses it (driver e1000e), and it is in IOMMU group 8 with 0000:00:1f.3, which the guest gets"
    );
}

#[test]
fn a_sibling_without_a_driver_or_with_vfio_is_fine() {
    let machine = with_siblings();
    for driver in [None, Some("vfio-pci"), Some("pci-stub"), Some("pcieport")] {
        machine.pci("0000:00:1f.6", "8086:15b7", "020000", driver, Some(8));
        assert_eq!(machine.kinds(), [], "{driver:?}");
    }
    machine.pci(
        "0000:00:1f.6",
        "8086:15b7",
        "020000",
        Some("vfio-other"),
        Some(8),
    );
    assert_eq!(machine.kinds(), [Kind::GroupSibling]);
}

#[test]
fn a_parked_sibling_is_a_blocker_if_it_is_storage_or_network_with_a_driver() {
    let mut machine = with_siblings();
    machine
        .model()
        .parked
        .push(listed("0000:00:1f.6", "8086:15b7"));
    for (class, driver, kinds) in [
        ("020000", Some("e1000e"), &[Kind::GroupSibling][..]),
        ("010601", Some("ahci"), &[Kind::GroupSibling]),
        ("020000", None, &[]),
        ("070002", Some("serial"), &[]),
    ] {
        machine.pci("0000:00:1f.6", "8086:15b7", class, driver, Some(8));
        assert_eq!(machine.kinds(), kinds, "{class} {driver:?}");
    }
}

#[test]
fn a_parked_sibling_with_the_default_route_is_a_blocker() {
    let mut machine = with_siblings();
    machine
        .model()
        .parked
        .push(listed("0000:00:1f.6", "8086:15b7"));
    machine.entry("0000:00:1f.6", "net", "eno1", &[]);
    machine.file(
        "/proc/net/route",
        "Iface\tDestination\tGateway\neno1\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
    );
    assert_eq!(machine.kinds(), [Kind::GroupSibling, Kind::DefaultRoute]);
}

#[test]
fn a_device_without_a_group_is_a_blocker() {
    let machine = Machine::new();
    machine.pci(USB, "8086:1e31", "0c0330", Some("xhci_hcd"), None);
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::NoGroup);
    assert_eq!(found.device.unwrap().to_string(), USB);
}

#[test]
fn a_bridge_is_a_blocker() {
    let mut machine = Machine::new();
    let bridge = "0000:00:1c.0";
    machine.pci(bridge, "8086:1e10", "060400", Some("pcieport"), Some(9));
    machine.model().devices.push(listed(bridge, "8086:1e10"));
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::Bridge);
    assert_eq!(found.device.unwrap().to_string(), bridge);
}

#[test]
fn integrated_graphics_before_sandy_bridge_is_a_blocker() {
    let mut machine = Machine::new();
    for (id, is_old) in [
        ("8086:0042", true),  // Ironlake, 2010
        ("8086:2e32", true),  // G41
        ("8086:2772", true),  // 945G
        ("8086:0102", false), // Sandy Bridge
        ("8086:0162", false),
        ("8086:1912", false),
        ("8086:9bc5", false), // one that came later
        ("1002:0042", false), // another maker's
    ] {
        machine.pci(GRAPHICS, id, "030000", Some("i915"), Some(1));
        machine.model().devices[0] = listed(GRAPHICS, id);
        let expected: &[Kind] = if is_old { &[Kind::GraphicsOld] } else { &[] };
        assert_eq!(machine.kinds(), expected, "{id}");
    }
}

#[test]
fn integrated_graphics_elsewhere_than_at_00_02_0_is_a_blocker() {
    let mut machine = Machine::new();
    for address in ["0000:00:03.0", "0000:00:02.1"] {
        machine.pci(address, "8086:0412", "038000", None, Some(2));
        machine.model().devices[0] = listed(address, "8086:0412");
        let found = machine.find();
        let [blocker] = &found
            .blockers
            .iter()
            .filter(|found| found.kind == Kind::GraphicsAddress)
            .collect::<Vec<_>>()[..]
        else {
            panic!("{found:?}");
        };
        assert_eq!(blocker.device.unwrap().to_string(), address);
    }
}

#[test]
fn hidden_characters_in_names_are_replaced() {
    let machine = with_siblings();
    machine.pci(
        "0000:00:1f.6",
        "8086:15b7",
        "020000",
        Some("e1\u{1b}[2J\n"),
        Some(8),
    );
    let found = machine.blocker();
    assert_eq!(found.driver.as_deref(), Some("e1\u{fffd}[2J\u{fffd}"));
    assert!(!found.to_string().contains(jsonpipe::is_hidden), "{found}");
}

#[test]
fn several_blockers_come_at_once_and_in_order() {
    let machine = with_siblings();
    machine.pci(AUDIO, "8086:1e20", "040300", None, None);
    machine.pci(USB, "8086:1e31", "0c0330", Some("xhci_hcd"), None);
    machine.file("/proc/interrupts", "\n");
    machine.file("/proc/meminfo", "MemTotal: 1024 kB\n");
    let expected = [
        Kind::InterruptRemappingOff,
        Kind::NoGroup,
        Kind::GroupSibling,
        Kind::MemoryShort,
    ];
    assert_eq!(machine.kinds(), expected);
    assert_eq!(machine.find(), machine.find());
}
