//! The bases that this machine offers: bases.ini and the images beside it.

use std::path::Path;

use jsonpipe::{Common, Exit, ini};
use manifest::{NAME_RULE, NUMBER_MAX, is_name};
use qcow2::{Follow, Image};

use crate::request::OfferedBase;

/// Its rename is the commit of every switch-over to another generation.
pub const BASES_INI: &str = "/qcow2/backing/bases.ini";

/// A base, as bases.ini offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its name in paths and documents.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The kind of guest.
    pub ostype: String,
    /// Whether it is taken where nothing is chosen.
    pub default: bool,
    /// The generation that new sessions start from.
    pub generation: u64,
}

impl Base {
    /// Its image, as seen below the root.
    pub fn path(&self) -> String {
        image_path(&self.name, self.generation)
    }

    /// Opens and checks its image. Status 66 when it is not there, 65 when it is not a whole base.
    pub fn open(&self, common: &Common) -> anyhow::Result<Image> {
        let image = Image::open(&common.path(self.path()), Follow::Links)?;
        image.check_is_base()?;
        Ok(image)
    }
}

/// Where the image of a generation of a base is, as seen below the root.
pub fn image_path(name: &str, generation: u64) -> String {
    format!("/qcow2/backing/{name}/{generation}.qcow2")
}

/// Reads bases.ini; the bases by name. Status 66 when it is not there, 78 when it is not right.
pub fn read_all(common: &Common) -> anyhow::Result<Vec<Base>> {
    let path = common.path(BASES_INI);
    check(ini::read_table(&path, "base")?).map_err(|message| wrong(&path, &message))
}

/// Does something that changes nothing with the bases, without the lock that guards them: again where bases.ini was replaced
/// meanwhile, so that what comes of it, an error included, is of one state of the machine.
pub fn steadily<T>(common: &Common, mut look: impl FnMut(&[Base]) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut bases = read_all(common)?;
    loop {
        let seen = look(&bases);
        let now = read_all(common)?;
        if now == bases {
            return seen;
        }
        bases = now;
    }
}

/// The same of its text.
pub fn parse_all(path: &Path, text: &str) -> anyhow::Result<Vec<Base>> {
    check(ini::parse_table(path, text, "base")?).map_err(|message| wrong(path, &message))
}

fn wrong(path: &Path, message: &str) -> anyhow::Error {
    Exit::Config.error(format_args!("{}: {message}", path.display()))
}

/// What the types of bases.ini cannot say.
fn check(offered: Vec<(String, OfferedBase)>) -> Result<Vec<Base>, String> {
    let mut bases: Vec<Base> = Vec::new();
    for (name, OfferedBase { name: title, ostype, default, generation }) in offered {
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
            return Err(format!("base.{name}.generation: above {NUMBER_MAX}, which not every program tells from the next"));
        }
        if default && let Some(other) = bases.iter().find(|base| base.default) {
            return Err(format!("base.{name}.default: {} is the default already", other.name));
        }
        bases.push(Base { name, title, ostype, default, generation });
    }
    if let [only] = bases.as_mut_slice() {
        only.default = true; // where there is nothing to choose from, it is what is taken
    }
    bases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bases)
}

