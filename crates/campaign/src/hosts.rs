//! `seedctl hosts`: the machines of the campus, hosts.ini.
//!
//! A subcommand, so that the scripts that wake and instruct machines need not parse INI, and read
//! the file as strictly as every tool does.

use campus::Campus;
use campus::hosts::{self, Machine};
use jsonpipe::{Answer, Common, Document, Exit};

use crate::report;
use crate::request::Hosts;

/// `seedctl hosts`: status 66 when there is no hosts.ini, or it lacks a machine; 78 when it is
/// invalid.
pub fn hosts(common: &Common, options: &Hosts) -> anyhow::Result<Answer> {
    let mut machines = hosts::read(common)?;
    for name in &options.names {
        if !machines.iter().any(|(known, _)| known == name) {
            return Err(Exit::NoInput.error(format_args!("{name}: not in hosts.ini")));
        }
    }
    let wanted =
        |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
    machines.retain(|(name, machine)| {
        wanted(&options.building, &machine.building)
            && wanted(&options.room, &machine.room)
            && (options.names.is_empty() || options.names.contains(name))
    });
    if machines.is_empty() {
        return Err(Exit::NoInput.error("choosing machines: no machine in hosts.ini matches"));
    }
    let campus = match Campus::read(common) {
        Err(error) if Exit::of(&error) == Exit::NoInput => None,
        campus => Some(campus?),
    };
    let host = |(name, machine): (String, Machine)| report::Host {
        net: campus
            .as_ref()
            .and_then(|campus| Some(campus.find(machine.address)?.name.clone())),
        campus: campus
            .as_ref()
            .and_then(|campus| Some(campus.find(machine.address)?.campus.clone())),
        ethernet: campus
            .as_ref()
            .and_then(|campus| Some(campus.ethernet(machine.address)?.to_string())),
        broadcast: campus
            .as_ref()
            .and_then(|campus| campus.broadcast(machine.address)),
        name,
        mac: machine.mac.to_ascii_lowercase(),
        address: machine.address,
        building: machine.building,
        room: machine.room,
        model: machine.model,
    };
    let mut document = Document::default();
    document.set(
        "hosts",
        &report::Hosts {
            changed: false,
            hosts: machines.into_iter().map(host).collect(),
        },
    )?;
    Ok(Answer::yes(document))
}
