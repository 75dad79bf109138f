//! Checks the PC models that an image is for.

use jsonpipe::Exit;

/// Refuses the action `doing`, such as `install NAME`, unless this machine is one of the models; an
/// empty list stands for all. `machine` is its model, or why that is not known. Status 65 for
/// another model, 78 for an unknown one.
pub fn check_model(
    machine: Result<String, String>,
    models: &[String],
    doing: &str,
) -> anyhow::Result<()> {
    if models.is_empty() {
        return Ok(());
    }
    let machine = machine.map_err(|reason| {
        Exit::Config.error(format_args!(
            "refusing to {doing}: the model is not known: {reason}"
        ))
    })?;
    if models.contains(&machine) {
        return Ok(());
    }
    let models = models.join(", ");
    Err(Exit::Data.error(format_args!(
        "refusing to {doing}: this machine is a {machine}, the image is for {models}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_for_its_models_and_for_all_without_any() {
        let models = ["OptiPlex 7010".to_owned(), "OptiPlex 9020".to_owned()];
        let status = |machine: Result<&str, &str>, models: &[String]| {
            let machine = machine.map(str::to_owned).map_err(str::to_owned);
            check_model(machine, models, "install windows").map_err(|error| Exit::of(&error))
        };
        assert_eq!(status(Ok("OptiPlex 9020"), &models), Ok(()));
        assert_eq!(status(Ok("OptiPlex 90"), &models), Err(Exit::Data));
        assert_eq!(status(Err("none"), &models), Err(Exit::Config));
        assert_eq!(status(Err("none"), &[]), Ok(()));
    }
}
