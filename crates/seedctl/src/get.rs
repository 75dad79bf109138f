//! `seedctl get`: an image arrives.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Get;

/// `seedctl get`: an image arrives.
pub fn get(_common: &Common, _pipe: &Pipe, _options: &Get) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("get: not built yet"))
}
