//! The model of this machine in its firmware, and the properties of each model in models.ini.
//!
//! Images are restricted to models, the model determines a guest's devices, and the inventory knows
//! what a model lacks: they all compare this one string, and read this one table.
//!
//! **Admission rule.** Belongs here: the string, models.ini, and the types of its values but for the PCI bus (`pci`). Not: the
//! machine's actual hardware (`invcollect`), a guest's use of it (`vm-passthrough`), and the models
//! of an image (`manifest`).

mod bios;
mod listed;
mod memory;
mod models;

use std::{fs, io};

use jsonpipe::{Common, is_hidden};

pub use bios::Bios;
pub use listed::Listed;
pub use memory::Memory;
pub use models::{FILE, Model, read, read_all};

/// The firmware's product name (SMBIOS, system information), as the kernel shows it.
pub const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

const NO_TEXT: &str = "the firmware's product name is no text";

/// The model of this machine, or why it is unknown. Makers write anything there, even bytes that
/// are not text; such a machine has no section in models.ini.
pub fn of_machine(common: &Common) -> Result<String, String> {
    let path = common.path(PRODUCT_NAME);
    let name = match fs::read(&path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|_| NO_TEXT)?
            .trim()
            .to_owned(),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            String::new()
        }
        Err(error) => return Err(format!("reading {}: {error}", path.display())),
    };
    match name.as_str() {
        "" => Err("the firmware names no product".into()),
        _ if is_plain(&name) => Ok(name),
        _ => Err(NO_TEXT.into()),
    }
}

/// Whether a text is one line that people can see and compare.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_text_without_hidden_characters() {
        let root = tempfile::tempdir().unwrap();
        let common = Common {
            verbose: false,
            log: false,
            root: root.path().to_owned(),
            config: None,
        };
        assert_eq!(
            of_machine(&common),
            Err("the firmware names no product".into())
        );
        fs::create_dir_all(common.path(PRODUCT_NAME).parent().unwrap()).unwrap();
        for (bytes, expected) in [
            (&b"OptiPlex 7010 \n"[..], Ok("OptiPlex 7010".to_owned())),
            (b" \n", Err("the firmware names no product".into())),
            (b"Opti\xff", Err(NO_TEXT.into())),
            (b"Opti\x1bPlex", Err(NO_TEXT.into())),
        ] {
            fs::write(common.path(PRODUCT_NAME), bytes).unwrap();
            assert_eq!(of_machine(&common), expected);
        }
    }
}
