//! `probe`: a new entry of models.ini, made from this machine.

use std::fs;
use std::io::Write;
use std::path::Path;

use jsonpipe::{Answer, Common, Document, Exit, Pipe, atomic};
use model::{Entry, Listed};

use crate::TOOL;
use crate::report::Probe;

/// Writes the entry to `to`, a new file. Status 73 when it exists.
pub(crate) fn run(to: &Path, common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    let entry = Entry::of_machine(common)?;
    if fs::symlink_metadata(to).is_ok() {
        return Err(Exit::CantCreate.error(format_args!(
            "writing {}: it is there already; name a new file",
            to.display()
        )));
    }
    atomic::write(to, 0o644, |file| file.write_all(entry.text.as_bytes()))?;
    for missing in &entry.missing {
        pipe.warn(format_args!("{}: unknown: {}", missing.key, missing.reason));
    }
    let addresses = |list: &[Listed]| -> Vec<String> {
        list.iter()
            .map(|listed| listed.address.to_string())
            .collect()
    };
    let mut document = Document::default();
    document.set(
        TOOL.section,
        &Probe {
            changed: true,
            devices: addresses(&entry.model.devices),
            parked: addresses(&entry.model.parked),
            model: entry.name,
            missing: entry.missing,
        },
    )?;
    let file = to.to_owned();
    Ok(Answer::yes(document).or_undo(move || {
        let _ = fs::remove_file(file); // the lost document is what the status tells
    }))
}
