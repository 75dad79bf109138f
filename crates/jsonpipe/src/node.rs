//! Typed reading of a section, from JSON or INI, with errors that name the key by its path and
//! never show a value.
//!
//! serde_json's own errors repeat the unexpected value (`invalid type: integer 12345678`), which
//! may be a password here. So a section is first parsed into a [`Node`], and the error type of the
//! second step cannot hold values.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::Number;
use zeroize::Zeroizing;

/// A value whose tables keep their order and refuse a duplicate key. It may be a password, so it is
/// wiped when dropped.
#[derive(PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    String(Zeroizing<String>),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// The author of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A person, perhaps in INI, perhaps some tools ago: an unknown key is a mistake, a string may
    /// spell a number or a list, and `true` may be a word.
    Person,
    /// A tool, perhaps a newer one: unknown keys are ignored, and types must match.
    Tool,
}

/// The key and the fault, without the value: `links[0].eap: expected a string`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadError {
    path: String,
    message: String,
}

impl ReadError {
    fn new(message: impl fmt::Display) -> Self {
        ReadError {
            path: String::new(),
            message: message.to_string(),
        }
    }

    pub(crate) fn within(mut self, key: &str) -> Self {
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, key);
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ReadError::new(message)
    }

    // serde's default messages for these would show the value.
    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        ReadError::new(format_args!("expected {expected}"))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match unexpected {
            // Among the types of numbers, only the non-zero ones refuse a value of the right type.
            de::Unexpected::Unsigned(0) | de::Unexpected::Signed(0) => ReadError::new(ABOVE_ZERO),
            _ => ReadError::new(format_args!("expected {expected}")),
        }
    }

    fn unknown_variant(_: &str, variants: &'static [&'static str]) -> Self {
        ReadError::new(format_args!("expected one of {}", variants.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        ReadError::new("missing").within(field)
    }
}

/// Does not show a value.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node(..)")
    }
}

impl Node {
    /// A string.
    pub(crate) fn text(text: &str) -> Node {
        Node::String(Zeroizing::new(text.to_owned()))
    }

    /// A value of INI, which has no quotes: `true` and `false` are booleans.
    pub(crate) fn bare(text: &str) -> Node {
        text.parse().map_or_else(|_| Node::text(text), Node::Bool)
    }

