//! Input: the sections that describe an installation. Every value is checked against a strict
//! pattern, because it ends up in a command of a machine on which it runs as administrator.

use std::fmt;
use std::marker::PhantomData;

use jsonpipe::{Document, Exit, is_hidden, shown};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The section that is consumed, and written again without its product key.
pub const SECTION: &str = "windows";

/// The sections of a description; `image` and `programs` are those of `mkimg-torrent create`.
pub const SECTIONS: [&str; 9] = [
    "image",
    SECTION,
    "chocolatey",
    "wpkg",
    "msi",
    "services",
    "tasks",
    "apps",
    "programs",
];

const GIB: u64 = 1 << 30;

/// The time zones that Windows knows, one a line: `other` of each zone for the territory 001 in
/// windowsZones.xml of Unicode's CLDR, 2025; and the two that end with "- Old" in "Default Time
/// Zones" of Microsoft's documentation, which belong to no territory.
const TIME_ZONES: &str = include_str!("time-zones.txt");

/// Names that a new account cannot have, in lower case, one a line: accounts and groups that
/// Windows makes, in languages of its media, and words that stand for accounts: those in English
/// are in "Well-known SIDs" of Microsoft's documentation. Longer ones than an account can have are
/// left out.
const TAKEN: &str = include_str!("taken-names.txt");

/// The section `windows`.
#[derive(Debug, Deserialize)]
pub struct Windows {
    /// The name of the edition in the installation medium: `Windows 10 Education`.
    pub edition: String,
    /// The key for setup: five groups of five letters and digits.
    pub product_key: Option<String>,
    /// The language of the installation medium: `pt-BR`.
    pub language: String,
    /// The keyboard, as Windows numbers them: `0416:00010416` is ABNT2.
    pub keyboard: String,
    /// The time zone, as Windows names it: `E. South America Standard Time`.
    pub time_zone: String,
    /// The account that is logged on after every start, an administrator without a password.
    pub user: String,
    /// The size of the disk.
    pub disk_bytes: u64,
    /// Whether the machine has a network during the installation.
    #[serde(default)]
    pub network: bool,
}

impl Windows {
    /// Checks what the types cannot express; status 65.
    pub fn check(&self) -> anyhow::Result<()> {
        let edition = self.edition.trim();
        let line = edition == self.edition && !edition.is_empty() && edition.len() <= 128;
        if !line || edition.contains(is_hidden) {
            return wrong("edition", "not one line of at most 128 bytes");
        }
        if self
            .product_key
            .as_deref()
            .is_some_and(|key| !is_product_key(key))
        {
            return wrong(
                "product_key",
                "not five groups of five capital letters and digits, with hyphens between them",
            );
        }
        if !is_language(&self.language) {
            return wrong(
                "language",
                "not a language of a medium, which has a region, such as pt-BR or sr-Latn-RS",
            );
        }
        if !is_keyboard(&self.keyboard) {
            return wrong("keyboard", "not a keyboard such as 0416:00010416");
        }
        if !TIME_ZONES.lines().any(|zone| zone == self.time_zone) {
            return wrong(
                "time_zone",
                "not a time zone of Windows, such as UTC or E. South America Standard Time; tzutil /l lists them",
            );
        }
        if !is_account(&self.user) {
            return wrong(
                "user",
                "not the name of a new account: at most 20 characters, none of \"/\\[]:;|=,+*?<>%@, no point at its end, no name that Windows itself uses, such as Administrador",
            );
        }
        if !(32 * GIB..=1024 * GIB).contains(&self.disk_bytes)
            || !self.disk_bytes.is_multiple_of(512)
        {
            return wrong(
                "disk_bytes",
                "not from 34359738368 (32 GiB) to 1099511627776 (1 TiB), in sectors of 512 bytes",
            );
        }
        Ok(())
    }
}

