//! The content of a manifest of a base.

use std::fmt;

use jsonpipe::Exit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The version of the manifest that this release writes and reads. An added key does not raise it.
const SCHEMA: u64 = 1;

/// The maximum of numbers in a manifest and in everything derived from it. Larger numbers change
/// where JSON is read into floating point, as in jq: 2^53 + 1 and 2^53 would be the same
/// generation.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Checks a counter: `Err`, in words, unless it is 1 to [`NUMBER_MAX`].
pub fn check_count(number: u64, what: &str) -> Result<(), String> {
    match number {
        0 => Err(format!("0; {what} count from 1")),
        1..=NUMBER_MAX => Ok(()),
        _ => Err(format!(
            "more than {NUMBER_MAX}, the largest number that every reader of JSON keeps"
        )),
    }
}

/// Checks a size; the error is in words.
pub(crate) fn check_bytes(bytes: u64, empty: &str) -> Result<(), String> {
    match bytes {
        0 => Err(empty.into()),
        1..=NUMBER_MAX => Ok(()),
        _ => Err(format!("more than {NUMBER_MAX} bytes")),
    }
}

/// The purpose of an image or of a set of realms, which determines its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A disk that users' volumes are made on; keys `base-*.pub`.
    Base,
    /// The root of the host, for a slot; keys `host-*.pub`.
    Host,
    /// The root of the host, for a ZFS pool; keys `host-*.pub`.
    ZfsHost,
    /// Whom logins trust, for the institutions of a federation; keys `realms-*.pub`.
    Realms,
}

impl Kind {
    /// Its spelling: `base`, `host`, `zfs_host`, `realms`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Base => "base",
            Kind::Host => "host",
            Kind::ZfsHost => "zfs_host",
            Kind::Realms => "realms",
        }
    }

    /// The prefix of its keys' names, before a hyphen. A key for the host's root is valid for both
    /// forms of it.
    pub fn keys(self) -> &'static str {
        match self {
            Kind::Base => "base",
            Kind::Host | Kind::ZfsHost => "host",
            Kind::Realms => "realms",
        }
    }
}

/// The format of an image's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// QEMU's, version 2 or 3.
    Qcow2,
    /// The bytes of the disk.
    Raw,
}

impl Format {
    /// Its spelling, which is also the file name's ending: `qcow2`, `raw`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

/// A manifest of kind `base`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Base {
    /// Its name in paths and documents; [`is_name`].
    pub name: String,
    /// Its title: `Windows 10`.
    pub title: String,
    /// The kind of guest, which determines its profile: `windows`; [`is_name`].
    pub ostype: String,
    /// Whether it is used when the user chooses none.
    pub default: bool,
    /// Counts up from 1 with every image of this name; [`check_count`].
    pub generation: u64,
    /// The format of the file.
    pub format: Format,
    /// The length of the file.
    pub size_bytes: u64,
    /// The size of the disk as the guest sees it.
    pub virtual_bytes: u64,
    /// The digest of the file.
    pub sha256: Digest,
    /// The digest of the block map (crate block-map).
    pub blocks_sha256: Digest,
    /// The infohash of the file's torrent.
    pub infohash: InfoHash,
    /// The infohash of the block map's torrent.
    pub blocks_infohash: InfoHash,
    /// The PC models that it is for, as in their firmware; empty for all.
    pub models: Vec<String>,
    /// The programs installed in it.
    pub programs: Vec<Program>,
    /// The time the image was made, RFC 3339.
    pub created_at: String,
}

/// A program installed in an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Program {
    /// The program, as the description of the image names it.
    pub name: String,
    /// Its version, as its maker writes it.
    pub version: String,
}

/// The beginning of every manifest.
#[derive(Deserialize)]
struct Opening {
    schema: u64,
    kind: Kind,
}

