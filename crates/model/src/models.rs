//! models.ini.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;

use jsonpipe::{Common, Exit, ini};
use pci::PciAddress;
use serde::{Deserialize, Deserializer, de};

use crate::bios::Bios;
use crate::listed::Listed;
use crate::memory::Memory;

/// The file's name in the configuration directory.
pub const FILE: &str = "models.ini";

/// `[model.NAME]`; NAME is the product name of the firmware.
#[derive(Debug, Default, Deserialize)]
pub struct Model {
    /// The devices that guests get.
    #[serde(default)]
    pub devices: Vec<Listed>,
    /// Members of their IOMMU groups that may be without a driver during a session.
    #[serde(default)]
    pub parked: Vec<Listed>,
    /// The factory memory.
    pub memory_installed: Option<Memory>,
    /// The processor, `i7-3770`.
    #[serde(default, deserialize_with = "plain")]
    pub processor: Option<String>,
    /// The oldest BIOS that was tested.
    pub bios: Option<Bios>,
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
    let path = common.config(FILE);
    let models: Vec<(String, Model)> = match ini::read_table(&path, "model") {
        Err(error) if Exit::of(&error) == Exit::NoInput => return Ok(Vec::new()),
        models => models?,
    };
    for (name, model) in &models {
        check(&path, name, model)?;
    }
    Ok(models)
}

/// The model of this name; `None` when models.ini does not list it. Status 78 as of [`read_all`].
pub fn read(common: &Common, name: &str) -> anyhow::Result<Option<Model>> {
    let mut models = read_all(common)?.into_iter();
    Ok(models.find_map(|(listed, model)| (listed == name).then_some(model)))
}

/// Status 78 when no machine can have this name, or when the section lists a device twice.
pub(crate) fn check(path: &Path, name: &str, model: &Model) -> anyhow::Result<()> {
    let wrong = |key: fmt::Arguments, what: fmt::Arguments| {
        Err(Exit::Config.error(format_args!(
            "{}: model.{}{key}: {what}",
            path.display(),
            jsonpipe::shown(name)
        )))
    };
    if !crate::is_plain(name) {
        return wrong(
            format_args!(""),
            format_args!("the name of a model is visible text without white space around it"),
        );
    }
    let mut known: HashMap<PciAddress, &str> = HashMap::new();
    for (key, list) in [("devices", &model.devices), ("parked", &model.parked)] {
        for (at, Listed { address, .. }) in list.iter().enumerate() {
            match known.insert(*address, key) {
                Some(before) if before == key => {
                    return wrong(
                        format_args!(".{key}[{at}]"),
                        format_args!("{address} is given twice"),
                    );
                }
                Some(before) => {
                    return wrong(
                        format_args!(".{key}[{at}]"),
                        format_args!("{address} is also in {before}"),
                    );
                }
                None => {}
            }
        }
    }
    Ok(())
}

fn plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if crate::is_plain(&text) {
        Ok(Some(text))
    } else {
        Err(de::Error::custom("expected one line of visible text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Model)>, String> {
        jsonpipe::testkit::configured(FILE, text, read_all)
    }

    #[test]
    fn a_section_is_read_with_all_its_keys() {
        let models = read(
            "[model.OptiPlex 7040]\n\
             devices = 00:02.0 8086:1902/8086:1912, 00:1f.3 8086:a170\n\
             parked = 00:1f.4 8086:a123\n\
             memory_installed = 8G\n\
             processor = i5-6500\n\
             bios = 1.14.0\n\
             memory = 6910M\n\
             cores = 4\n\
             intrusion_switch = false\n\
             [model.Laptop]\n",
        )
        .unwrap();
        let [(name, model), (other, empty)] = &models[..] else {
            panic!("{models:?}");
        };
        assert_eq!((&**name, &**other), ("OptiPlex 7040", "Laptop"));
        let addresses = |list: &[Listed]| -> Vec<String> {
            list.iter()
                .map(|listed| listed.address.to_string())
                .collect()
        };
        assert_eq!(addresses(&model.devices), ["0000:00:02.0", "0000:00:1f.3"]);
        assert_eq!(addresses(&model.parked), ["0000:00:1f.4"]);
        assert_eq!(model.memory_installed.unwrap().bytes(), 8 << 30);
        assert_eq!(model.processor.as_deref(), Some("i5-6500"));
        assert_eq!(model.bios.as_ref().unwrap().to_string(), "1.14.0");
        assert_eq!(model.memory.unwrap().bytes(), 6910 << 20);
        assert_eq!(model.cores.unwrap().get(), 4);
        assert_eq!(model.intrusion_switch, Some(false));
        assert!(empty.devices.is_empty() && empty.bios.is_none() && empty.processor.is_none());
    }

    #[test]
    fn a_fault_is_named_by_its_key() {
        for (lines, message) in [
            (
                "devices = 00:02.0",
                "model.M.devices[0]: the ids are missing",
            ),
            (
                "devices = 00:02.0 8086:0152/",
                "model.M.devices[0]: expected a PCI address and ids",
            ),
            (
                "devices = 00:02.0 8086:0152, 0000:00:02.0 8086:0162",
                "model.M.devices[1]: 0000:00:02.0 is given twice",
            ),
            (
                "parked = 00:1f.4 8086:a123, 00:1F.4 8086:a123",
                "model.M.parked[1]: 0000:00:1f.4 is given twice",
            ),
            (
                "devices = 00:02.0 8086:0152\nparked = 00:1f.4 8086:a123, 00:02.0 8086:0152",
                "model.M.parked[1]: 0000:00:02.0 is also in devices",
            ),
            (
                "devices = 00:02.0 8086:0152\ndevices = 00:14.0 8086:1e31",
                "model.M.devices: given twice",
            ),
            (
                "memory_installed = 8",
                "model.M.memory_installed: expected an amount",
            ),
            (
                "processor =",
                "model.M.processor: expected one line of visible text",
            ),
            (
                "bios = A\u{200b}16",
                "model.M.bios: expected the version of a BIOS",
            ),
            ("devises = 00:02.0", "model.M.devises: unknown key"),
            ("cores = 4\n[model.M]", "[model.M]: given twice"),
            (
                "[model. N]",
                "model. N: the name of a model is visible text",
            ),
            (
                "[model.N\u{200b}]",
                "model.N\u{fffd}: the name of a model is visible text",
            ),
            ("cores = 4\n[modle.N]", "[modle.N]: expected [model.NAME]"),
        ] {
            let error = read(&format!("[model.M]\n{lines}\n")).unwrap_err();
            assert!(error.starts_with(message), "{lines:?}: {error}");
        }
    }
}
