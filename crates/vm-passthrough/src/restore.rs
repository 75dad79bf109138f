//! `restore`: gives back what a guest has left whose run was killed.

use handover::Returned;
use jsonpipe::{Answer, Common, Document, Exit, Pipe, lock, signals};

use crate::TOOL;
use crate::report::{HandedBack, Restored};

const HELD: &str = "a guest runs, or old volumes are being removed; try again when that has ended";

/// The subcommand. Without a journal it takes no lock and changes nothing.
pub(crate) fn run(common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    if !handover::is_taken(common)? {
        return answer(None, pipe);
    }
    let ending = signals::defer()?;
    let lock = lock::take(common, occupancy::GUEST, HELD)?;
    let returned = handover::restore(common)?;
    drop(lock);
    Ok(answer(returned, pipe)?.holding(ending))
}

/// The same before a run, which holds the lock. Status 75 when something stays as the last guest
/// had it.
pub(crate) fn before_run(common: &Common, pipe: &Pipe) -> anyhow::Result<()> {
    let Some(returned) = handover::restore(common)? else {
        return Ok(());
    };
    if returned.whole {
        pipe.warn("the last guest's run was killed; its devices were given back");
        return Ok(());
    }
    Err(Exit::TemporaryFailure.error(format_args!(
        "giving the last guest's devices back: {}",
        returned.left.join("; ")
    )))
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
