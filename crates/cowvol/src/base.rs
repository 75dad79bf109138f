//! Chooses a base of this machine, and opens its image.

use images::Ending;
use images::bases::{self, Entry};
use jsonpipe::{Common, Exit};
use manifest::{Keys, Kind, NAME_RULE, Signed, is_name};
use qcow2::{Follow, Image};

/// Opens and checks the image of a base. Status 66 when it does not exist, 65 when it is not a
/// complete base.
pub fn open(common: &Common, base: &Entry) -> anyhow::Result<Image> {
    let path = common.path(base.image_path());
    let image = Image::open(&path, Follow::Links).map_err(|error| match Exit::of(&error) {
        Exit::NoInput => Exit::NoInput.error(format_args!(
            "{error:#}; put the image there, or mend generation in {}",
            bases::PATH
        )),
        _ => error,
    })?;
    image.check_is_base()?;
    Ok(image)
}

/// What the manifest beside the image says, if one of this machine's keys signed it. An administrator
/// may have put the base there without one, or a key was retired.
pub fn signed_manifest(common: &Common, base: &Entry) -> Option<manifest::Base> {
    let keys = Keys::read(&common.config("keys"), Kind::Base).ok()?;
    let beside = |ending| common.path(images::path(&base.name, base.generation, ending));
    let (path, signature) = (beside(Ending::Manifest), beside(Ending::Signature));
    // A login would wait for the writer of a pipe, and all others for it.
    if !path.is_file() || !signature.is_file() {
        return None;
    }
    let signed = Signed::read(&path, Some(&signature)).ok()?;
    let manifest: manifest::Base = signed.verify(&keys).ok()?;
    let is_of_it = (&manifest.name, manifest.generation) == (&base.name, base.generation);
    is_of_it.then_some(manifest)
}

/// Refuses (65) a base whose manifest does not list this machine's model. `cowvol install-base` does
/// that as well, but the disk may have come from another machine.
pub fn check_model(common: &Common, base: &Entry) -> anyhow::Result<()> {
    match signed_manifest(common, base) {
        Some(manifest) => manifest::check_model(
            model::of_machine(common),
            &manifest.models,
            &format!("start {}", base.name),
        ),
        None => Ok(()),
    }
}

/// The chosen base, otherwise the default one; a single base is the default. `key` names the choice
/// in errors.
pub fn choose(bases: Vec<Entry>, choice: Option<&str>, key: &str) -> anyhow::Result<Entry> {
    let names = bases
        .iter()
        .map(|base| base.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    if bases.is_empty() {
        return Err(Exit::NoInput.error(format_args!("{}: offers no base", bases::PATH)));
    }
    match choice {
        Some(name) if !is_name(name) => Err(Exit::Data.error(format_args!("{key}: {NAME_RULE}"))),
        Some(name) => bases
            .into_iter()
            .find(|base| base.name == name)
            .ok_or_else(|| {
                Exit::NoInput.error(format_args!(
                    "{key}: {name} is not in {}; choose one of {names}",
                    bases::PATH
                ))
            }),
        None => bases.into_iter().find(|base| base.default).ok_or_else(|| {
            Exit::Data.error(format_args!(
                "{key}: missing, and no base is the default; choose one of {names}"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn bases(of: &[(&str, bool)]) -> Vec<Entry> {
        let section = |(name, default): &(&str, bool)| {
            format!("[base.{name}]\nname=Title\nostype=linux\ndefault={default}\ngeneration=7\n")
        };
        bases::parse(
            Path::new("bases.ini"),
            &of.iter().map(section).collect::<String>(),
        )
        .unwrap()
    }

    fn chosen(of: &[(&str, bool)], choice: Option<&str>) -> Result<String, (Exit, String)> {
        choose(bases(of), choice, "choice.base")
            .map(|base| base.name)
            .map_err(|error| (Exit::of(&error), error.to_string()))
    }

    #[test]
    fn the_choice_then_the_default_then_the_only_one() {
        let two = &[("windows", true), ("linux", false)];
        assert_eq!(chosen(two, Some("linux")), Ok("linux".into()));
        assert_eq!(chosen(two, None), Ok("windows".into()));
        assert_eq!(chosen(&[("linux", false)], None), Ok("linux".into()));
        assert_eq!(
            chosen(&[("windows", false), ("linux", false)], None),
            Err((
                Exit::Data,
                "choice.base: missing, and no base is the default; choose one of linux, windows"
                    .into()
            ))
        );
        assert_eq!(
            chosen(two, Some("macos")),
            Err((
                Exit::NoInput,
                format!(
                    "choice.base: macos is not in {}; choose one of linux, windows",
                    bases::PATH
                )
            ))
        );
        assert_eq!(chosen(&[], None).unwrap_err().0, Exit::NoInput);
        for name in [
            "",
            "../windows",
            "Windows",
            "windows@7",
            ".windows",
            "a/b",
            "a\0b",
        ] {
            assert_eq!(
                chosen(two, Some(name)),
                Err((Exit::Data, format!("choice.base: {NAME_RULE}"))),
                "{name:?}"
            );
        }
    }
}
