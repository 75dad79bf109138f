//! The document: sections in input order, each kept as its original text.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::exit::{Exit, ExitContext};
use crate::ini;
use crate::node::{Author, Node};
use crate::shown::shown;

/// Keys that may be in a document but never leave their owner: (section, key). Only the section's
/// owner may receive them.
const SECRETS: &[(&str, &str)] = &[("login", "password")];

/// The version of the sections that this suite writes, unless they say otherwise. Adding a key keeps
/// it; renaming, retyping or removing one raises it.
const SCHEMA: u64 = 1;

/// A key that a report leaves out because its value is not known, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The absent key, by its path within the section: `links[0].addresses`.
    pub key: String,
    /// Why it is absent, in words.
    pub reason: String,
}

/// A JSON object of objects. Every section that no tool replaces leaves as the bytes that came in.
///
/// It may hold a password: a section is wiped from memory when it is replaced or dropped, and
/// `Debug` shows only names.
#[derive(Default)]
pub struct Document {
    /// In input order; of a consumed section only the place is kept.
    sections: Sections,
    /// The section that was written last.
    written: Option<String>,
}

struct Section {
    /// The JSON text, as it will be printed.
    raw: Zeroizing<String>,
    /// What it says. Of a section that this process wrote, only once it is read: a long list would
    /// take as long to parse as to make.
    parsed: OnceCell<Parsed>,
}

struct Parsed {
    /// The text, without `schema`.
    node: Node,
    schema: Option<Node>,
}

impl Parsed {
    fn of(mut node: Node) -> Parsed {
        Parsed {
            schema: node.take("schema"),
            node,
        }
    }
}

impl Section {
    fn new(raw: String, node: Node) -> Section {
        Section {
            raw: Zeroizing::new(raw),
            parsed: Parsed::of(node).into(),
        }
    }

    fn written(raw: String) -> Section {
        Section {
            raw: Zeroizing::new(raw),
            parsed: OnceCell::new(),
        }
    }

