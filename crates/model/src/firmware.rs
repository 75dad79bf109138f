//! The strings of the firmware (SMBIOS), as the kernel shows them to everybody.

use std::fs::File;
use std::io::{self, Read};

use jsonpipe::Common;

use crate::bios::Bios;

/// The firmware's product name (system information).
pub const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";
/// The version of the BIOS (BIOS information).
const BIOS_VERSION: &str = "/sys/class/dmi/id/bios_version";

/// Above any string that the kernel shows, which fits into a page.
const MAX_BYTES: u64 = 4096;

/// The model of this machine, or why it is unknown. Makers write anything there, even bytes that
/// are not text; such a machine has no section in models.ini.
pub fn of_machine(common: &Common) -> Result<String, String> {
    string(common, PRODUCT_NAME, "product name", "product")
}

/// The version of the BIOS, or why it is unknown.
pub(crate) fn bios(common: &Common) -> Result<Bios, String> {
    let text = string(common, BIOS_VERSION, "BIOS version", "version of its BIOS")?;
    Bios::try_from(text).map_err(str::to_owned)
}

/// A string of the firmware without the white space around it; `what` is its name, and `noun` the
/// thing that it names.
fn string(common: &Common, path: &str, what: &str, noun: &str) -> Result<String, String> {
    let no_text = || format!("the firmware's {what} is no text");
    let path = common.path(path);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) => {}
        Err(error) => return Err(format!("reading {}: {error}", path.display())),
        Ok(length) if length as u64 > MAX_BYTES => return Err(no_text()),
        Ok(_) => {}
    }
    let text = String::from_utf8(bytes).map_err(|_| no_text())?;
    match text.trim() {
        "" => Err(format!("the firmware names no {noun}")),
        text if crate::is_plain(text) => Ok(text.to_owned()),
        _ => Err(no_text()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_model_is_text_without_hidden_characters() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        assert_eq!(
            of_machine(&common),
            Err("the firmware names no product".into())
        );
        fs::create_dir_all(common.path(PRODUCT_NAME).parent().unwrap()).unwrap();
        let no_text = || Err("the firmware's product name is no text".to_owned());
        for (bytes, expected) in [
            (&b"OptiPlex 7010 \n"[..], Ok("OptiPlex 7010".to_owned())),
            (b" \n", Err("the firmware names no product".into())),
            (b"Opti\xff", no_text()),
            (b"Opti\x1bPlex", no_text()),
            (b"Opti\nPlex", no_text()),
            (&[b'O'; 5000], no_text()),
        ] {
            fs::write(common.path(PRODUCT_NAME), bytes).unwrap();
            assert_eq!(of_machine(&common), expected);
        }
    }

    #[test]
    fn the_version_of_the_bios_is_read_as_strictly() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        assert_eq!(
            bios(&common),
            Err("the firmware names no version of its BIOS".into())
        );
        fs::create_dir_all(common.path(BIOS_VERSION).parent().unwrap()).unwrap();
        fs::write(common.path(BIOS_VERSION), "1.14.0\n").unwrap();
        assert_eq!(bios(&common).unwrap().to_string(), "1.14.0");
        fs::write(common.path(BIOS_VERSION), "A\u{202e}16\n").unwrap();
        assert_eq!(
            bios(&common),
            Err("the firmware's BIOS version is no text".into())
        );
    }
}
