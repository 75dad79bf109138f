//! What the host does with a device: disks, swap, routes, open nodes.

use blockers::Kind;

use crate::machine::{AUDIO, GRAPHICS, Machine, USB};

/// A stick with one partition behind the USB controller.
fn with_stick() -> Machine {
    let machine = Machine::new();
    machine.entry(USB, "block", "sdb", &[("dev", "8:16\n")]);
    machine.entry(USB, "block", "sdb1", &[("dev", "8:17\n")]);
    assert_eq!(machine.kinds(), [], "a stick that nobody uses");
    machine
}

#[test]
fn a_mount_below_a_device_is_a_blocker() {
    let machine = with_stick();
    machine.file(
        "/proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 8:17 / /media/a\\040b\\012\\033[2J rw - vfat /dev/sdb1 rw\n",
    );
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::Mounted);
    assert_eq!(found.device.unwrap().to_string(), USB);
    assert_eq!(
        found.mount.as_deref(),
        Some("/media/a b\u{fffd}\u{fffd}[2J")
    );
    assert!(
        found.what.ends_with("is mounted from its disk /dev/sdb1"),
        "{found:?}"
    );
    assert!(!found.to_string().contains(jsonpipe::is_hidden), "{found}");
}

#[test]
fn a_mount_with_a_number_of_its_own_is_found_by_its_source() {
    let machine = with_stick();
    machine.file(
        "/proc/self/mountinfo",
        "40 22 0:55 /sub /data rw - btrfs /dev/sdb1 rw\n",
    );
    assert_eq!(machine.blocker().mount.as_deref(), Some("/data"));
}

#[test]
fn swap_below_a_device_is_a_blocker() {
    let machine = with_stick();
    let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
    machine.file(
        "/proc/swaps",
        &format!("{head}/dev/sda2   partition\t1048572\t0\t-2\n"),
    );
    assert_eq!(machine.kinds(), []);
    machine.file(
        "/proc/swaps",
        &format!("{head}/dev/sdb1   partition\t1048572\t0\t-2\n"),
    );
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::Swap);
    assert_eq!(found.device.unwrap().to_string(), USB);
    assert!(
        found
            .way_out
            .starts_with("switch it off (swapoff /dev/sdb1)"),
        "{found:?}"
    );
}

#[test]
fn volumes_on_a_disk_below_a_device_are_blockers_with_what_is_on_them() {
    let machine = with_stick();
    // A volume group on a RAID on the partition.
    machine.link("../../../../md0", "/sys/class/block/sdb1/holders/md0");
    machine.file("/sys/devices/virtual/block/md0/dev", "9:0\n");
    machine.link("../../devices/virtual/block/md0", "/sys/class/block/md0");
    machine.link("../../dm-0", "/sys/devices/virtual/block/md0/holders/dm-0");
    machine.file("/sys/devices/virtual/block/dm-0/dev", "253:0\n");
    machine.file("/sys/devices/virtual/block/dm-0/dm/name", "vg-home\n");
    machine.link("../../devices/virtual/block/dm-0", "/sys/class/block/dm-0");
    machine.file(
        "/proc/self/mountinfo",
        "40 22 253:0 / /home rw - ext4 /dev/mapper/vg-home rw\n",
    );
    assert_eq!(
        machine.kinds(),
        [Kind::Mounted, Kind::Stacked, Kind::Stacked]
    );
    let found = machine.find();
    assert_eq!(found.blockers[0].mount.as_deref(), Some("/home"));
    assert_eq!(
        found.blockers[1].what,
        "/dev/mapper/vg-home of the host is on its disk /dev/sdb1"
    );
    assert_eq!(
        found.blockers[2].what,
        "/dev/md0 of the host is on its disk /dev/sdb1"
    );
}

#[test]
fn stacked_devices_in_a_ring_come_to_an_end() {
    let machine = with_stick();
    machine.link("../../sdb1", "/sys/class/block/sdb1/holders/sdb1");
    machine.link("../../sdb", "/sys/class/block/sdb1/holders/sdb");
    assert_eq!(machine.kinds(), [Kind::Stacked]);
}

#[test]
fn the_default_route_through_a_device_is_a_blocker() {
    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    let machine = Machine::new();
    // A network adapter on the USB controller.
    machine.entry(USB, "net", "enx0", &[]);
    let other = "eno1\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    let local = "enx0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    let refused = "enx0\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n";
    machine.file("/proc/net/route", &format!("{HEAD}{other}{local}{refused}"));
    assert_eq!(machine.kinds(), []);

    let gateway = u32::from_ne_bytes([10, 0, 2, 2]);
    machine.file(
        "/proc/net/route",
        &format!("{HEAD}enx0\t00000000\t{gateway:08X}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"),
    );
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::DefaultRoute);
    assert_eq!(
        found.route.as_deref(),
        Some("default via 10.0.2.2 dev enx0")
    );
    assert_eq!(found.device.unwrap().to_string(), USB);
}

