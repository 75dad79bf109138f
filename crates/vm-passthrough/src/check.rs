//! `check`: everything that is against a hand-over on this machine.

use jsonpipe::{Answer, Common, Document, Pipe};

use crate::machine::Machine;
use crate::obstacles::{self, Scope};
use crate::profile::Configuration;
use crate::report::Check;
use crate::{TOOL, segment};

/// The nodes of ZFS volumes; only a machine with volumes has them.
const ZFS_VOLUMES: &str = "/dev/zvol";

/// Looks for obstacles to any guest of this machine, and changes nothing.
pub(crate) fn run(common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    let name = model::of_machine(common);
    let configuration = Configuration::read(common, name.as_deref().ok())?;
    let machine = Machine::read(common, name, configuration.devices(), None)?;
    let mut addresses = segment::own_addresses(common)?;
    addresses.retain(|address| Some(*address) != configuration.settings.management_address);
    let findings = obstacles::find(
        common,
        &Scope {
            configuration: &configuration,
            machine: &machine,
            ostype: None,
            zfs: common.path(ZFS_VOLUMES).is_dir(),
            addresses: &addresses,
        },
    )?;
    for blocker in &findings.blockers {
        pipe.warn(blocker);
    }
    for warning in &findings.warnings {
        pipe.note(warning);
    }
    let is_free = findings.blockers.is_empty();
    let mut document = Document::default();
    document.set(
        TOOL.section,
        &Check {
            changed: false,
            model: machine.model.ok(),
            findings,
        },
    )?;
    Ok(if is_free {
        Answer::yes(document)
    } else {
        Answer::no(document)
    })
}
