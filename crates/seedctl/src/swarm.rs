//! `seedctl swarm`: how far each building is, by the tracker.

use jsonpipe::{Answer, Common, Exit, Pipe};

use crate::request::Swarm;

/// `seedctl swarm`: how far each building is, by the tracker.
pub fn swarm(_common: &Common, _pipe: &Pipe, _options: &Swarm) -> anyhow::Result<Answer> {
    Err(Exit::Software.error("swarm: not built yet"))
}
