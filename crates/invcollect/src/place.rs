//! Where the machine stands, by its addresses and the map of the campus.

use campus::{Campus, Role};
use jsonpipe::Exit;

use crate::machine::Machine;
use crate::report::{Interface, Place};

/// The network of the first wired address that the map knows, else of a wireless one: which room that is, nobody knows so well.
pub fn find(machine: &Machine, interfaces: &[Interface]) -> Option<Place> {
    let campus = match Campus::read(machine.common) {
        Ok(campus) => campus,
        Err(error) => {
            let no_map = Exit::of(&error) == Exit::NoInput;
            machine.missing("place", if no_map { "no campus.ini".into() } else { format!("{error:#}") });
            return None;
        }
    };
    let mut nets = Vec::new();
    for interface in interfaces {
        for address in &interface.addresses {
            let address = address.split('/').next().and_then(|address| address.parse().ok());
            nets.extend(
                address
                    .and_then(|address| campus.find(address))
                    .map(|net| (interface.wireless || net.role == Role::Wireless, net)),
            );
        }
    }
    nets.sort_by_key(|(wireless, _)| *wireless); // stable: the first stays the first
    let Some((_, net)) = nets.first() else {
        machine.missing("place", "campus.ini has no network with an address of this machine");
        return None;
    };
    let [net, campus, building, room] = [&net.name, &net.campus, &net.building, &net.room].map(|text| text.to_owned());
    Some(Place { net, campus, building, room })
}
