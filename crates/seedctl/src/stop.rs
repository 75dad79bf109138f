//! `seedctl stop`: no more seeding.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Stop;

/// `seedctl stop`: no more seeding.
pub fn stop(_common: &Common, _pipe: &Pipe, _options: &Stop) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("stop: not built yet"))
}
