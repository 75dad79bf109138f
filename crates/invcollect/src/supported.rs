//! `invcollect supported`: whether models.ini has this machine. Whoever is about to change the
//! machine asks that first.

use jsonpipe::{Answer, Common, Document, Exit, Pipe};
use model::Difference;
use serde::Serialize;

/// The section `model`.
#[derive(Debug, Serialize)]
struct Supported {
    /// The product name of the firmware.
    name: String,
}

/// `invcollect supported`: status 78 when the machine is not.
pub fn supported(common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    let name = model(common, pipe)?;
    let mut document = Document::default();
    document.set("model", &Supported { name })?;
    Ok(Answer::yes(document))
}

/// The machine's model. Status 78 when models.ini does not list it, or its BIOS is older than the
/// tested ones.
pub fn model(common: &Common, pipe: &Pipe) -> anyhow::Result<String> {
    let wrong = |why: String| Exit::Config.error(format_args!("checking the model: {why}"));
    let models = common.config(model::FILE);
    if !models.exists() {
        return Err(wrong(format!(
            "there is no {}, which lists the supported models; --config names its directory",
            models.display()
        )));
    }
    let models = models.display();
    let name = model::of_machine(common)
        .map_err(|why| wrong(format!("{why}, so no section of {models} is for it")))?;
    let model = model::read(common, &name)?
        .ok_or_else(|| wrong(format!("{models} does not list {name}")))?;
    match model::bios_difference(common, &model) {
        Some(Difference::OlderBios { found, tested }) => {
            return Err(wrong(format!(
                "the BIOS of this {name} is {found}; update it to {tested} or later first"
            )));
        }
        Some(Difference::OtherBios { found, tested }) => pipe.warn(format_args!(
            "the BIOS is {found}, which cannot be compared with {tested} of {models}"
        )),
        Some(Difference::Unknown { reason, .. }) => {
            pipe.warn(format_args!("the version of the BIOS is unknown: {reason}"))
        }
        _ => {}
    }
    Ok(name)
}
