//! The manifest of a federation's set of realms.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::description::{Description, Digest, Kind, check_count};

/// An eap-config has some kilobytes, and logos of 100 kB.
pub const EAP_CONFIG_MAX_BYTES: u64 = 4 << 20;

/// What a file system takes for a name.
const NAME_MAX_BYTES: usize = 255;

/// A manifest of kind `realms`: the eap-configs of institutions, which lie beside it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Realms {
    /// Counts up from 1 with every set.
    pub generation: u64,
    /// When the set was signed, RFC 3339.
    pub created_at: String,
    /// The eap-configs, by name.
    pub files: Vec<EapConfig>,
}

/// The eap-config of an institution, or of several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EapConfig {
    /// The name of the file, which is the last part of its address.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Of the file.
    pub sha256: Digest,
    /// The realms that it describes. A set has each once.
    pub realms: Vec<String>,
}

impl Description for Realms {
    const KIND: Kind = Kind::Realms;

    fn check(&self) -> Result<(), String> {
        check_count(self.generation, "generations")
            .map_err(|message| format!("generation: {message}"))?;
        // It would take every realm from every machine.
        if self.files.is_empty() {
            return Err("files: empty".into());
        }
        if !self.files.is_sorted_by(|a, b| a.name < b.name) {
            return Err("files: not in the order of their names, or one is there twice".into());
        }
        let mut realms = HashSet::new();
        for file in &self.files {
            file.check()
                .map_err(|message| format!("files: {message}"))?;
            if let Some(realm) = file.realms.iter().find(|realm| !realms.insert(*realm)) {
                return Err(format!("files: {realm} is there twice"));
            }
        }
        Ok(())
    }
}

/// What [`is_file_name`] asks for, in words.
pub const FILE_NAME_RULE: &str =
    "not a name for an address; A-Z, a-z, 0-9, dot, underscore and hyphen, the first no dot";

/// Whether a file's name can stand in an address as it is.
pub fn is_file_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_MAX_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(is_plain)
}

impl EapConfig {
    /// What is wrong with it, in words.
    fn check(&self) -> Result<(), String> {
        if !is_file_name(&self.name) {
            return Err(format!("name: {FILE_NAME_RULE}"));
        }
        if !(1..=EAP_CONFIG_MAX_BYTES).contains(&self.size_bytes) {
            return Err(format!("{}: empty, or larger than 4 MiB", self.name));
        }
        if self.realms.is_empty() {
            return Err(format!("{}: without a realm", self.name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Hex, parse};
    use crate::{Base, Keys, Signed};

    fn set() -> Realms {
        let file = |name: &str, realms: &[&str]| EapConfig {
            name: name.into(),
            size_bytes: 3000,
            sha256: Hex([0xab; 32]),
            realms: realms.iter().map(|realm| (*realm).into()).collect(),
        };
        Realms {
            generation: 3,
            created_at: "2026-11-29T00:00:00Z".into(),
            files: vec![
                file("uni-a.eap-config", &["uni-a.example"]),
                file("uni-b.eap-config", &["uni-b.example", "uni-c.example"]),
            ],
        }
    }

    #[test]
    fn a_set_of_realms_has_bytes_that_are_pinned() {
        let mut set = set();
        set.files.pop();
        let text = String::from_utf8(set.to_bytes().unwrap()).unwrap();
        let expected = format!(
            concat!(
                r#"{{"schema":1,"kind":"realms","generation":3,"created_at":"2026-11-29T00:00:00Z","#,
                r#""files":[{{"name":"uni-a.eap-config","size_bytes":3000,"sha256":"{}","realms":["uni-a.example"]}}]}}"#,
                "\n"
            ),
            "ab".repeat(32)
        );
        assert_eq!(text, expected);
        assert_eq!(parse::<Realms>(text.as_bytes()).unwrap(), set);
    }

    #[test]
    fn a_set_that_cannot_be_is_refused() {
        let wrong = |change: fn(&mut Realms)| {
            let mut set = set();
            change(&mut set);
            set.check().unwrap_err()
        };
        assert_eq!(set().check(), Ok(()));
        assert!(wrong(|set| set.generation = 0).starts_with("generation: 0"));
        assert_eq!(wrong(|set| set.files.clear()), "files: empty");
        assert!(wrong(|set| set.files.reverse()).contains("order"));
        assert!(wrong(|set| set.files[1].name = "uni-a.eap-config".into()).contains("twice"));
        assert!(wrong(|set| set.files[1].realms.push("uni-a.example".into())).contains("twice"));
        assert!(wrong(|set| set.files[1].realms.clear()).contains("without a realm"));
        assert!(wrong(|set| set.files[1].size_bytes = 0).contains("empty"));
        assert!(wrong(|set| set.files[1].size_bytes = 5 << 20).contains("larger"));
        for name in ["", "z/x", "..", "z x", "z?x", "z%2fx"] {
            let mut set = set();
            set.files[1].name = name.into();
            assert!(set.check().is_err(), "{name}");
        }
    }

    #[test]
    fn a_set_of_realms_is_believed_by_its_own_keys_only() {
        let directory = tempfile::tempdir().unwrap();
        let key = crate::key::tests::write_pair(directory.path(), "realms-1", 1);
        crate::key::tests::write_pair(directory.path(), "base-1", 2);
        let signed = Signed::seal(&set(), &key).unwrap();
        let keys = Keys::read(directory.path(), Kind::Realms).unwrap();
        assert_eq!(signed.verify::<Realms>(&keys).unwrap(), set());
        let bases = Keys::read(directory.path(), Kind::Base).unwrap();
        assert!(signed.verify::<Base>(&bases).is_err());
    }
}
