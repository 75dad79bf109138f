//! `cowvol layout`: makes the datasets for bases and volumes, and checks what is there.

use images::POOL_LOCK;
use images::bases;
use jsonpipe::{Answer, Common, Document, lock, signals};

use crate::backend::Backend;

/// Makes what is missing; a dry run reports it. Status 1 when something is not as it has to be, which
/// stays as it is.
pub fn layout<B: Backend>(common: &Common, backend: &B, dry_run: bool) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let _lock = match dry_run {
        true => None,
        false => Some(lock::wait(common, POOL_LOCK, &ending_signals)?),
    };
    let layout = backend.lay_out(&bases::read_if_there(common)?, dry_run)?;
    let (changed, is_right) = (layout.changed, layout.wrong.is_empty());
    let mut document = Document::default();
    document.set("layout", &layout)?;
    let answer = if is_right {
        Answer::yes(document)
    } else {
        Answer::no(document)
    };
    Ok(answer.staying(changed && !dry_run).holding(ending_signals))
}
