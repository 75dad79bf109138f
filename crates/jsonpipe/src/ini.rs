//! INI, the documents and configuration that people write: `[section]`, `key=value`, flat.
//!
//! A comment is a whole line; a value is the rest of its line, backslashes, quotes, `#` and `;` included, without the white
//! space around it, and always a string, which is parsed where the reader wants another type. The text is checked before rust-ini parses it, because rust-ini
//! joins lines that end in a backslash, takes a colon for an equals sign, and keeps duplicates.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use ini::{Ini, ParseOption};
use serde::de::DeserializeOwned;

use crate::exit::{Exit, ExitContext, io_error};
use crate::node::{Author, Node};

/// The sections of an INI text in their order, each a table of text.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, Node)>, String> {
    check(text)?;
    let options = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    let parsed = Ini::load_from_str_opt(text, options).map_err(|error| format!("line {}: {}", error.line + 1, error.msg))?;
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
            table.push((key.to_owned(), Node::text(value)));
        }
        sections.push((name.to_owned(), Node::Table(table)));
    }
    Ok(sections)
}

/// Refuses what rust-ini would silently read as something else.
fn check(text: &str) -> Result<(), String> {
    if text.starts_with('\u{feff}') {
        return Err("starts with a byte-order mark; save it as plain UTF-8".into());
    }
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("line {number}: a control character"));
        }
        if line.ends_with('\\') {
            return Err(format!("line {number}: ends in a backslash; a value is one line"));
        }
        if line.starts_with('[') {
            if line.len() < 3 || !line.ends_with(']') {
                return Err(format!("line {number}: a section is [name] and nothing else"));
            }
            continue;
        }
        match line.split_once('=') {
            None => return Err(format!("line {number}: not a [section], a key=value or a comment")),
            Some((key, _)) if key.contains(':') => return Err(format!("line {number}: a colon before the first =")),
            Some((key, _)) if key.trim().is_empty() => return Err(format!("line {number}: no key before the =")),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Reads a configuration file of named things: `[base.windows]` is the entry `windows` of kind `base`.
///
/// Returns the entries in the order of the file. A section of another kind, an unknown key or a wrong type is an error that
/// names it. Status 66 when the file is not there, 78 when it is not right.
pub fn read_table<T: DeserializeOwned>(path: &Path, kind: &str) -> anyhow::Result<Vec<(String, T)>> {
    table(&read(path)?, kind).map_err(|message| Exit::Config.error(format_args!("{}: {message}", path.display())))
}

/// Reads one section of a configuration file; `None` when the file or the section is not there. Other sections are errors.
///
/// Status 78 when the file is not right.
pub fn read_section<T: DeserializeOwned>(path: &Path, section: &str) -> anyhow::Result<Option<T>> {
    if !path.try_exists().exit(Exit::Io, || format!("looking for {}", path.display()))? {
        return Ok(None);
    }
    let wrong = |message: String| Exit::Config.error(format_args!("{}: {message}", path.display()));
    let mut found = None;
    for (name, node) in parse(&read(path)?).map_err(wrong)? {
        if name != section {
            return Err(wrong(format!("[{name}]: unknown section")));
        }
        found = Some(node.read(Author::Person).map_err(|error| wrong(error.within(section).to_string()))?);
    }
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let exit_of = |error: &io::Error| match error.kind() {
        io::ErrorKind::InvalidData => Exit::Config, // not UTF-8
        _ => Exit::of_read(error),
    };
    fs::read_to_string(path).map_err(|error| io_error(error, exit_of, format_args!("reading {}", path.display())))
}

/// The text behind [`read_table`].
fn table<T: DeserializeOwned>(text: &str, kind: &str) -> Result<Vec<(String, T)>, String> {
    let mut entries = Vec::new();
    for (section, node) in parse(text)? {
        let Some(name) = section.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')).filter(|name| !name.is_empty())
        else {
            return Err(format!("[{section}]: expected [{kind}.NAME]"));
        };
        let entry = node.read(Author::Person).map_err(|error| error.within(&section).to_string())?;
        entries.push((name.to_owned(), entry));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Result<String, String> {
        let sections = parse(&format!("[s]\nk={text}\n"))?;
        match sections[0].1.get("k") {
            Some(Node::String(value)) => Ok(value.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_value_is_the_rest_of_the_line() {
        for text in [r#"a\b"c""#, "x ; y # z", "a=b:c", "'quoted'", r"C:\dir", "ünïcode", "", "[x]", "a\tb"] {
            assert_eq!(value(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_would_be_misread_is_refused() {
        for (text, message) in [
            ("\u{feff}[s]\nk=v\n", "starts with a byte-order mark; save it as plain UTF-8"),
            ("[s]\nk=v\\\nw=x\n", "line 2: ends in a backslash; a value is one line"),
            ("[s]\nk: v=x\n", "line 2: a colon before the first ="),
            ("[s]\nk\n", "line 2: not a [section], a key=value or a comment"),
            ("[s\nk=v\n", "line 1: a section is [name] and nothing else"),
            ("[]\n", "line 1: a section is [name] and nothing else"),
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
    fn named_things_have_a_section_each() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Base {
            generation: u64,
        }
        let bases: Vec<(String, Base)> =
            table("# bases\n[base.windows]\ngeneration = 7\n\n[base.a.b c]\ngeneration=1\n", "base").unwrap();
        assert_eq!(bases, [("windows".into(), Base { generation: 7 }), ("a.b c".into(), Base { generation: 1 })]);
        assert_eq!(table::<Base>("[windows]\n", "base").unwrap_err(), "[windows]: expected [base.NAME]");
        assert_eq!(table::<Base>("[base.w]\ngeneration=x\n", "base").unwrap_err(), "base.w.generation: expected a whole number");
        assert_eq!(table::<Base>("[base.w]\nx=1\n", "base").unwrap_err(), "base.w.x: unknown key");
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