    /// Parses JSON. Errors are positions and duplicate keys; neither shows a value.
    pub(crate) fn from_json(text: &str) -> Result<Node, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Reads a table as `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self, author: Author) -> Result<T, ReadError> {
        T::deserialize(Reader { node: self, author })
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Table(pairs) => pairs
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The node as JSON text.
    pub(crate) fn to_json(&self) -> String {
        match self {
            Node::Table(pairs) => {
                let members: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| {
                        format!("{}:{}", Node::text(key).to_json(), value.to_json())
                    })
                    .collect();
                format!("{{{}}}", members.join(","))
            }
            Node::List(items) => format!(
                "[{}]",
                items
                    .iter()
                    .map(Node::to_json)
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Node::String(text) => serde_json::Value::from(text.as_str()).to_string(),
            Node::Number(number) => number.to_string(),
            Node::Bool(value) => value.to_string(),
            Node::Null => "null".to_owned(),
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Node::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// Removes `key` from a table and returns it.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        let Node::Table(pairs) = self else {
            return None;
        };
        let index = pairs.iter().position(|(name, _)| name == key)?;
        Some(pairs.remove(index).1)
    }
}

impl<'de> de::Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNode;
        impl<'de> Visitor<'de> for AnyNode {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
                Number::from_f64(value)
                    .map(Node::Number)
                    .ok_or_else(|| E::custom("number out of range"))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::text(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut table: Vec<(String, Node)> = Vec::new();
                let mut known = HashSet::new();
                while let Some(key) = entries.next_key::<String>()? {
                    if !known.insert(key.clone()) {
                        return Err(de::Error::custom(format_args!("{key}: given twice")));
                    }
                    table.push((key, entries.next_value()?));
                }
                Ok(Node::Table(table))
            }
        }
        deserializer.deserialize_any(AnyNode)
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    author: Author,
}

impl<'a> Reader<'a> {
    fn child(self, node: &'a Node) -> Reader<'a> {
        Reader { node, ..self }
    }

    /// Its text: a boolean of a person may be the word, as INI has no quotes.
    fn text(self) -> Option<&'a str> {
        match (self.node, self.author) {
            (Node::String(text), _) => Some(text),
            (Node::Bool(true), Author::Person) => Some("true"),
            (Node::Bool(false), Author::Person) => Some("false"),
            _ => None,
        }
    }

    fn table<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node {
            Node::Table(pairs) => visitor.visit_map(Entries {
                reader: self,
                pairs: pairs.iter(),
                current: None,
            }),
            _ => Err(ReadError::new(format_args!(
                "expected {}",
                Expecting(&visitor)
            ))),
        }
    }
}

/// Displays a visitor's expectation.
struct Expecting<'v, V>(&'v V);

impl<'de, V: Visitor<'de>> fmt::Display for Expecting<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

const ABOVE_ZERO: &str = "expected a whole number above zero";

/// Whether a text that Rust accepts as a number is unambiguous: no plus sign, no infinity, and no
/// leading zero, which others read as octal.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    match digits {
        [b'0', next, ..] => !next.is_ascii_digit(),
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    }
}

/// People write text, and INI has only text: a number is parsed where the reader expects one.
macro_rules! parsed_from_text {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            match self.node {
                Node::String(text) if self.author == Author::Person => match text.parse::<$type>().ok().filter(|_| is_plain(text)) {
                    Some(value) => visitor.$visit(value),
                    None => Err(ReadError::new(concat!("expected ", $what))),
                },
                Node::Number(_) | Node::Bool(_) => self.deserialize_any(visitor).map_err(|error| match error.message.as_str() {
                    ABOVE_ZERO => error,
                    _ => ReadError::new(concat!("expected ", $what)),
                }),
                _ => Err(ReadError::new(concat!("expected ", $what))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(ReadError::new("number out of range")),
            },
            Node::String(text) => visitor.visit_str(text),
            Node::List(items) => visitor.visit_seq(Items {
                reader: self,
                items: items.iter(),
                index: 0,
            }),
            Node::Table(_) => self.table(visitor),
        }
    }

    /// A string never stands for a boolean, whoever wrote it: where one decides, it has to be meant.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node {
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::String(text) if text.parse::<bool>().is_ok() => {
                Err(ReadError::new("expected true or false, without quotes"))
            }
            _ => Err(ReadError::new("expected true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.text() {
            Some(text) => visitor.visit_str(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    parsed_from_text! {
        deserialize_i8 visit_i8 i8, "a whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number";
        deserialize_u16 visit_u16 u16, "a whole number";
        deserialize_u32 visit_u32 u32, "a whole number";
        deserialize_u64 visit_u64 u64, "a whole number";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A person may write a list of words as a string, separated by commas; the empty string is the
    /// empty list.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.text() {
            Some(text) if self.author == Author::Person => {
                let words: Vec<Node> = text
                    .split(',')
                    .map(str::trim)
                    .filter(|word| !word.is_empty())
                    .map(Node::text)
                    .collect();
                visitor.visit_seq(Items {
                    reader: self,
                    items: words.iter(),
                    index: 0,
                })
            }
            None if matches!(self.node, Node::List(_)) => self.deserialize_any(visitor),
            _ => Err(ReadError::new("expected a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.table(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if let (Node::Table(pairs), Author::Person) = (self.node, self.author)
            && let Some((key, _)) = pairs
                .iter()
                .find(|(key, _)| !fields.contains(&key.as_str()))
        {
            return Err(ReadError::new("unknown key").within(key));
        }
        self.table(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.text() {
            Some(text) => {
                let word: StrDeserializer<'_, ReadError> = text.into_deserializer();
                visitor.visit_enum(word)
            }
            None => Err(ReadError::new(format_args!(
                "expected one of {}",
                variants.join(", ")
            ))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Entries<'a> {
    reader: Reader<'a>,
    pairs: std::slice::Iter<'a, (String, Node)>,
    current: Option<&'a (String, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        self.current = self.pairs.next();
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, ReadError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((key, value)) = self.current else {
            return Err(ReadError::new("value without a key"));
        };
        seed.deserialize(self.reader.child(value))
            .map_err(|error| error.within(key))
    }
}

struct Items<'a> {
    reader: Reader<'a>,
    items: std::slice::Iter<'a, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(self.reader.child(item))
            .map(Some)
            .map_err(|error| error.within(&format!("[{index}]")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Ethernet,
        Wireless,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Link {
        name: String,
        speed: Option<u32>,
        kind: Kind,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Section {
        up: bool,
        words: Vec<String>,
        #[serde(default)]
        links: Vec<Link>,
    }

    fn read(json: &str) -> Result<Section, String> {
        Node::from_json(json)
            .unwrap()
            .read(Author::Person)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn errors_name_the_path_and_hide_the_value() {
        for (json, message) in [
            (r#"{"up":true}"#, "words: missing"),
            (
                r#"{"up":"s3cret","words":[]}"#,
                "up: expected true or false",
            ),
            (
                r#"{"up":12345678,"words":[]}"#,
                "up: expected true or false",
            ),
            (
                r#"{"up":"true","words":[]}"#,
                "up: expected true or false, without quotes",
            ),
            (r#"{"up":true,"words":12345678}"#, "words: expected a list"),
            (r#"{"up":true,"words":[1]}"#, "words[0]: expected a string"),
            (
                r#"{"up":true,"words":[],"links":[{"name":"a","kind":"s3cret"}]}"#,
                "links[0].kind: expected one of ethernet, wireless",
            ),
            (
                r#"{"up":true,"words":[],"links":[{"name":"a","kind":"ethernet","spee":1}]}"#,
                "links[0].spee: unknown key",
            ),
            (
                r#"{"up":true,"words":[],"links":[{"name":"a","kind":"ethernet","speed":-1}]}"#,
                "links[0].speed: expected a whole number",
            ),
        ] {
            assert_eq!(read(json).unwrap_err(), message);
        }
    }

    #[test]
    fn text_of_a_person_becomes_the_type() {
        let text = Node::text;
        let node = Node::Table(vec![
            ("up".into(), Node::bare("true")),
            ("words".into(), text("a, b,c")),
        ]);
        let section: Section = node.read(Author::Person).unwrap();
        assert_eq!(
            section,
            Section {
                up: true,
                words: vec!["a".into(), "b".into(), "c".into()],
                links: vec![]
            }
        );
        let link = Node::Table(vec![
            ("name".into(), text("12")),
            ("speed".into(), text("100")),
            ("kind".into(), text("wireless")),
        ]);
        assert_eq!(
            link.read::<Link>(Author::Person).unwrap(),
            Link {
                name: "12".into(),
                speed: Some(100),
                kind: Kind::Wireless
            }
        );
    }

    #[test]
    fn true_may_be_a_word_of_a_person() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Named {
            name: String,
            words: Vec<String>,
            other: Option<String>,
        }
        let node = |word: &str| {
            let keys = ["name", "words", "other"].map(|key| (key.into(), Node::bare(word)));
            Node::Table(keys.into())
        };
        for word in ["true", "false", "True", "x"] {
            // Also after a pipe, whose next tool reads JSON.
            let json = Node::from_json(&node(word).to_json()).unwrap();
            for node in [node(word), json] {
                assert_eq!(
                    node.read::<Named>(Author::Person).unwrap(),
                    Named {
                        name: word.into(),
                        words: vec![word.into()],
                        other: Some(word.into()),
                    }
                );
            }
        }
        let error = node("true").read::<Named>(Author::Tool).unwrap_err();
        assert_eq!(error.to_string(), "name: expected a string");
    }

    #[test]
    fn values_of_a_tool_keep_their_types() {
        for (json, message) in [
            (r#"{"up":true,"words":"a"}"#, "words: expected a list"),
            (
                r#"{"up":true,"words":[],"links":[{"name":"a","kind":"ethernet","speed":"1"}]}"#,
                "links[0].speed: expected a whole number",
            ),
        ] {
            let node = Node::from_json(json).unwrap();
            assert_eq!(
                node.read::<Section>(Author::Tool).unwrap_err().to_string(),
                message
            );
            assert!(node.read::<Section>(Author::Person).is_ok());
        }
    }

    #[test]
    fn a_newer_tools_keys_are_ignored() {
        let node = Node::from_json(r#"{"up":false,"words":[],"new":{"x":1}}"#).unwrap();
        assert!(node.read::<Section>(Author::Tool).is_ok());
    }

    #[test]
    fn a_key_given_twice_is_an_error_at_any_depth() {
        assert!(
            Node::from_json(r#"{"a":{"b":1,"b":2}}"#)
                .unwrap_err()
                .starts_with("b: given twice")
        );
    }

    #[test]
    fn a_number_is_written_in_one_way() {
        let read = |text: &str| {
            Node::text(text)
                .read::<u32>(Author::Person)
                .map_err(|error| error.to_string())
        };
        assert_eq!((read("0"), read("10")), (Ok(0), Ok(10)));
        for text in ["+4", "010", "00", "-0x", "", " 4", "4_0", "٤"] {
            assert_eq!(
                read(text),
                Err("expected a whole number".into()),
                "{text:?}"
            );
        }
        let signed = |text: &str| Node::text(text).read::<i32>(Author::Person);
        assert!(signed("-4").is_ok() && signed("-04").is_err());
        let float = |text: &str| Node::text(text).read::<f64>(Author::Person);
        assert!(float("0.5").is_ok() && float("-1e3").is_ok());
        assert!(
            ["inf", "nan", "-inf", "+1", "01.5", ".5"]
                .into_iter()
                .all(|text| float(text).is_err())
        );
        let above_zero = |node: &Node| {
            node.read::<std::num::NonZeroU32>(Author::Person)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(above_zero(&Node::text("0")), ABOVE_ZERO);
        assert_eq!(above_zero(&Node::Number(0.into())), ABOVE_ZERO);
        assert_eq!(above_zero(&Node::text("x")), "expected a whole number");
    }
}
