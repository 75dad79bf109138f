//! Why a volume is in use: a program has it open, or a session that has not ended has it.

use jsonpipe::Common;

use crate::backend::{Backend, Stored};
use crate::promise;

/// A program has the volume open, and the way out.
pub const PROGRAM_HAS_IT: &str =
    "a program has it open; end that session, or wait for the end of its export";

/// The volume was handed out, perhaps to a guest that has not opened it yet, and the way out.
const SESSION_NOT_ENDED: &str =
    "its session has not ended; end it, or if it was killed, run cowvol release";

/// The reason, with the way out; `None` when nothing uses it. Remains have no session.
pub fn why<B: Backend>(
    common: &Common,
    backend: &B,
    found: &Stored,
) -> anyhow::Result<Option<&'static str>> {
    if backend.is_found_in_use(found)? {
        return Ok(Some(PROGRAM_HAS_IT));
    }
    let item = &found.item;
    let has_session = !item.is_remains && promise::all(common)?.contains(&item.id);
    Ok(has_session.then_some(SESSION_NOT_ENDED))
}
