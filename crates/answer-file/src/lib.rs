//! The files that install Windows without a person: two answer files for its setup, and the recipe
//! that the scripts of its first boot follow.
//!
//! Stands behind `mkimg-torrent answer-file`. **Admission rule:** what a description of Windows
//! decides before the installation. The work inside Windows belongs to the scripts in
//! scripts/server/guest-windows, and the machine to the script build-guest-windows.

mod recipe;
pub mod report;
pub mod request;
mod setup;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use jsonpipe::Document;

use recipe::Recipe;
use request::{Programs, Trim, Windows};

/// A described installation, checked.
#[derive(Debug)]
pub struct Installation {
    windows: Windows,
    trim: Trim,
    programs: Programs,
}

impl Installation {
    /// Takes the description out of the document; its section `windows`, whose product key must not
    /// leave the server with the image, is gone from there. Status 65 when it is invalid.
    pub fn take_from(document: &mut Document) -> anyhow::Result<Installation> {
        document.only(&request::SECTIONS)?;
        let windows: Windows = document.consume(request::SECTION)?;
        windows.check()?;
        Ok(Installation {
            windows,
            trim: Trim::read(document)?,
            programs: Programs::read(document)?,
        })
    }

    /// The files, by their path on the medium.
    pub fn files(&self) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let recipe = Recipe::new(&self.trim, &self.programs);
        Ok(vec![
            (
                "autounattend.xml".into(),
                setup::installation(&self.windows),
            ),
            ("labtools/oobe.xml".into(), setup::first_boot(&self.windows)),
            ("labtools/recipe.json".into(), recipe.to_text()?),
        ])
    }

    /// The section `windows` of the document that goes on. `changed`: whether a file was written.
    pub fn report(self, changed: bool) -> report::Windows {
        report::Windows {
            changed,
            files: self.programs.files(),
            edition: self.windows.edition,
            language: self.windows.language,
            disk_bytes: self.windows.disk_bytes,
            network: self.windows.network,
        }
    }
}