#[test]
fn the_default_route_over_ipv6_and_a_bridge_is_a_blocker() {
    let machine = Machine::new();
    machine.entry(USB, "net", "enx0", &[]);
    machine.link("../br0", "/sys/class/net/enx0/upper_br0");
    machine.file("/sys/devices/virtual/net/br0/type", "1\n");
    machine.link("../../devices/virtual/net/br0", "/sys/class/net/br0");
    let zero = "0".repeat(32);
    machine.file(
        "/proc/net/ipv6_route",
        &format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 br0\n"
        ),
    );
    let found = machine.blocker();
    assert_eq!(found.kind, Kind::DefaultRoute);
    assert_eq!(found.route.as_deref(), Some("default via fe80::1 dev br0"));
}

#[test]
fn a_root_over_the_network_is_a_blocker() {
    let machine = Machine::new();
    machine.entry(USB, "net", "enx0", &[]);
    machine.file(
        "/proc/self/mountinfo",
        "22 1 0:20 / / rw - nfs4 server:/export/root rw\n",
    );
    let found = machine.blocker();
    assert_eq!(
        (found.kind, found.mount.as_deref()),
        (Kind::NetworkRoot, Some("/"))
    );
    assert!(found.what.contains("server:/export/root"), "{found:?}");

    // iSCSI, below a volume.
    machine.file(
        "/proc/self/mountinfo",
        "22 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw\n",
    );
    assert_eq!(machine.kinds(), []);
    machine.link("../../devices/virtual/block/dm-1", "/sys/dev/block/253:1");
    machine.file(
        "/sys/devices/platform/host2/session1/target2:0:0/block/sdc/dev",
        "8:32\n",
    );
    machine.link(
        "../../../../platform/host2/session1/target2:0:0/block/sdc",
        "/sys/devices/virtual/block/dm-1/slaves/sdc",
    );
    assert_eq!(machine.kinds(), [Kind::NetworkRoot]);
}

#[test]
fn open_nodes_are_blockers_with_the_process() {
    for (address, class, name, node) in [
        (AUDIO, "sound", "controlC0", "snd/controlC0"),
        (GRAPHICS, "drm", "card0", "dri/card0"),
        (GRAPHICS, "graphics", "fb0", "fb0"),
        (USB, "video4linux", "video0", "video0"),
    ] {
        let machine = Machine::new();
        machine.node(address, class, name, node, "1:5\n");
        // /dev/null is 1:3, /dev/zero 1:5.
        machine.process(4711, "pulse\u{1b}audio", "/dev/null");
        assert_eq!(machine.kinds(), [], "{class}: another node is open");
        machine.process(4712, "pulse\u{1b}audio", "/dev/zero");
        let found = machine.blocker();
        assert_eq!(
            (found.kind, found.pid),
            (Kind::NodeOpen, Some(4712)),
            "{class}"
        );
        assert_eq!(found.device.unwrap().to_string(), address);
        assert_eq!(
            found.what,
            format!("process 4712 (pulse\u{fffd}audio) has /dev/{node} open")
        );
    }
}

#[test]
fn open_nodes_of_each_device_are_named_for_one_process() {
    let machine = Machine::new();
    machine.node(AUDIO, "sound", "controlC0", "snd/controlC0", "1:5\n");
    machine.node(GRAPHICS, "drm", "card0", "dri/card0", "1:5\n");
    machine.process(4711, "Xorg", "/dev/zero");
    assert_eq!(machine.kinds(), [Kind::NodeOpen; 2]);
}

#[test]
fn open_nodes_of_a_graphical_session_are_not_to_be_freed_by_a_kill_of_systemd() {
    for (pid, program) in [(1, "systemd"), (411, "systemd-logind")] {
        let machine = Machine::new();
        machine.node(GRAPHICS, "drm", "card0", "dri/card0", "1:5\n");
        machine.process(pid, program, "/dev/zero");
        let found = machine.blocker();
        assert_eq!((found.kind, found.pid), (Kind::NodeOpen, Some(pid)));
        assert!(
            found.way_out.starts_with("end the graphical session"),
            "{found:?}"
        );
        assert!(!found.way_out.contains("kill"), "{found:?}");
    }
}

#[test]
fn open_nodes_that_keep_no_driver_do_not_count() {
    let machine = Machine::new();
    machine.node(USB, "input", "event3", "input/event3", "1:5\n");
    machine.process(4711, "systemd-logind", "/dev/zero");
    assert_eq!(machine.kinds(), []);
}

#[test]
fn open_nodes_of_this_process_do_not_count() {
    let machine = Machine::new();
    machine.node(AUDIO, "sound", "controlC0", "snd/controlC0", "1:5\n");
    machine.process(std::process::id(), "check", "/dev/zero");
    assert_eq!(machine.kinds(), []);
}

#[test]
fn a_group_that_a_process_has_open_is_a_blocker() {
    let machine = Machine::new();
    machine.process(4711, "qemu-system-x86", "/dev/vfio/3");
    let found = machine.blocker();
    assert_eq!((found.kind, found.pid), (Kind::GroupInUse, Some(4711)));
    assert_eq!(found.device.unwrap().to_string(), USB);
    assert_eq!(
        found.what,
        "process 4711 (qemu-system-x86) has /dev/vfio/3 open"
    );
}
