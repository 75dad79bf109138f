//! INI, the form of documents and configuration that people write: `[section]`, `key=value`, flat.
//!
//! A comment is a whole line. A value is the rest of its line without the white space around it;
//! backslashes, quotes, `#` and `;` belong to it. `true` and `false` are booleans, other values are
//! strings, which are parsed where the reader expects another type. The text is checked before rust-ini parses it, because rust-ini
//! joins lines that end in a backslash, takes a colon for an equals sign, and keeps duplicates.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};
use nix::libc;
use serde::de::DeserializeOwned;

use crate::exit::{Exit, io_error};
use crate::node::{Author, Node};

/// The sections of an INI text in their order, each a table of text.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, Node)>, String> {
    let text = clean(text)?;
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        ..ParseOption::default()
    };
    let parsed = Ini::load_from_str_opt(&text, options)
        .map_err(|error| format!("line {}: {}", error.line + 1, error.msg))?;
    let mut sections: Vec<(String, Node)> = Vec::new();
    let mut known_sections = HashSet::new();
    for (name, properties) in &parsed {
        let Some(name) = name else {
            match properties.iter().next() {
                Some((key, _)) => return Err(format!("{key}: outside of any section")),
                None => continue,
            }
        };
        if !known_sections.insert(name) {
            return Err(format!("[{name}]: given twice"));
        }
        let mut table: Vec<(String, Node)> = Vec::new();
        let mut known_keys = HashSet::new();
        for (key, value) in properties.iter() {
            if !known_keys.insert(key) {
                return Err(format!("{name}.{key}: given twice"));
            }
            table.push((key.to_owned(), Node::bare(value)));
        }
        sections.push((name.to_owned(), Node::Table(table)));
    }
    Ok(sections)
}

/// Refuses lines that rust-ini would silently read as something else. Returns the text without
/// comments and without the white space around lines, because rust-ini takes an indented comment or
/// section for a key that the next lines belong to.
fn clean(text: &str) -> Result<String, String> {
    let mut clean = String::new();
    if text.starts_with('\u{feff}') {
        return Err("starts with a byte-order mark; save it as plain UTF-8".into());
    }
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with(';') {
            clean.push('\n'); // keeps the line numbers
            continue;
        }
        clean.extend([line, "\n"]);
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("line {number}: a control character"));
        }
        if line.ends_with('\\') {
            return Err(format!(
                "line {number}: ends in a backslash; a value is one line"
            ));
        }
        if line.starts_with('[') {
            // rust-ini ends a section's name at its first bracket, and takes the rest for the next
            // line.
            let name = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            if name.is_none_or(|name| name.is_empty() || name.contains(['[', ']'])) {
                return Err(format!("line {number}: a section is only [name]"));
            }
            continue;
        }
        match line.split_once('=') {
            None => {
                return Err(format!(
                    "line {number}: not a [section], a key=value or a comment"
                ));
            }
            Some((key, _)) if key.contains(':') => {
                return Err(format!("line {number}: a colon before the first ="));
            }
            Some((key, _)) if key.trim().is_empty() => {
                return Err(format!("line {number}: no key before the ="));
            }
            Some(_) => {}
        }
    }
    Ok(clean)
}

/// A configuration file, whose sections are taken out one by one. The remaining ones are unknown:
/// [`Configuration::end`] refuses them.
#[derive(Debug)]
pub struct Configuration {
    path: PathBuf,
    sections: Vec<(String, Node)>,
}

impl Configuration {
    /// Reads the file; empty when it does not exist. Status 78 when it is invalid.
    pub fn read(path: &Path) -> anyhow::Result<Configuration> {
        match Configuration::require(path) {
            Err(error) if Exit::of(&error) == Exit::NoInput => Ok(Configuration {
                path: path.to_owned(),
                sections: Vec::new(),
            }),
            configuration => configuration,
        }
    }

