//! `seedctl seed`: an image that is there is offered to others.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Seed;

/// `seedctl seed`: an image that is there is offered to others.
pub fn seed(_common: &Common, _pipe: &Pipe, _options: &Seed) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("seed: not built yet"))
}
