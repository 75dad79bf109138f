//! `restore`: gives back what a guest has left whose run was killed.

use handover::Returned;
use jsonpipe::{Answer, Common, Document, Pipe, lock, signals};
use pci::PciAddress;

use crate::report::{HandedBack, Restored};
use crate::{TOOL, firewall, left};

/// The way out, for messages.
pub(crate) const COMMAND: &str = "vm-passthrough restore";

const HELD: &str = "a guest runs, or old volumes are being removed; try again when that has ended";

/// The subcommand, which also releases the `named` devices from vfio-pci. Where no run has left
/// anything, and none is named, it takes no lock and changes nothing.
pub(crate) fn run(common: &Common, named: &[PciAddress], pipe: &Pipe) -> anyhow::Result<Answer> {
    if named.is_empty() && !handover::is_taken(common)? && !firewall::is_left()? {
        name_strays(common, pipe);
        return answer(None, pipe);
    }
    let ending = signals::defer()?;
    let lock = lock::take(common, occupancy::GUEST, HELD)?;
    let alone = firewall::alone()?;
    let returned = release(common, named, give_back(common)?);
    if !handover::is_taken(common)? {
        name_strays(common, pipe);
    }
    drop(alone);
    drop(lock);
    Ok(answer(returned, pipe)?.holding(ending))
}

/// The same before a run, which holds the lock. It warns of parts that stay as the last guest had
/// them; the hand-over refuses a guest that needs one of these and cannot have it.
pub(crate) fn before_run(common: &Common, pipe: &Pipe) -> anyhow::Result<()> {
    let Some(returned) = give_back(common)? else {
        return Ok(());
    };
    if returned.whole {
        pipe.warn("the last guest's run was killed; everything was given back");
    }
    for left in &returned.left {
        pipe.warn(format_args!("left by the last guest's run: {left}"));
    }
    Ok(())
}

/// Releases the devices that a person has named, after the journal was followed.
fn release(
    common: &Common,
    named: &[PciAddress],
    mut returned: Option<Returned>,
) -> Option<Returned> {
    for device in named {
        match handover::release(common, *device) {
            Ok(None) => {}
            Ok(Some(device)) => returned.get_or_insert_default().devices.push(device),
            Err(error) => {
                let returned = returned.get_or_insert_default();
                returned.whole = false;
                returned.left.push(format!("{error:#}"));
            }
        }
    }
    returned
}

/// Warns of devices that vfio-pci has for no known reason. A configuration that cannot be read must
/// not keep a machine from getting its devices back: then none is listed.
fn name_strays(common: &Common, pipe: &Pipe) {
    let name = model::of_machine(common).ok();
    let model = name.and_then(|name| model::read(common, &name).ok().flatten());
    for device in handover::strays(common, &left::listed(model.as_ref())) {
        pipe.warn(left::stray(device));
    }
}

/// Removes the firewall rule, and gives back what the journal names; `None` when there was neither.
fn give_back(common: &Common) -> anyhow::Result<Option<Returned>> {
    let rule = firewall::remove_left();
    let mut returned = handover::restore(common)?;
    match rule {
        Ok(false) => {}
        Ok(true) => {
            returned.get_or_insert_default();
        }
        Err(error) => {
            let returned = returned.get_or_insert_default();
            returned.whole = false;
            returned.left.push(format!("{error:#}"));
        }
    }
    Ok(returned)
}

fn answer(returned: Option<Returned>, pipe: &Pipe) -> anyhow::Result<Answer> {
    let changed = returned.is_some();
    let returned = returned.unwrap_or_default();
    for left in &returned.left {
        pipe.warn(left);
    }
    let whole = returned.whole;
    let mut document = Document::default();
    document.set(
        TOOL.section,
        &Restored {
            changed,
            handed_back: HandedBack::new(None, returned),
        },
    )?;
    Ok(if whole {
        Answer::yes(document).staying(changed)
    } else {
        Answer::no(document).staying(changed)
    })
}
