//! This machine as the text of the thesis's script.

use std::fs;

use envelope::text::{self, Files, Memory, Text};
use jsonpipe::Common;

use crate::report::{Filesystem, Host, Interface, Route};

/// The text.
pub fn of(common: &Common, host: &Host) -> String {
    let files = Files {
        meminfo: fs::read_to_string(common.path("/proc/meminfo")).ok(),
        net_dev: of_interfaces(common, "/proc/net/dev", &host.interfaces),
        net_wireless: of_interfaces(common, "/proc/net/wireless", &host.interfaces),
    };
    let attributes = &host.firmware.attributes;
    let text = Text {
        settings: attributes
            .iter()
            .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
            .collect(),
        serial: host.system.serial.clone(),
        opened: host.chassis.opened,
        memory: Memory::default(), // the files have it
        filesystems: host.filesystems.iter().filter_map(filesystem).collect(),
        interfaces: host.interfaces.iter().map(interface).collect(),
        routes: host.routes.iter().map(route).collect(),
    };
    text::write(&text, &files)
}

/// A file with a line for each interface, without removable ones, whose names contain their
/// addresses.
fn of_interfaces(common: &Common, path: &str, interfaces: &[Interface]) -> Option<String> {
    let is_told =
        |name: &str| name == "lo" || interfaces.iter().any(|interface| interface.name == name);
    let lines = fs::read_to_string(common.path(path)).ok()?;
    let is_told = |line: &&str| {
        line.split_once(": ")
            .is_none_or(|(name, _)| is_told(name.trim()))
    };
    Some(lines.split_inclusive('\n').filter(is_told).collect())
}

fn filesystem(filesystem: &Filesystem) -> Option<text::Filesystem> {
    Some(text::Filesystem {
        source: filesystem.source.clone(),
        path: filesystem.path.clone(),
        total_bytes: filesystem.total_bytes?,
        used_bytes: filesystem.used_bytes?,
        available_bytes: filesystem.available_bytes?,
    })
}

fn interface(interface: &Interface) -> text::Interface {
    text::Interface {
        name: interface.name.clone(),
        hardware: interface.hardware,
        wireless: interface.wireless,
        carrier: interface.carrier,
        mac: interface.mac.clone(),
        addresses: interface.addresses.clone(),
        speed_bits_per_second: interface.speed_bits_per_second,
        best_speed_bits_per_second: interface.best_speed_bits_per_second,
        duplex: interface.duplex.clone(),
        received_bytes: interface.received_bytes,
        sent_bytes: interface.sent_bytes,
    }
}

fn route(route: &Route) -> text::Route {
    text::Route {
        destination: route.destination.clone(),
        gateway: route.gateway.clone(),
        interface: route.interface.clone(),
        metric: route.metric,
    }
}