/// The parts of Windows that are switched off: the sections `services`, `tasks` and `apps`.
#[derive(Debug)]
pub struct Trim {
    /// Services with their new start type.
    pub services: Vec<(String, Start)>,
    /// Scheduled tasks, by their whole path.
    pub tasks: Vec<String>,
    /// Packages of apps, by their exact name.
    pub apps: Vec<String>,
}

/// The start type of a service.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// It never starts.
    Disabled,
    /// It starts when a program needs it.
    Manual,
}

/// The only value of a task.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Off {
    Disabled,
}

/// The only value of an app.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Gone {
    Removed,
}

impl Trim {
    /// Reads the sections; each may be absent. Status 65 when one is invalid.
    pub fn read(document: &Document) -> anyhow::Result<Trim> {
        let services: Vec<(String, Start)> = table(
            document,
            "services",
            "letters, digits, points, hyphens and underscores, as Get-Service prints it",
            |name| is_word(name, b"._-", 256),
        )?;
        let tasks: Vec<(String, Off)> = table(
            document,
            "tasks",
            "a whole path, which begins with a backslash, as schtasks /query prints it",
            |path| {
                path.strip_prefix('\\')
                    .is_some_and(|rest| is_word(rest, b"\\ ._-(){}", 256))
            },
        )?;
        let apps: Vec<(String, Gone)> = table(
            document,
            "apps",
            "letters, digits, points and hyphens, as Get-AppxPackage prints it",
            |name| is_word(name, b".-", 128),
        )?;
        Ok(Trim {
            services,
            tasks: tasks.into_iter().map(|(path, _)| path).collect(),
            apps: apps.into_iter().map(|(name, _)| name).collect(),
        })
    }
}

/// The programs to install: the sections `chocolatey`, `wpkg` and `msi`, each in its order.
#[derive(Debug)]
pub struct Programs {
    /// Packages of Chocolatey with their version, Chocolatey itself first.
    pub chocolatey: Vec<(String, String)>,
    /// Packages of WPKG by their identifier.
    pub wpkg: Vec<String>,
    /// Installers of Windows Installer, each with its preset properties.
    pub msi: Vec<(String, String)>,
}

/// The section `wpkg`.
#[derive(Debug, Default, Deserialize)]
struct Wpkg {
    packages: Vec<String>,
}

/// The package that installs Chocolatey itself.
const CHOCOLATEY: &str = "chocolatey";

impl Programs {
    /// Reads the sections; each may be absent. Status 65 when one is invalid.
    pub fn read(document: &Document) -> anyhow::Result<Programs> {
        let mut chocolatey: Vec<(String, String)> = table(
            document,
            "chocolatey",
            "letters, digits, points, hyphens and underscores",
            |name| is_word(name, b"._-", 100),
        )?;
        if let Some((name, _)) = chocolatey
            .iter()
            .find(|(_, version)| !is_word(version, b".-+", 64))
        {
            return refuse(&format!("chocolatey.{name}"), "not one version");
        }
        // The others need it.
        chocolatey.sort_by_key(|(name, _)| name != CHOCOLATEY);
        if chocolatey
            .first()
            .is_some_and(|(name, _)| name != CHOCOLATEY)
        {
            return refuse(
                "chocolatey.chocolatey",
                "missing; name its version, which installs the others",
            );
        }
        let wpkg: Wpkg = document.read("wpkg")?.unwrap_or_default();
        if !wpkg
            .packages
            .iter()
            .all(|package| is_word(package, b"._-", 100))
        {
            return refuse("wpkg.packages", "not the identifiers of packages");
        }
        let msi: Vec<(String, String)> = table(
            document,
            "msi",
            "the name of a file, without a directory, ending in .msi",
            |name| name.ends_with(".msi") && is_word(name, b" ._-+()", 100),
        )?;
        if let Some((name, _)) = msi
            .iter()
            .find(|(_, properties)| !are_properties(properties))
        {
            return refuse(
                &format!("msi.{name}"),
                "not properties as NAME=VALUE, in capital letters, a value with spaces in quotes",
            );
        }
        Ok(Programs {
            chocolatey,
            wpkg: wpkg.packages,
            msi,
        })
    }

