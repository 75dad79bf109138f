//! The bases on this machine and the programs in them, from bases.ini and their manifests.

use images::Ending;
use images::bases::{self, Entry};
use serde::Deserialize;

use crate::read::machine::Machine;
use crate::report::{Base, Program};

/// The keys of a manifest that are read. It was verified when the base was installed, and only root
/// can write to it.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    programs: Vec<Program>,
}

/// By name.
pub fn read(machine: &Machine) -> Vec<Base> {
    // Without the file this machine has no guests.
    let offered = bases::read_if_there(machine.common).unwrap_or_else(|error| {
        machine.missing("bases", format_args!("{error:#}"));
        Vec::new()
    });
    let base = |Entry {
                    name,
                    title,
                    generation,
                    ..
                }: Entry| {
        let path = images::path(&name, generation, Ending::Manifest);
        let manifest = machine
            .bytes(&path)
            .and_then(|json| Ok(serde_json::from_slice::<Manifest>(&json)?));
        let programs = match manifest {
            Ok(manifest) => manifest.programs,
            Err(error) => {
                machine.unreadable(format!("bases[{name}].programs"), &path, &error);
                Vec::new()
            }
        };
        Base {
            title,
            generation,
            programs,
            name,
        }
    };
    offered.into_iter().map(base).collect()
}