/// The base that was chosen, else the default, which the only one is, too.
pub fn choose(bases: Vec<Base>, choice: Option<&str>) -> anyhow::Result<Base> {
    let names = bases.iter().map(|base| base.name.as_str()).collect::<Vec<_>>().join(", ");
    if bases.is_empty() {
        return Err(Exit::NoInput.error(format_args!("{BASES_INI}: offers no base")));
    }
    match choice {
        Some(name) if !is_name(name) => Err(Exit::Data.error(format_args!("choice.base: {NAME_RULE}"))),
        Some(name) => bases
            .into_iter()
            .find(|base| base.name == name)
            .ok_or_else(|| Exit::NoInput.error(format_args!("choice.base: {name} is not in {BASES_INI}; choose one of {names}"))),
        None => bases.into_iter().find(|base| base.default).ok_or_else(|| {
            Exit::Data.error(format_args!("choice.base: missing, and no base is the default; choose one of {names}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(name: &str, default: bool) -> (String, OfferedBase) {
        (name.into(), OfferedBase { name: "Title".into(), ostype: "linux".into(), default, generation: 7 })
    }

    fn bases(of: &[(&str, bool)]) -> Vec<Base> {
        check(of.iter().map(|(name, default)| offered(name, *default)).collect()).unwrap()
    }

    fn chosen(of: &[(&str, bool)], choice: Option<&str>) -> Result<String, (Exit, String)> {
        choose(bases(of), choice).map(|base| base.name).map_err(|error| (Exit::of(&error), error.to_string()))
    }

    #[test]
    fn the_choice_then_the_default_then_the_only_one() {
        let two = &[("windows", true), ("linux", false)];
        assert_eq!(chosen(two, Some("linux")), Ok("linux".into()));
        assert_eq!(chosen(two, None), Ok("windows".into()));
        assert_eq!(chosen(&[("linux", false)], None), Ok("linux".into()));
        assert_eq!(
            chosen(&[("windows", false), ("linux", false)], None),
            Err((Exit::Data, "choice.base: missing, and no base is the default; choose one of linux, windows".into()))
        );
        assert_eq!(
            chosen(two, Some("macos")),
            Err((Exit::NoInput, format!("choice.base: macos is not in {BASES_INI}; choose one of linux, windows")))
        );
        assert_eq!(chosen(&[], None).unwrap_err().0, Exit::NoInput);
        for name in ["", "../windows", "Windows", "windows@7", ".windows", "a/b", "a\0b"] {
            assert_eq!(chosen(two, Some(name)), Err((Exit::Data, format!("choice.base: {NAME_RULE}"))), "{name:?}");
        }
    }

    #[test]
    fn what_bases_ini_may_not_say() {
        let refused = |offered| check(offered).unwrap_err();
        assert_eq!(refused(vec![offered("..", false)]), format!("[base...]: {NAME_RULE}"));
        assert_eq!(refused(vec![offered(&"a".repeat(65), false)]), format!("[base.{}]: {NAME_RULE}", "a".repeat(65)));
        let (name, base) = offered("a", false);
        assert_eq!(
            refused(vec![(name, OfferedBase { generation: 1 << 53, ..base })]),
            "base.a.generation: above 9007199254740991, which not every program tells from the next"
        );
        assert_eq!(refused(vec![offered("b", true), offered("a", true)]), "base.a.default: b is the default already");
        let (name, base) = offered("a", false);
        assert_eq!(refused(vec![(name, OfferedBase { ostype: "Win 10".into(), ..base })]), format!("base.a.ostype: {NAME_RULE}"));
        let (name, base) = offered("a", false);
        assert_eq!(refused(vec![(name, OfferedBase { name: String::new(), ..base })]), "base.a.name: empty");
    }

    #[test]
    fn a_look_without_the_lock_is_of_one_state() {
        let root = tempfile::tempdir().unwrap();
        let common = Common { verbose: false, root: root.path().to_owned(), config: None };
        let offer = |generation: u64| {
            let text = format!("[base.a]\nname=A\nostype=x\ngeneration={generation}\n");
            std::fs::write(common.path(BASES_INI), text).unwrap();
        };
        std::fs::create_dir_all(root.path().join("qcow2/backing")).unwrap();
        offer(7);
        let mut seen = Vec::new();
        let look = |bases: &[Base]| {
            seen.push(bases[0].generation);
            offer(8); // a switch-over, which takes the image of 7 away
            if bases[0].generation == 8 { Ok("8") } else { Err(Exit::NoInput.error("no 7")) }
        };
        assert_eq!((steadily(&common, look).unwrap(), seen), ("8", vec![7, 8]));
    }
}
