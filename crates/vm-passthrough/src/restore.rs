//! `restore`: gives back what a guest has left whose run was killed.

use handover::Returned;
use jsonpipe::{Answer, Common, Document, Exit, Pipe, lock, signals};

use crate::report::{HandedBack, Restored};
use crate::{TOOL, firewall};

const HELD: &str = "a guest runs, or old volumes are being removed; try again when that has ended";

/// The subcommand. Where no run has left anything it takes no lock and changes nothing.
pub(crate) fn run(common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    if !handover::is_taken(common)? && !firewall::is_left()? {
        return answer(None, pipe);
    }
    let ending = signals::defer()?;
    let lock = lock::take(common, occupancy::GUEST, HELD)?;
    let alone = firewall::alone()?;
    let returned = give_back(common)?;
    drop(alone);
    drop(lock);
    Ok(answer(returned, pipe)?.holding(ending))
}

/// The same before a run, which holds the lock. Status 75 when something stays as the last guest
/// had it.
pub(crate) fn before_run(common: &Common, pipe: &Pipe) -> anyhow::Result<()> {
    let Some(returned) = give_back(common)? else {
        return Ok(());
    };
    if returned.whole {
        pipe.warn("the last guest's run was killed; everything was given back");
        return Ok(());
    }
    Err(Exit::TemporaryFailure.error(format_args!(
        "giving the last guest's devices back: {}",
        returned.left.join("; ")
    )))
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