    fn parsed(&self) -> anyhow::Result<&Parsed> {
        if let Some(parsed) = self.parsed.get() {
            return Ok(parsed);
        }
        let node = Node::from_json(&self.raw).map_err(|message| Exit::Software.error(message))?;
        Ok(self.parsed.get_or_init(|| Parsed::of(node)))
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.sections.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Document {
    /// Parses JSON (the first non-blank byte is `{`) or INI.
    ///
    /// `owner` is the section that the reading tool owns: secrets of other owners are refused, and
    /// so is any secret in INI. Errors have status 65 and never show a value.
    pub fn parse(text: &str, owner: &str) -> anyhow::Result<Document> {
        let blank = text.trim_start();
        if blank.is_empty() {
            return Err(Exit::Data.error("no document on standard input"));
        }
        let is_json = blank.starts_with('{');
        if !is_json && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            return Err(
                Exit::Data.error("reading the document: JSON, but not an object of sections")
            );
        }
        let sections = if is_json {
            from_json(text)
        } else {
            from_ini(text)
        }
        .map_err(|message| Exit::Data.error(format_args!("reading the document: {message}")))?;
        let document = Document {
            sections,
            written: None,
        };
        for (section, key) in SECRETS {
            if document
                .section(section)
                .and_then(|found| found.parsed.get()?.node.get(key))
                .is_none()
            {
                continue;
            }
            if *section != owner {
                return Err(Exit::Data.error(format_args!(
                    "{section}.{key}: a secret, which this tool must not get; leave it out"
                )));
            }
            if !is_json {
                return Err(Exit::Data.error(format_args!(
                    "{section}.{key}: a secret is accepted in JSON only"
                )));
            }
        }
        Ok(document)
    }

    fn section(&self, section: &str) -> Option<&Section> {
        self.sections
            .iter()
            .find(|(name, _)| name == section)?
            .1
            .as_ref()
    }

    /// Reads a section as `T`; `None` when it is not there.
    ///
    /// In a section without `schema`, written by a person, an unknown key is an error (65) that
    /// names it, and a string is accepted where it spells the number or the list of words that `T`
    /// expects. In a section with a `schema`, written by a tool, unknown keys are
    /// ignored, every value must have its type, and an unknown schema is an error.
    pub fn read<T: DeserializeOwned>(&self, section: &str) -> anyhow::Result<Option<T>> {
        self.read_with_schema(section, SCHEMA)
    }

    /// The same for a section that was written by [`Document::set_with_schema`].
    pub fn read_with_schema<T: DeserializeOwned>(
        &self,
        section: &str,
        known: u64,
    ) -> anyhow::Result<Option<T>> {
        let Some(found) = self.section(section) else {
            return Ok(None);
        };
        let found = found.parsed()?;
        let read = match &found.schema {
            None => found.node.read(Author::Person),
            Some(schema) if schema.as_u64() == Some(known) => found.node.read(Author::Tool),
            Some(Node::String(_)) => {
                return Err(Exit::Data.error(format_args!(
                    "{section}.schema: not a number; leave it out of a document written by hand"
                )));
            }
            Some(_) => {
                return Err(Exit::Data.error(format_args!(
                    "{section}.schema: not {known}, the one that this release knows"
                )));
            }
        };
        read.map(Some)
            .map_err(|error| Exit::Data.error(error.within(section)))
    }

    /// Like [`Document::read`], for a section that the tool cannot work without.
    pub fn require<T: DeserializeOwned>(&self, section: &str) -> anyhow::Result<T> {
        self.read(section)?
            .exit(Exit::Data, || format!("{section}: missing"))
    }

    /// Refuses a section that a person wrote (without `schema`) and that is none of `known`: status
    /// 65. For a tool whose document a person writes for it alone, where such a section is a misspelt
    /// one. Those of other tools stay.
    pub fn only(&self, known: &[&str]) -> anyhow::Result<()> {
        for (name, section) in &self.sections {
            let Some(section) = section else { continue };
            if !known.contains(&name.as_str()) && section.parsed()?.schema.is_none() {
                return Err(Exit::Data.error(format_args!(
                    "[{}]: unknown section; known are {}",
                    shown(name),
                    known.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Like [`Document::require`], but removes the section, for one with a secret. Its place is
    /// kept for [`Document::set`]; until then the document lacks it.
    pub fn consume<T: DeserializeOwned>(&mut self, section: &str) -> anyhow::Result<T> {
        let consumed = self.require(section);
        self.sections
            .iter_mut()
            .filter(|(name, _)| name == section)
            .for_each(|(_, found)| *found = None);
        consumed
    }

    /// The section that was written last, as JSON.
    pub(crate) fn written(&self) -> Option<&str> {
        let section = self.section(self.written.as_deref()?)?;
        Some(&section.raw)
    }

    /// Writes a section, in its old place if it had one, otherwise at the end. The `schema` comes
    /// first.
    pub fn set<T: Serialize>(&mut self, section: &str, report: &T) -> anyhow::Result<()> {
        self.set_with_schema(section, SCHEMA, report)
    }

    /// The same for a section of which a key was renamed, retyped or removed.
    pub fn set_with_schema<T: Serialize>(
        &mut self,
        section: &str,
        schema: u64,
        report: &T,
    ) -> anyhow::Result<()> {
        let body = serde_json::to_string(report)?;
        let members = body.strip_prefix('{').exit(Exit::Software, || {
            format!("{section}: the report is not an object")
        })?;
        let comma = if members == "}" { "" } else { "," };
        let written = Section::written(format!("{{\"schema\":{schema}{comma}{members}"));
        match self.sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, old)) => *old = Some(written),
            None => self.sections.push((section.to_owned(), Some(written))),
        }
        self.written = Some(section.to_owned());
        Ok(())
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        let there = self
            .sections
            .iter()
            .filter_map(|(name, section)| Some((name, section.as_ref()?)));
        for (index, (name, section)) in there.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let name = serde_json::to_string(name).map_err(|_| fmt::Error)?;
            write!(f, "{comma}{name}:{}", section.raw.as_str())?;
        }
        f.write_str("}")
    }
}

type Sections = Vec<(String, Option<Section>)>;

fn from_json(text: &str) -> Result<Sections, String> {
    let RawSections(raws) = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut sections = Vec::with_capacity(raws.len());
    for (name, raw) in raws {
        let node = Node::from_json(raw.get()).map_err(|message| format!("{name}: {message}"))?;
        if !matches!(node, Node::Table(_)) {
            return Err(format!("{name}: not an object"));
        }
        sections.push((name, Some(Section::new(raw.get().to_owned(), node))));
    }
    Ok(sections)
}

fn from_ini(text: &str) -> Result<Sections, String> {
    let sections = ini::parse(text)?;
    Ok(sections
        .into_iter()
        .map(|(name, node)| (name, Some(Section::new(node.to_json(), node))))
        .collect())
}

/// The top level of a document, each section as raw text; a duplicate section is an error.
struct RawSections<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawSections<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = RawSections<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of sections")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut entries: A,
            ) -> Result<RawSections<'de>, A::Error> {
                let mut sections: Vec<(String, &RawValue)> = Vec::new();
                let mut known = HashSet::new();
                while let Some(name) = entries.next_key::<String>()? {
                    if !known.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format_args!(
                            "{name}: given twice"
                        )));
                    }
                    sections.push((name, entries.next_value()?));
                }
                Ok(RawSections(sections))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Volume {
        user: String,
        bytes: u64,
    }

    fn error(result: anyhow::Result<impl Sized>) -> (Exit, String) {
        let error = result.err().expect("an error");
        (Exit::of(&error), format!("{error:#}"))
    }

    #[test]
    fn foreign_sections_leave_as_they_came() {
        let text = r#"{"b":{"x" : 1.0, "y":[1e3]},"volume":{"user":"a","bytes":1},"a":{"z":"é"}}"#;
        let mut document = Document::parse(text, "volume").unwrap();
        document
            .set(
                "volume",
                &Volume {
                    user: "b".into(),
                    bytes: 2,
                },
            )
            .unwrap();
        document.set("guest", &serde_json::json!({})).unwrap();
        assert_eq!(
            document.to_string(),
            r#"{"b":{"x" : 1.0, "y":[1e3]},"volume":{"schema":1,"user":"b","bytes":2},"a":{"z":"é"},"guest":{"schema":1}}"#
        );
    }

    #[test]
    fn ini_is_the_same_document() {
        let ini = Document::parse(
            "# by hand\n[volume]\nuser = a \"b\\c\nbytes=7\n\n[x]\nk=1\nl=true\n",
            "volume",
        )
        .unwrap();
        let json = r#"{"volume":{"user":"a \"b\\c","bytes":"7"},"x":{"k":"1","l":true}}"#;
        assert_eq!(ini.to_string(), json);
        // The next tool in the pipe reads sections from INI as the first one does.
        for document in [ini, Document::parse(json, "volume").unwrap()] {
            assert_eq!(
                document.read::<Volume>("volume").unwrap(),
                Some(Volume {
                    user: "a \"b\\c".into(),
                    bytes: 7
                })
            );
        }
    }

    #[test]
    fn only_tools_write_a_schema() {
        for text in [
            "[volume]\nschema=1\nuser=a\nbytes=7\n",
            r#"{"volume":{"schema":"1","user":"a","bytes":7}}"#,
        ] {
            let document = Document::parse(text, "volume").unwrap();
            let expected =
                "volume.schema: not a number; leave it out of a document written by hand";
            assert_eq!(
                error(document.read::<Volume>("volume")),
                (Exit::Data, expected.into())
            );
        }
    }

    #[test]
    fn unknown_keys_are_errors_only_in_what_people_write() {
        let by_hand = Document::parse(
            r#"{"volume":{"user":"a","bytes":1,"byts":"s3cret"}}"#,
            "volume",
        )
        .unwrap();
        assert_eq!(
            error(by_hand.read::<Volume>("volume")),
            (Exit::Data, "volume.byts: unknown key".into())
        );
        let by_tool = Document::parse(
            r#"{"volume":{"schema":1,"user":"a","bytes":1,"new":2}}"#,
            "volume",
        )
        .unwrap();
        assert!(by_tool.read::<Volume>("volume").unwrap().is_some());
        let newer =
            Document::parse(r#"{"volume":{"schema":2,"user":"a","bytes":1}}"#, "volume").unwrap();
        assert_eq!(error(newer.read::<Volume>("volume")).0, Exit::Data);
    }

    #[test]
    fn a_misspelt_section_of_a_person_is_refused_where_only_the_known_ones_are_read() {
        let only = |text: &str| Document::parse(text, "x").unwrap().only(&["volume", "x"]);
        only("[volume]\nuser=a\n[x]\n").unwrap();
        only(r#"{"volume":{},"guest":{"schema":7}}"#).unwrap();
        for text in ["[volume]\n[volme]\n", r#"{"volme":{"a":"s3cret"}}"#] {
            let expected = "[volme]: unknown section; known are volume, x";
            assert_eq!(error(only(text)), (Exit::Data, expected.into()));
        }
    }

    #[test]
    fn json_that_is_no_object_is_not_taken_for_ini() {
        for text in ["[1,2]", "[{\"login\":{}}]", "\"x\"", "7"] {
            let (exit, message) = error(Document::parse(text, "volume"));
            assert_eq!(
                (exit, message.as_str()),
                (
                    Exit::Data,
                    "reading the document: JSON, but not an object of sections"
                )
            );
        }
    }

    #[test]
    fn other_input_than_a_document_is_65() {
        for text in [
            "",
            " \n",
            "[]",
            "{",
            "{}x",
            r#"{"a":1}"#,
            r#"{"a":{},"a":{}}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            "x",
            "{\"a\":{\"b\":\"\u{1}\"}}",
        ] {
            let parsed = Document::parse(text, "volume");
            assert!(parsed.is_err(), "{text:?}");
            assert_eq!(error(parsed).0, Exit::Data, "{text:?}");
        }
    }

    #[test]
    fn many_keys_and_sections_are_no_more_work_than_their_bytes() {
        // No time is measured: a comparison of each with all before it would just run for a very
        // long time.
        const MANY: usize = 100_000;
        let keys = |around: fn(usize) -> String| (0..MANY).map(around).collect::<Vec<_>>();
        let json = keys(|i| format!("\"{i}\":1")).join(",");
        let sections = keys(|i| format!("\"{i}\":{{}}")).join(",");
        let ini = keys(|i| format!("{i}=1")).join("\n");
        for text in [
            format!("{{\"volume\":{{\"schema\":1,\"user\":\"a\",\"bytes\":1,{json}}}}}"),
            format!("{{{sections},\"volume\":{{\"user\":\"a\",\"bytes\":1}}}}"),
            format!("[x]\n{ini}\n[volume]\nuser=a\nbytes=1\n"),
            format!(
                "[{}]\n[volume]\nuser=a\nbytes=1\n",
                keys(|i| i.to_string()).join("]\n[")
            ),
        ] {
            let mut document = Document::parse(&text, "volume").unwrap();
            let volume = document.require::<Volume>("volume").unwrap();
            document.set("volume", &volume).unwrap();
            let twice = if text.starts_with('{') {
                text.replacen("\"99999\"", "\"0\"", 1)
            } else {
                text + "[volume]\n"
            };
            assert!(
                error(Document::parse(&twice, "volume"))
                    .1
                    .contains("given twice")
            );
        }
    }

    #[test]
    fn a_secret_goes_to_its_owner_in_json_only() {
        let json = r#"{"login":{"password":"s3cret"}}"#;
        assert!(Document::parse(json, "login").is_ok());
        let (exit, message) = error(Document::parse(json, "volume"));
        assert_eq!((exit, message.contains("s3cret")), (Exit::Data, false));
        assert_eq!(
            format!("{:?}", Document::parse(json, "login").unwrap()),
            r#"{"login"}"#
        );
        assert_eq!(format!("{:?}", Node::from_json(json).unwrap()), "Node(..)");
        assert_eq!(
            error(Document::parse("[login]\npassword=s3cret\n", "login")).0,
            Exit::Data
        );
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(\\PC|[{}\\[\\]\":,=\n]){0,200}") {
            let _ = Document::parse(&text, "volume");
        }

        #[test]
        fn a_foreign_section_survives(key in "\\PC{0,20}", value in "\\PC{0,20}", number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let raw = serde_json::json!({ key: [value, number] }).to_string();
            let document = Document::parse(&format!("{{\"x\": {raw} }}"), "volume").unwrap();
            prop_assert_eq!(document.to_string(), format!("{{\"x\":{raw}}}"));
        }
    }
}
