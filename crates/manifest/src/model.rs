//! Which models of PC an image is for.

use std::fs;

use jsonpipe::{Common, Exit, ExitContext};

/// What the firmware calls this machine (SMBIOS, system information), as the kernel tells it.
const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// Refuses what is `doing`, as in `install NAME`, unless this machine is one of the models; none stands for all. Status 65 when it
/// is another one, 78 when it does not say which.
pub fn check_model(common: &Common, models: &[String], doing: &str) -> anyhow::Result<()> {
    if models.is_empty() {
        return Ok(());
    }
    let file = common.path(PRODUCT_NAME);
    let reading = || format!("reading this machine's model in {}", file.display());
    let model = fs::read_to_string(&file).exit(Exit::Config, reading)?;
    let model = model.trim();
    if model.is_empty() {
        return Err(Exit::Config.error(format_args!("{}: it names none", reading())));
    }
    if models.iter().any(|known| known == model) {
        return Ok(());
    }
    let models = models.join(", ");
    Err(Exit::Data.error(format_args!("refusing to {doing}: this machine is a {model}, the image is for {models}")))
}
