//! QEMU's command line for each machine, a directory in testdata.

use std::fs;

use jsonpipe::{Common, Document};
use vm_passthrough::accel::Accel;
use vm_passthrough::machine::{MacSource, Machine};
use vm_passthrough::memory;
use vm_passthrough::profile::{Configuration, Profile};
use vm_passthrough::qemu::{Qemu, Version};
use vm_passthrough::request::Volume;
use vm_passthrough::segment::Segment;
use vm_passthrough::virtualizer::{Descriptors, Parts, Virtualizer};

use crate::plan::testdata;

const OLD: Version = Version { major: 7, minor: 2 };
const NEW: Version = Version {
    major: 10,
    minor: 0,
};

/// The command line for `machine` and `disk`, on a KVM that works: an option and its value share a
/// line, as people write them.
fn command_line(name: &str, disk: &str, version: Version, adapt: impl Fn(&mut Profile)) -> String {
    let common = Common {
        config: Some(testdata().join("config")),
        ..jsonpipe::testkit::common(testdata().join(name).join("machine"))
    };
    let text = fs::read_to_string(testdata().join(disk).with_extension("json")).unwrap();
    let volume: Volume = Document::parse(&text, "guest")
        .unwrap()
        .require("volume")
        .unwrap();
    let model = model::of_machine(&common);
    let configuration = Configuration::read(&common, model.as_deref().ok()).unwrap();
    let mut profile = configuration.profile(&volume.ostype).unwrap().clone();
    adapt(&mut profile);
    let machine = Machine::read(&common, model, configuration.devices(), None).unwrap();
    let settings = configuration.settings;
    let memory = settings.host_memory(volume.is_device());
    let segment = Segment {
        group: "239.192.1.1:5010".parse().unwrap(),
        local: "192.0.2.7".parse().unwrap(),
    };
    let parts = Parts {
        accel: Accel::Kvm,
        machine: &machine,
        memory: memory::of_guest(&common, profile.memory, memory).unwrap(),
        segment: profile.segment.then_some(&segment),
        profile: &profile,
        settings: &settings,
        volume: &volume,
        descriptors: Descriptors::PLANNED,
    };
    let qemu = Qemu {
        binary: settings.binary.clone(),
        version: Some(version),
    };
    let mut lines = String::new();
    for word in qemu.command_line(&parts) {
        let separator = if word.starts_with('-') { "\n" } else { " " };
        lines += if lines.is_empty() { "" } else { separator };
        lines += &word;
    }
    lines + "\n"
}

/// The shipped profiles' command lines for `machine`, against `machine/DISK.expected`.
fn golden(name: &str) {
    for disk in ["qcow2", "raw", "linux", "linux-raw"] {
        let lines = command_line(name, disk, NEW, |_| ());
        let path = testdata().join(name).join(disk).with_extension("expected");
        let expected = fs::read_to_string(path).unwrap();
        assert_eq!(lines, expected, "{name} {disk}");
    }
}

#[test]
fn optiplex_7010() {
    golden("optiplex-7010");
}

#[test]
fn optiplex_9020() {
    golden("optiplex-9020");
}

/// Its audio is at 1f.3, where legacy mode puts a bridge.
#[test]
fn optiplex_7040() {
    golden("optiplex-7040");
}

#[test]
fn a_machine_with_nothing_to_hand_over() {
    golden("emulated");
}

/// The lines that `other` has instead of those of `lines`.
fn differences<'a>(lines: &'a str, other: &'a str) -> Vec<&'a str> {
    let known: Vec<&str> = lines.lines().collect();
    other.lines().filter(|line| !known.contains(line)).collect()
}

#[test]
fn an_older_qemu_differs_in_the_option_for_graphics_alone() {
    for name in ["optiplex-7010", "optiplex-9020", "optiplex-7040"] {
        let [new, old] = [NEW, OLD].map(|version| command_line(name, "qcow2", version, |_| ()));
        let graphics = "-device vfio-pci-nohotplug,host=0000:00:02.0,bus=pci.0,addr=0x02,";
        assert_eq!(
            differences(&new, &old),
            [format!("{graphics}x-igd-gms=0x2")]
        );
        assert_eq!(
            differences(&old, &new),
            [format!("{graphics}x-igd-legacy-mode=on")]
        );
    }
    let [new, old] = [NEW, OLD].map(|version| command_line("emulated", "qcow2", version, |_| ()));
    assert_eq!(new, old);
}

/// Figure 4 of the thesis, but for the differences that vm-passthrough(8) lists.
#[test]
fn figure_4_comes_out() {
    let lines = command_line("optiplex-7010", "raw", NEW, |profile| {
        profile.memory = Some("6910M".to_owned().try_into().unwrap());
        profile.rdp = true;
    });
    let mut rest = lines.as_str();
    for option in [
        "qemu-system-x86_64\n",
        "-accel kvm\n",
        "-cpu host",
        "-smp cores=8\n",
        "-machine pc\n",
        "-nodefaults\n",
        "-boot menu=off\n",
        "--mem-path /hugepages\n",
        "--mem-prealloc\n",
        "-device vfio-pci-nohotplug,host=0000:00:02.0,bus=pci.0,addr=0x02",
        "-device vfio-pci-nohotplug,host=0000:00:1d.0,bus=pci.0,addr=0x1d\n",
        "-device vfio-pci-nohotplug,host=0000:00:1a.0,bus=pci.0,addr=0x1a\n",
        "-device vfio-pci-nohotplug,host=0000:00:14.0,bus=pci.0,addr=0x14\n",
        "-device vfio-pci-nohotplug,host=0000:00:1b.0,bus=pci.0,addr=0x1b\n",
        "-device virtio-scsi-pci,id=scsi",
        "-drive if=none,id=hd_sys,",
        "-device scsi-hd,drive=hd_sys\n",
        "-netdev user,hostfwd=tcp:192.0.2.10:3389-:3389,id=net_sys\n",
        "-device virtio-net-pci,netdev=net_sys,mac=74:86:7a:fd:de:36\n",
        "-rtc base=localtime,clock=vm\n",
    ] {
        let (_, after) = rest
            .split_once(option)
            .unwrap_or_else(|| panic!("{option:?} is not in its place:\n{lines}"));
        rest = after;
    }
}

#[test]
fn the_keys_of_a_profile_change_the_network() {
    let plain = command_line("optiplex-7010", "linux", NEW, |_| ());
    let segment = command_line("optiplex-7010", "linux", NEW, |profile| {
        profile.segment = true
    });
    assert_eq!(
        differences(&plain, &segment),
        [
            "-netdev dgram,id=net_room,remote.type=inet,remote.host=239.192.1.1,remote.port=5010,local.type=inet,local.host=192.0.2.7,local.port=5010",
            "-device virtio-net-pci,netdev=net_room,host_mtu=1458,mac=76:86:7a:fd:de:36",
        ]
    );
    let derived = command_line("optiplex-7010", "linux", NEW, |profile| {
        profile.mac = MacSource::Derived;
    });
    assert_eq!(
        differences(&plain, &derived),
        ["-device virtio-net-pci,netdev=net_sys,mac=72:86:7a:fd:de:36"]
    );
}
