//! `seedctl report`: how a distribution went.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Report;

/// `seedctl report`: how a distribution went.
pub fn report(_common: &Common, _pipe: &Pipe, _options: &Report) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("report: not built yet"))
}
