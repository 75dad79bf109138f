//! The bases on this machine and the programs in them, from bases.ini and their manifests.

use jsonpipe::{Exit, ini};
use serde::Deserialize;

use crate::read::machine::Machine;
use crate::report::{Base, Program};
use crate::request::OfferedBase;

const BASES: &str = "/qcow2/backing/bases.ini";

/// What is read of a manifest. It was verified when the base was installed, and lies where only root can write.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    programs: Vec<Program>,
}

/// Where they lie.
pub const DIRECTORY: &str = "/qcow2/backing";

/// By name.
pub fn read(machine: &Machine) -> Vec<Base> {
    let offered = match ini::read_table::<OfferedBase>(&machine.path(BASES), "base") {
        Ok(offered) => offered,
        Err(error) if Exit::of(&error) == Exit::NoInput => return Vec::new(), // no guests here
        Err(error) => {
            machine.missing("bases", format_args!("{error:#}"));
            return Vec::new();
        }
    };
    let base = |(name, offered): (String, OfferedBase)| {
        let path = format!("/qcow2/backing/{name}/{}.manifest", offered.generation);
        let manifest = machine.bytes(&path).and_then(|json| Ok(serde_json::from_slice::<Manifest>(&json)?));
        let programs = match manifest {
            Ok(manifest) => manifest.programs,
            Err(error) => {
                machine.unreadable(format!("bases[{name}].programs"), &path, &error);
                Vec::new()
            }
        };
        Base { title: offered.name, generation: offered.generation, programs, name }
    };
    let mut bases: Vec<Base> = offered.into_iter().map(base).collect();
    bases.sort_by(|a, b| a.name.cmp(&b.name));
    bases
}
