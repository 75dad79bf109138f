//! `seedctl status`: what aria2 does on this host.

use jsonpipe::{Answer, Common, Exit};

/// `seedctl status`: what aria2 does on this host.
pub fn status(_common: &Common) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("status: not built yet"))
}
