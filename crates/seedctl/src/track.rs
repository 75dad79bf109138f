//! `seedctl track`: the tracker.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Track;

/// `seedctl track`: the tracker.
pub fn track(_common: &Common, _pipe: &Pipe, _options: &Track) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("track: not built yet"))
}