    /// The files that the institution gives, relative to their directory.
    pub fn files(&self) -> Vec<String> {
        let packages = self
            .chocolatey
            .iter()
            .map(|(name, version)| format!("chocolatey/{name}.{version}.nupkg"));
        let wpkg = self.wpkg.first().map(|_| "wpkg/wpkg.js".to_owned());
        let installers = self.msi.iter().map(|(name, _)| format!("msi/{name}"));
        packages.chain(wpkg).chain(installers).collect()
    }
}

/// Reads a section of `name=value` in its order. The names are those that `is_name` takes, whose
/// rule `names` says in words.
fn table<V: for<'de> Deserialize<'de>>(
    document: &Document,
    section: &str,
    names: &str,
    is_name: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<(String, V)>> {
    let table: Ordered<V> = document.read(section)?.unwrap_or_default();
    match table.0.iter().find(|(name, _)| !is_name(name)) {
        None => Ok(table.0),
        Some((name, _)) => refuse(
            section,
            &format!("{}: not a name there, which is {names}", shown(name)),
        ),
    }
}

fn refuse<T>(key: &str, what: &str) -> anyhow::Result<T> {
    Err(Exit::Data.error(format_args!("{key}: {what}")))
}

fn wrong(key: &str, what: &str) -> anyhow::Result<()> {
    refuse(&format!("{SECTION}.{key}"), what)
}

/// ASCII letters and digits, and the bytes of `others`; not empty, and without a space at an end.
fn is_word(text: &str, others: &[u8], max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.trim() == text
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

fn is_product_key(key: &str) -> bool {
    let is_group = |group: &str| {
        group.len() == 5
            && group
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    key.split('-').count() == 5 && key.split('-').all(is_group)
}

fn is_keyboard(keyboard: &str) -> bool {
    let is_number = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    keyboard
        .split_once(':')
        .is_some_and(|(language, layout)| is_number(language, 4) && is_number(layout, 8))
}

/// A language tag (BCP 47) as media of Windows have it: language, perhaps a script, and region.
fn is_language(tag: &str) -> bool {
    let is_letters = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let is_region = |part: &str| {
        is_letters(part, 2..=2) || (part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit()))
    };
    match tag.split('-').collect::<Vec<_>>()[..] {
        [language, region] => is_letters(language, 2..=3) && is_region(region),
        [language, script, region] => {
            is_letters(language, 2..=3) && is_letters(script, 4..=4) && is_region(region)
        }
        _ => false,
    }
}

/// Windows' rule for names of accounts, of which none is there already.
fn is_account(name: &str) -> bool {
    let lower_case = name.to_lowercase();
    let is_taken = TAKEN.lines().any(|taken| taken == lower_case);
    (1..=20).contains(&name.chars().count())
        && name.trim() == name
        && !name.ends_with('.')
        && !is_taken
        && !name.contains(|c: char| is_hidden(c) || "\"/\\[]:;|=,+*?<>%@".contains(c))
}

/// Public properties of Windows Installer: `NAME=VALUE`, with spaces between them, in ASCII. No
/// other word is an option of msiexec.
fn are_properties(text: &str) -> bool {
    let mut quoted = false;
    let words = text.split(|c: char| {
        quoted ^= c == '"';
        c == ' ' && !quoted
    });
    let is_property = |word: &str| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|byte| {
                byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.')
            })
    };
    let quotes_are_paired = text.matches('"').count().is_multiple_of(2);
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    printable && quotes_are_paired && words.filter(|word| !word.is_empty()).all(is_property)
}

/// A table that keeps its order.
#[derive(Debug)]
struct Ordered<V>(Vec<(String, V)>);

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Ordered<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = entries.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }

        deserializer.deserialize_map(Pairs(PhantomData))
    }
}
