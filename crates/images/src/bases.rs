//! bases.ini: the bases of this machine, and the generation of each that new sessions start from.

use std::path::Path;

use jsonpipe::{Common, Exit, ini};
use manifest::{NAME_RULE, NUMBER_MAX, is_name};
use serde::Deserialize;

use crate::place::image_path;

pub use crate::place::BASES_INI as PATH;

/// A base in bases.ini.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in paths and documents.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The kind of guest.
    pub ostype: String,
    /// Whether it is used when the user chooses none.
    pub default: bool,
    /// The generation that new sessions start from.
    pub generation: u64,
}

impl Entry {
    /// The path of its image, relative to the root.
    pub fn image_path(&self) -> String {
        image_path(&self.name, self.generation)
    }
}

/// `[base.NAME]` in bases.ini.
#[derive(Deserialize)]
struct Section {
    /// The title on the login screen: `Windows 10`.
    name: String,
    /// The kind of guest, which determines its profile: `windows`.
    ostype: String,
    /// True for at most one base.
    #[serde(default)]
    default: bool,
    generation: u64,
}

/// Reads bases.ini; the bases by name. Status 66 when it does not exist, 78 when it is invalid.
pub fn read(common: &Common) -> anyhow::Result<Vec<Entry>> {
    let path = common.path(PATH);
    ini::require(
        &path,
        "cowvol install-base makes it; cowvol(8) describes it",
    )?;
    check(ini::read_table(&path, "base")?).map_err(|message| wrong(&path, &message))
}

/// The same; empty when it does not exist.
pub fn read_if_there(common: &Common) -> anyhow::Result<Vec<Entry>> {
    match read(common) {
        Err(error) if Exit::of(&error) == Exit::NoInput => Ok(Vec::new()),
        bases => bases,
    }
}

/// Runs a read-only action on the bases without the lock that guards them. Repeats it if bases.ini
/// was replaced meanwhile, so that its result, or its error, is of one state of the machine.
pub fn steadily<T>(
    common: &Common,
    mut look: impl FnMut(&[Entry]) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut bases = read(common)?;
    loop {
        let seen = look(&bases);
        let now = read(common)?;
        if now == bases {
            return seen;
        }
        bases = now;
    }
}

/// Parses the text of bases.ini, which is, or will be, in `path`.
pub fn parse(path: &Path, text: &str) -> anyhow::Result<Vec<Entry>> {
    check(ini::parse_table(path, text, "base")?).map_err(|message| wrong(path, &message))
}

fn wrong(path: &Path, message: &str) -> anyhow::Error {
    Exit::Config.error(format_args!("{}: {message}", path.display()))
}

/// Checks that the types of bases.ini cannot express.
fn check(offered: Vec<(String, Section)>) -> Result<Vec<Entry>, String> {
    let mut bases: Vec<Entry> = Vec::new();
    for (
        name,
        Section {
            name: title,
            ostype,
            default,
            generation,
        },
    ) in offered
    {
        if !is_name(&name) {
            return Err(format!("[base.{name}]: {NAME_RULE}"));
        }
        if !is_name(&ostype) {
            return Err(format!("base.{name}.ostype: {NAME_RULE}"));
        }
        if title.is_empty() {
            return Err(format!("base.{name}.name: empty"));
        }
        if generation > NUMBER_MAX {
            return Err(format!(
                "base.{name}.generation: above {NUMBER_MAX}, which some programs cannot tell from the next number"
            ));
        }
        if default && let Some(other) = bases.iter().find(|base| base.default) {
            return Err(format!(
                "base.{name}.default: {} is the default already",
                other.name
            ));
        }
        bases.push(Entry {
            name,
            title,
            ostype,
            default,
            generation,
        });
    }
    if let [only] = bases.as_mut_slice() {
        only.default = true; // a single base needs no choice
    }
    bases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::BACKING;

    fn offered(name: &str, default: bool) -> (String, Section) {
        (
            name.into(),
            Section {
                name: "Title".into(),
                ostype: "linux".into(),
                default,
                generation: 7,
            },
        )
    }

    #[test]
    fn check_refuses_bad_bases() {
        let refused = |offered| check(offered).unwrap_err();
        assert_eq!(
            refused(vec![offered("..", false)]),
            format!("[base...]: {NAME_RULE}")
        );
        assert_eq!(
            refused(vec![offered(&"a".repeat(65), false)]),
            format!("[base.{}]: {NAME_RULE}", "a".repeat(65))
        );
        let (name, base) = offered("a", false);
        assert_eq!(
            refused(vec![(
                name,
                Section {
                    generation: 1 << 53,
                    ..base
                }
            )]),
            "base.a.generation: above 9007199254740991, which some programs cannot tell from the next number"
        );
        assert_eq!(
            refused(vec![offered("b", true), offered("a", true)]),
            "base.a.default: b is the default already"
        );
        let (name, base) = offered("a", false);
        assert_eq!(
            refused(vec![(
                name,
                Section {
                    ostype: "Win 10".into(),
                    ..base
                }
            )]),
            format!("base.a.ostype: {NAME_RULE}")
        );
        let (name, base) = offered("a", false);
        assert_eq!(
            refused(vec![(
                name,
                Section {
                    name: String::new(),
                    ..base
                }
            )]),
            "base.a.name: empty"
        );
    }

    #[test]
    fn a_look_without_the_lock_is_of_one_state() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        let offer = |generation: u64| {
            let text = format!("[base.a]\nname=A\nostype=x\ngeneration={generation}\n");
            std::fs::write(common.path(PATH), text).unwrap();
        };
        std::fs::create_dir_all(common.path(BACKING)).unwrap();
        offer(7);
        let mut seen = Vec::new();
        let look = |bases: &[Entry]| {
            seen.push(bases[0].generation);
            offer(8); // a switch-over, which takes the image of 7 away
            if bases[0].generation == 8 {
                Ok("8")
            } else {
                Err(Exit::NoInput.error("no 7"))
            }
        };
        assert_eq!((steadily(&common, look).unwrap(), seen), ("8", vec![7, 8]));
    }
}