    /// The same, for a required file. Status 66 when it does not exist.
    pub fn require(path: &Path) -> anyhow::Result<Configuration> {
        Configuration::parse(path, &read_text(path)?)
    }

    fn parse(path: &Path, text: &str) -> anyhow::Result<Configuration> {
        let mut configuration = Configuration {
            path: path.to_owned(),
            sections: Vec::new(),
        };
        configuration.sections = parse(text).map_err(|message| configuration.wrong(message))?;
        Ok(configuration)
    }

    /// Takes out `[name]`; `None` when it does not exist.
    pub fn section<T: DeserializeOwned>(&mut self, name: &str) -> anyhow::Result<Option<T>> {
        let Some(at) = self
            .sections
            .iter()
            .position(|(section, _)| section == name)
        else {
            return Ok(None);
        };
        let (_, node) = self.sections.remove(at);
        node.read(Author::Person)
            .map(Some)
            .map_err(|error| self.wrong(error.within(name)))
    }

    /// Takes out the entries of one kind, in the order of the file: `[base.windows]` is the entry
    /// `windows` of kind `base`.
    pub fn table<T: DeserializeOwned>(&mut self, kind: &str) -> anyhow::Result<Vec<(String, T)>> {
        let name = |section: &str| {
            let name = section
                .strip_prefix(kind)?
                .strip_prefix('.')
                .filter(|name| !name.is_empty())?;
            Some(name.to_owned())
        };
        let mut entries = Vec::new();
        for (section, node) in mem::take(&mut self.sections) {
            match name(&section) {
                Some(name) => {
                    let entry = node
                        .read(Author::Person)
                        .map_err(|error| self.wrong(error.within(&section)))?;
                    entries.push((name, entry));
                }
                None => self.sections.push((section, node)),
            }
        }
        Ok(entries)
    }

    /// Status 78 when a section is left.
    pub fn end(self) -> anyhow::Result<()> {
        match self.sections.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.wrong(format_args!("[{name}]: unknown section"))),
        }
    }

    /// Takes out the entries of one kind, and refuses any other section.
    fn only<T: DeserializeOwned>(mut self, kind: &str) -> anyhow::Result<Vec<(String, T)>> {
        let entries = self.table(kind)?;
        match self.sections.first() {
            None => Ok(entries),
            Some((section, _)) => {
                Err(self.wrong(format_args!("[{section}]: expected [{kind}.NAME]")))
            }
        }
    }

    fn wrong(&self, message: impl fmt::Display) -> anyhow::Error {
        Exit::Config.error(format_args!("{}: {message}", self.path.display()))
    }
}

/// Above any configuration written by hand.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// Reads the text of a configuration file. Status 66 when it does not exist, 78 when it is not
/// text, a directory, below a missing directory, a device or a FIFO (which could be read without
/// end), larger than 16 MiB, or a dangling link.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    let wrong = |why: &str| Exit::Config.error(format_args!("reading {}: {why}", path.display()));
    match fs::metadata(path) {
        Ok(file) if !file.is_file() && !file.is_dir() => return Err(wrong("not a file")),
        Ok(file) if file.is_file() && file.len() > FILE_MAX_BYTES => {
            return Err(wrong("larger than 16 MiB"));
        }
        _ => {}
    }
    let exit_of = |error: &io::Error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            Exit::Config
        }
        _ if error.raw_os_error() == Some(libc::ELOOP) => Exit::Config,
        _ => Exit::of_read(error),
    };
    fs::read_to_string(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound && path.is_symlink() {
            return wrong("a symbolic link that leads to nothing");
        }
        io_error(error, exit_of, format_args!("reading {}", path.display()))
    })
}

/// Status 66, with the way out, when a configuration file does not exist.
pub fn require(path: &Path, way_out: &str) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Exit::NoInput.error(
            format_args!("reading {}: no such file; {way_out}", path.display()),
        )),
        _ => Ok(()),
    }
}

