//! `seedctl status`: what aria2 does on this host.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Status;

/// `seedctl status`: what aria2 does on this host.
pub fn status(_common: &Common, _pipe: &Pipe, _options: &Status) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("status: not built yet"))
}
