//! Leaves out the parts of a machine's network that would identify its user.
//!
//! A USB adapter is often a user's telephone: its Ethernet address, which generated interface names
//! contain (`enx001122334455`), its addresses and its gateway identify the user. The network of a
//! telephone often carries its owner's name.

use campus::Campus;

use crate::read::machine::Machine;
use crate::read::place;
use crate::report::{Interface, Route};

/// Removable interfaces are renamed by their order, and keep their operational data. Of their
/// routes only the default one stays, because a technician must know that traffic leaves there.
/// Wireless networks keep their name if they belong to the campus: campus.ini contains their
/// address.
pub fn keep(
    machine: &Machine,
    campus: Option<&Campus>,
    interfaces: &mut [Interface],
    routes: &mut Vec<Route>,
) {
    let mut removable = 0;
    for interface in interfaces.iter_mut() {
        let is_ours = campus.is_some_and(|campus| place::nets(campus, interface).next().is_some());
        if interface.removable {
            hide(interface, format!("removable{removable}"), routes);
            removable += 1;
        }
        if let Some(station) = interface.station.as_mut().filter(|_| !is_ours) {
            (station.ssid, station.bssid) = (None, None);
            let reason = "no address of campus.ini: the network may be private";
            machine.missing(
                format!("interfaces[{}].station.ssid", interface.name),
                reason,
            );
        }
    }
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
}

fn hide(interface: &mut Interface, name: String, routes: &mut Vec<Route>) {
    routes.retain(|route| route.interface != interface.name || route.is_default());
    for route in routes
        .iter_mut()
        .filter(|route| route.interface == interface.name)
    {
        (route.interface, route.gateway) = (name.clone(), None);
    }
    interface.name = name;
    (interface.mac, interface.permanent_mac, interface.addresses) = (None, None, Vec::new());
}