/// Reads a configuration file with entries of one kind: `[base.windows]` is the entry `windows` of
/// kind `base`.
///
/// Status 66 when the file does not exist, 78 when it is invalid.
pub fn read_table<T: DeserializeOwned>(
    path: &Path,
    kind: &str,
) -> anyhow::Result<Vec<(String, T)>> {
    Configuration::require(path)?.only(kind)
}

/// The same for a text that is, or will be, in `path`.
pub fn parse_table<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    kind: &str,
) -> anyhow::Result<Vec<(String, T)>> {
    Configuration::parse(path, text)?.only(kind)
}

/// Reads a configuration file of one section; `None` when the file or the section does not exist.
///
/// Status 78 when the file is invalid.
pub fn read_section<T: DeserializeOwned>(path: &Path, section: &str) -> anyhow::Result<Option<T>> {
    let mut file = Configuration::read(path)?;
    let found = file.section(section)?;
    file.end()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn value(text: &str) -> Result<String, String> {
        let sections = parse(&format!("[s]\nk={text}\n"))?;
        match sections[0].1.get("k") {
            Some(Node::String(value)) => Ok(value.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_value_is_the_rest_of_the_line() {
        for text in [
            r#"a\b"c""#,
            "x ; y # z",
            "a=b:c",
            "'quoted'",
            r"C:\dir",
            "ünïcode",
            "",
            "[x]",
            "a\tb",
        ] {
            assert_eq!(value(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn ambiguous_lines_are_refused() {
        for (text, message) in [
            (
                "\u{feff}[s]\nk=v\n",
                "starts with a byte-order mark; save it as plain UTF-8",
            ),
            (
                "[s]\nk=v\\\nw=x\n",
                "line 2: ends in a backslash; a value is one line",
            ),
            ("[s]\nk: v=x\n", "line 2: a colon before the first ="),
            (
                "[s]\nk\n",
                "line 2: not a [section], a key=value or a comment",
            ),
            ("[s\nk=v\n", "line 1: a section is only [name]"),
            ("[]\n", "line 1: a section is only [name]"),
            (
                "[model.System Product Name]]\nmemory=4G\n",
                "line 1: a section is only [name]",
            ),
            ("[a]b]\n", "line 1: a section is only [name]"),
            ("[a[b]\n", "line 1: a section is only [name]"),
            ("[s]\n[k]=[v]\n", "line 2: a section is only [name]"),
            ("[s]\n=v\n", "line 2: no key before the ="),
            ("[s]\nk=v\nk=w\n", "s.k: given twice"),
            ("[s]\nk=v\n[s]\nl=w\n", "[s]: given twice"),
            ("k=v\n", "k: outside of any section"),
            ("[s]\nk=a\0b\n", "line 2: a control character"),
        ] {
            assert_eq!(parse(text).unwrap_err(), message, "{text:?}");
        }
    }

    #[test]
    fn white_space_around_a_line_says_nothing() {
        let lines = [
            "# a = b",
            "[s]",
            "; c\r[t]\rx=y",
            "k=v",
            "# the next",
            "[t]",
            "k = w",
            "; the end",
        ];
        let plain = parse(&lines.join("\n")).unwrap();
        assert_eq!(
            plain
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>(),
            ["s", "t"]
        );
        for space in [
            " ", "\t", " \t ", "\u{a0}", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{3000}",
        ] {
            let spaced = |before: &str, after: &str| {
                lines
                    .map(|line| format!("{before}{line}{after}\n"))
                    .concat()
            };
            for text in [
                spaced(space, ""),
                spaced("", space),
                spaced(space, space),
                lines.join(&format!("\n{space}\r\n{space}")),
            ] {
                assert_eq!(parse(&text).as_ref(), Ok(&plain), "{text:?}");
            }
        }
    }

    #[test]
    fn named_things_have_a_section_each() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Base {
            generation: u64,
        }
        let file = |text: &str| Configuration::parse(Path::new("x.ini"), text);
        let table = |text: &str| {
            file(text)
                .and_then(|mut file| file.table::<Base>("base"))
                .map_err(|error| error.to_string())
        };
        let bases =
            table("# bases\n[base.windows]\ngeneration = 7\n\n[base.a.b c]\ngeneration=1\n");
        assert_eq!(
            bases.unwrap(),
            [
                ("windows".into(), Base { generation: 7 }),
                ("a.b c".into(), Base { generation: 1 })
            ]
        );
        assert_eq!(
            table("[base.w]\ngeneration=x\n").unwrap_err(),
            "x.ini: base.w.generation: expected a whole number"
        );
        assert_eq!(
            table("[base.w]\nx=1\n").unwrap_err(),
            "x.ini: base.w.x: unknown key"
        );

        let mut mixed =
            file("[other]\ngeneration=2\n[base.w]\ngeneration=1\n[x]\n[base.]\n").unwrap();
        assert_eq!(
            mixed.section("other").unwrap(),
            Some(Base { generation: 2 })
        );
        assert_eq!(mixed.section::<Base>("other").unwrap(), None);
        assert_eq!(mixed.table::<Base>("base").unwrap().len(), 1);
        assert_eq!(
            mixed.end().unwrap_err().to_string(),
            "x.ini: [x]: unknown section"
        );
    }

    #[test]
    fn a_file_of_one_kind_has_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.ini");
        let error = |result: anyhow::Result<()>| {
            let error = result.unwrap_err();
            (
                Exit::of(&error),
                format!("{error:#}").replace(&format!("{}: ", path.display()), ""),
            )
        };
        let table = || read_table::<HashMap<String, String>>(&path, "base").map(drop);
        let section = || read_section::<HashMap<String, String>>(&path, "qemu").map(drop);
        assert_eq!(error(table()).0, Exit::NoInput);
        section().unwrap();
        fs::write(&path, "[windows]\n").unwrap();
        assert_eq!(
            error(table()),
            (Exit::Config, "[windows]: expected [base.NAME]".into())
        );
        assert_eq!(
            error(section()),
            (Exit::Config, "[windows]: unknown section".into())
        );
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(error(table()).0, Exit::Config);
        assert_eq!(error(section()).0, Exit::Config);
        let in_a_file =
            read_section::<HashMap<String, String>>(&path.join("y.ini"), "qemu").unwrap_err();
        assert_eq!(Exit::of(&in_a_file), Exit::Config);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(
            error(table()),
            (Exit::Config, "reading Is a directory (os error 21)".into())
        );
        assert_eq!(error(section()).0, Exit::Config);
        fs::remove_dir(&path).unwrap();
        for target in ["nowhere", "x.ini"] {
            std::os::unix::fs::symlink(target, &path).unwrap();
            assert_eq!(
                (error(table()).0, error(section()).0),
                (Exit::Config, Exit::Config),
                "{target}"
            );
            fs::remove_file(&path).unwrap();
        }
        std::os::unix::fs::symlink("/dev/full", &path).unwrap(); // reads as zeros, for ever
        assert_eq!(error(table()), (Exit::Config, "reading not a file".into()));
        fs::remove_file(&path).unwrap();
        fs::File::create(&path)
            .unwrap()
            .set_len(FILE_MAX_BYTES + 1)
            .unwrap();
        assert_eq!(
            error(section()),
            (Exit::Config, "reading larger than 16 MiB".into())
        );
    }

    proptest! {
        #[test]
        fn any_one_line_value_comes_back_trimmed(text in "[^\\p{C}\\\\]{0,40}") {
            prop_assert_eq!(value(&text).unwrap(), text.trim());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|[\n\\[\\]=;#:\\\\]){0,200}") {
            let _ = parse(&text);
        }
    }
}