/// The content of a manifest for one kind of image, or for a set of realms.
pub trait Description: Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;

    /// Checks that the types cannot express; the error names the key and its fault.
    fn check(&self) -> Result<(), String>;

    /// The bytes to sign: one line of JSON. Status 65 when the description is invalid.
    fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Whole<'a, D> {
            schema: u64,
            kind: Kind,
            #[serde(flatten)]
            description: &'a D,
        }
        let what = match Self::KIND {
            Kind::Base | Kind::Host | Kind::ZfsHost => "image",
            Kind::Realms => "realms",
        };
        self.check().map_err(|message| {
            Exit::Data.error(format_args!("describing the {what}: {message}"))
        })?;
        let mut bytes = serde_json::to_vec(&Whole {
            schema: SCHEMA,
            kind: Self::KIND,
            description: self,
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Parses signed bytes of this kind. Status 65 when they are of another kind, or invalid.
pub(crate) fn parse<D: Description>(bytes: &[u8]) -> anyhow::Result<D> {
    let wrong = |message: &str| Exit::Data.error(format_args!("reading the manifest: {message}"));
    let json = |error: serde_json::Error| wrong(&error.to_string());
    let opening: Opening = serde_json::from_slice(bytes).map_err(json)?;
    if opening.schema != SCHEMA {
        return Err(wrong(&format!(
            "schema: not {SCHEMA}, the one that this release knows"
        )));
    }
    if opening.kind != D::KIND {
        return Err(wrong(&format!(
            "kind: it describes a {}, not a {}",
            opening.kind.as_str(),
            D::KIND.as_str()
        )));
    }
    let description: D = serde_json::from_slice(bytes).map_err(json)?;
    description.check().map_err(|message| wrong(&message))?;
    Ok(description)
}

impl Description for Base {
    const KIND: Kind = Kind::Base;

    fn check(&self) -> Result<(), String> {
        for (key, value) in [("name", &self.name), ("ostype", &self.ostype)] {
            if !is_name(value) {
                return Err(format!("{key}: {NAME_RULE}"));
            }
        }
        // The title becomes a line of bases.ini, whose values are one line without white space
        // around them.
        if self.title.is_empty()
            || self.title.trim() != self.title
            || self.title.contains(|c: char| c.is_control())
        {
            return Err("title: empty, or not one line without white space around it".into());
        }
        if self.title.ends_with('\\') {
            return Err("title: ends in a backslash".into());
        }
        check_count(self.generation, "generations")
            .map_err(|message| format!("generation: {message}"))?;
        for (key, bytes) in [
            ("size_bytes", self.size_bytes),
            ("virtual_bytes", self.virtual_bytes),
        ] {
            check_bytes(bytes, "an empty image is no disk")
                .map_err(|message| format!("{key}: {message}"))?;
        }
        if self.format == Format::Raw && self.size_bytes != self.virtual_bytes {
            return Err("virtual_bytes: a raw image is as large as its disk".into());
        }
        Ok(())
    }
}

/// The rule of [`is_name`], in words.
pub const NAME_RULE: &str =
    "not a name; 1 to 64 of a-z, 0-9, dot, underscore and hyphen, the first a letter or digit";

/// A name is part of paths: it cannot be another directory or a hidden file, and has no `@`, which
/// separates it in a volume's name.
pub fn is_name(name: &str) -> bool {
    let inner =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    name.len() <= 64
        && name.bytes().all(inner)
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// SHA-256.
pub type Digest = Hex<32>;

/// The infohash of a torrent, version 1: SHA-1 of its info dictionary (BEP 3).
pub type InfoHash = Hex<20>;

/// N bytes, written in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Hex<N> {
    /// Parses 2 N digits, lower case only, so that each value has one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; N];
        if text.len() != 2 * N {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Hex(bytes))
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Hex::parse(&text)
            .ok_or_else(|| de::Error::custom(format_args!("expected {} digits 0-9 and a-f", 2 * N)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn base() -> Base {
        Base {
            name: "windows".into(),
            title: "Windows 10".into(),
            ostype: "windows".into(),
            default: true,
            generation: 7,
            format: Format::Qcow2,
            size_bytes: 42_949_672_960,
            virtual_bytes: 85_899_345_920,
            sha256: Hex([0xab; 32]),
            blocks_sha256: Hex([1; 32]),
            infohash: Hex([2; 20]),
            blocks_infohash: Hex([3; 20]),
            models: vec!["OptiPlex 7010".into()],
            programs: vec![Program {
                name: "R".into(),
                version: "4.5".into(),
            }],
            created_at: "2026-11-23T00:00:00Z".into(),
        }
    }

    fn parse(text: &str) -> Result<Base, String> {
        super::parse(text.as_bytes()).map_err(|error| {
            assert_eq!(Exit::of(&error), Exit::Data);
            format!("{error:#}")
        })
    }

    #[test]
    fn its_bytes_are_pinned() {
        let text = String::from_utf8(base().to_bytes().unwrap()).unwrap();
        let expected = format!(
            concat!(
                r#"{{"schema":1,"kind":"base","name":"windows","title":"Windows 10","ostype":"windows","default":true,"#,
                r#""generation":7,"format":"qcow2","size_bytes":42949672960,"virtual_bytes":85899345920,"sha256":"{}","#,
                r#""blocks_sha256":"{}","infohash":"{}","blocks_infohash":"{}","models":["OptiPlex 7010"],"#,
                r#""programs":[{{"name":"R","version":"4.5"}}],"created_at":"2026-11-23T00:00:00Z"}}"#,
                "\n"
            ),
            "ab".repeat(32),
            "01".repeat(32),
            "02".repeat(20),
            "03".repeat(20)
        );
        assert_eq!(text, expected);
        assert_eq!(parse(&text).unwrap(), base());
        // Keys added by a newer release are ignored.
        assert_eq!(
            parse(&text.replacen('{', r#"{"new":[1],"#, 1)).unwrap(),
            base()
        );
    }

    #[test]
    fn descriptions_refuse_impossible_values() {
        let text = String::from_utf8(base().to_bytes().unwrap()).unwrap();
        for (from, to, message) in [
            (
                "\"schema\":1",
                "\"schema\":2",
                "schema: not 1, the one that this release knows",
            ),
            (
                "\"kind\":\"base\"",
                "\"kind\":\"host\"",
                "kind: it describes a host, not a base",
            ),
            (
                "\"name\":\"windows\"",
                "\"name\":\"../windows\"",
                &format!("name: {NAME_RULE}"),
            ),
            (
                "\"ostype\":\"windows\"",
                "\"ostype\":\"\"",
                &format!("ostype: {NAME_RULE}"),
            ),
            (
                "Windows 10",
                "Windows\\n[base.x]",
                "title: empty, or not one line without white space around it",
            ),
            ("Windows 10", "Windows\\\\", "title: ends in a backslash"),
            ("42949672960", "0", "size_bytes: an empty image is no disk"),
            (
                "85899345920",
                "9007199254740992",
                "virtual_bytes: more than 9007199254740991 bytes",
            ),
            (
                "\"generation\":7",
                "\"generation\":0",
                "generation: 0; generations count from 1",
            ),
            (
                "\"generation\":7",
                "\"generation\":9007199254740992",
                "generation: more than 9007199254740991, the largest number that every reader of JSON keeps",
            ),
            (
                "qcow2",
                "raw",
                "virtual_bytes: a raw image is as large as its disk",
            ),
        ] {
            assert_eq!(
                parse(&text.replacen(from, to, 1)).unwrap_err(),
                format!("reading the manifest: {message}")
            );
        }
        for (from, to) in [
            ("abab", "ABab"),
            ("abab", "ab"),
            ("{", "["),
            (",\"generation\":7", ""),
            ("7", "-7"),
            ("true", "1"),
        ] {
            assert!(parse(&text.replacen(from, to, 1)).is_err(), "{from} {to}");
        }
        assert!(
            Base {
                title: String::new(),
                ..base()
            }
            .to_bytes()
            .is_err()
        );
        let largest = Base {
            generation: NUMBER_MAX,
            ..base()
        };
        assert_eq!(
            parse(&String::from_utf8(largest.to_bytes().unwrap()).unwrap()).unwrap(),
            largest
        );
    }

    #[test]
    fn a_name_is_no_path() {
        assert!(["windows", "debian-12.2", "0"].into_iter().all(is_name));
        let long = "a".repeat(65);
        assert!(
            ![
                "", "..", ".windows", "a/b", "Windows", "a@b", "a\0", "é", &long
            ]
            .into_iter()
            .any(is_name)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = super::parse::<Base>(&bytes);
        }

        #[test]
        fn any_digest_comes_back(bytes in any::<[u8; 20]>()) {
            prop_assert_eq!(Hex::parse(&Hex(bytes).to_string()), Some(Hex(bytes)));
        }
    }
}
