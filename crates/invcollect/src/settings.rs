//! invcollect.ini.

use std::collections::BTreeMap;

use jsonpipe::Common;
use jsonpipe::ini::Configuration;

use crate::request::{Destination, Expected};

/// The whole of it. Status 78 when it is not right.
#[derive(Debug)]
pub struct Settings {
    /// `[expected.MODEL]`.
    pub expected: BTreeMap<String, Expected>,
    /// `[push]`.
    pub push: Option<Destination>,
}

impl Settings {
    /// Reads it; it need not be there.
    pub fn read(common: &Common) -> anyhow::Result<Settings> {
        let mut file = Configuration::read(&common.config("invcollect.ini"))?;
        let settings = Settings { expected: file.table("expected")?.into_iter().collect(), push: file.section("push")? };
        file.end()?;
        Ok(settings)
    }
}
