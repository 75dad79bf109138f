//! models.ini.

use std::num::NonZeroU32;

use jsonpipe::{Common, Exit, ini};
use serde::Deserialize;

use crate::memory::Memory;
use pci::PciAddress;

/// The file's name in the configuration directory.
pub const FILE: &str = "models.ini";

/// `[model.NAME]`; NAME is the product name of the firmware.
#[derive(Debug, Default, Deserialize)]
pub struct Model {
    /// The devices that guests get.
    #[serde(default)]
    pub devices: Vec<PciAddress>,
    /// The guest's memory, instead of that in profiles.ini.
    pub memory: Option<Memory>,
    /// The guest's cores, instead of those in profiles.ini.
    pub cores: Option<NonZeroU32>,
    /// Whether the case has an intrusion switch; false where the board has only an unconnected pin
    /// for one.
    pub intrusion_switch: Option<bool>,
}

/// The models by name, in the order of the file; empty when it does not exist. Status 78 when it is
/// invalid.
pub fn read_all(common: &Common) -> anyhow::Result<Vec<(String, Model)>> {
    match ini::read_table(&common.config(FILE), "model") {
        Err(error) if Exit::of(&error) == Exit::NoInput => Ok(Vec::new()),
        models => models,
    }
}
