//! The machine's place, from its addresses and the map of the campus.

use campus::{Campus, Net, Role};
use jsonpipe::Exit;

use crate::read::machine::Machine;
use crate::report::{Interface, Place};

/// The map of the campus.
pub fn map(machine: &Machine) -> Option<Campus> {
    let no_map = |error: anyhow::Error| {
        let is_there = Exit::of(&error) != Exit::NoInput;
        let none = || format!("no {}", machine.common.config("campus.ini").display());
        machine.missing(
            "place",
            if is_there {
                format!("{error:#}")
            } else {
                none()
            },
        );
    };
    Campus::read(machine.common).map_err(no_map).ok()
}

/// The networks of the map that contain an address of an interface.
pub fn nets<'a>(campus: &'a Campus, interface: &'a Interface) -> impl Iterator<Item = &'a Net> {
    let addresses = interface
        .addresses
        .iter()
        .filter_map(|address| address.split('/').next()?.parse().ok());
    addresses
        .filter_map(|address| campus.find(address))
        .map(AsRef::as_ref)
}

/// The network of the first known wired address, otherwise of a wireless one, whose room is less
/// certain.
pub fn find(machine: &Machine, campus: &Campus, interfaces: &[Interface]) -> Option<Place> {
    let mut nets: Vec<_> = interfaces
        .iter()
        .flat_map(|interface| {
            nets(campus, interface)
                .map(|net| (interface.wireless || net.role == Role::Wireless, net))
        })
        .collect();
    nets.sort_by_key(|(wireless, _)| *wireless); // stable: the first stays the first
    let Some((_, net)) = nets.first() else {
        machine.missing(
            "place",
            "campus.ini has no network with an address of this machine",
        );
        return None;
    };
    let [net, campus, building, room] =
        [&net.name, &net.campus, &net.building, &net.room].map(|text| text.to_owned());
    Some(Place {
        net,
        campus,
        building,
        room,
    })
}
