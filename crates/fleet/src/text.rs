//! Parses the text of the thesis's script as a report, so that all machines are in one table.

use std::collections::BTreeSet;

use envelope::text::{self, Text};

use crate::reported::{Chassis, Filesystem, Interface, Memory, Route, Snapshot, Station, System};

/// `None` when it is not such a text.
pub fn parse(text: &str) -> Option<Snapshot> {
    text::parse(text).map(snapshot)
}

fn snapshot(text: Text) -> Snapshot {
    let filesystem = |filesystem: text::Filesystem| Filesystem {
        path: filesystem.path,
        source: filesystem.source,
        kind: String::new(),
        read_only: false,
        total_bytes: Some(filesystem.total_bytes),
        used_bytes: Some(filesystem.used_bytes),
        available_bytes: Some(filesystem.available_bytes),
        hanging: false,
    };
    let interface = |interface: text::Interface| Interface {
        name: interface.name,
        hardware: interface.hardware,
        wireless: interface.wireless,
        mac: interface.mac,
        carrier: interface.carrier,
        speed_bits_per_second: interface.speed_bits_per_second,
        best_speed_bits_per_second: interface.best_speed_bits_per_second,
        addresses: interface.addresses,
        received_bytes: interface.received_bytes,
        sent_bytes: interface.sent_bytes,
        station: (interface.wireless && interface.carrier == Some(true))
            .then_some(Station { ssid: None }),
        ..Interface::default()
    };
    let route = |route: text::Route| Route {
        destination: route.destination,
        gateway: route.gateway,
    };
    let text::Memory {
        usable_bytes,
        available_bytes,
    } = text.memory;
    Snapshot {
        system: System {
            serial: text.serial,
            ..System::default()
        },
        chassis: Chassis {
            opened: text.opened,
            accepted: false,
        },
        memory: Memory {
            usable_bytes,
            available_bytes,
            ..Memory::default()
        },
        filesystems: text.filesystems.into_iter().map(filesystem).collect(),
        interfaces: text.interfaces.into_iter().map(interface).collect(),
        routes: text.routes.into_iter().map(route).collect(),
        ..Snapshot::default()
    }
}

/// The number of disks with its file systems: `/dev/sda1` and `/dev/sda2` are on one. `None` when
/// the text does not contain it.
pub fn disks(snapshot: &Snapshot) -> Option<u64> {
    let disk = |filesystem: &Filesystem| {
        let name = filesystem.source.strip_prefix("/dev/")?;
        if name.starts_with("mapper/") || name.starts_with("loop") {
            return None;
        }
        let whole = name.trim_end_matches(|c: char| c.is_ascii_digit());
        // nvme0n1p2, mmcblk0p1: a digit stands before the p.
        let whole = match whole.strip_suffix('p') {
            Some(disk) if whole != name && disk.ends_with(|c: char| c.is_ascii_digit()) => disk,
            _ if name.starts_with("nvme") || name.starts_with("mmcblk") => name,
            _ => whole,
        };
        Some(whole.to_owned())
    };
    let disks: BTreeSet<_> = snapshot.filesystems.iter().filter_map(disk).collect();
    Some(disks.len() as u64).filter(|disks| *disks > 0)
}
