//! `seedctl wait`: until the building is complete.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Wait;

/// `seedctl wait`: until the building is complete.
pub fn wait(_common: &Common, _pipe: &Pipe, _options: &Wait) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("wait: not built yet"))
}
