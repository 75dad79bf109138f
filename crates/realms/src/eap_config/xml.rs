//! XML as it is found in eap-configs, and the little of it that they need.

use std::borrow::Cow;

use roxmltree::{Document, Error, Node, ParsingOptions};

/// The largest files that were seen have some hundred elements.
const NODES_MAX: u32 = 50_000;

/// The tree compares each attribute of an element with all others of it. An attribute has a `=`; a
/// file has a handful, and one or two for each certificate and logo.
const EQUAL_SIGNS_MAX: usize = 10_000;

/// The tree copies the namespaces of an element to each one below it. A file has one or two.
const NAMESPACES_MAX: usize = 100;

/// The text of a file, in UTF-8.
pub fn decode(file: &[u8]) -> Result<Cow<'_, str>, String> {
    let is_utf_16 = [&b"\xff\xfe"[..], b"\xfe\xff", b"\0<", b"<\0"]
        .iter()
        .any(|start| file.starts_with(start));
    if is_utf_16 {
        return Err("in UTF-16; save it in UTF-8".into());
    }
    let marked = file.strip_prefix(b"\xef\xbb\xbf");
    let bytes = marked.unwrap_or(file);
    let declared = match marked {
        Some(_) => None, // the mark says it
        None => declared_encoding(bytes),
    };
    match declared.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii") => str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to())),
        // Its bytes are the first 256 characters of Unicode.
        Some("iso-8859-1" | "latin1") => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Some(other) => Err(format!(
            "in the encoding {}; save it in UTF-8",
            jsonpipe::shown(other)
        )),
    }
}

/// What the declaration at the beginning says of the encoding, in lower case.
fn declared_encoding(file: &[u8]) -> Option<String> {
    let start = &file[..file.len().min(200)];
    let declaration = String::from_utf8_lossy(start.strip_prefix(b"<?xml")?);
    let (declaration, _) = declaration.split_once("?>")?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (encoding, _) = value[1..].split_once(quote)?;
    Some(encoding.to_ascii_lowercase())
}

/// Whether somebody saved what a browser showed.
fn is_web_page(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(14).collect();
    let start = start.to_ascii_lowercase();
    start == "<!doctype html" || start.starts_with("<html")
}

/// The tree. An error says where, but shows nothing of the file, which may have a secret there.
pub fn parse(text: &str) -> Result<Document<'_>, String> {
    if is_web_page(text) {
        return Err("a web page, and no eap-config".into());
    }
    if text.bytes().filter(|byte| *byte == b'=').count() > EQUAL_SIGNS_MAX
        || text.matches("xmlns").count() > NAMESPACES_MAX
    {
        return Err("more attributes than an eap-config has".into());
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES_MAX,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|error| match error {
        Error::DtdDetected => "a DTD, which no eap-config needs".into(),
        Error::NodesLimitReached => format!("more than {NODES_MAX} elements and texts"),
        Error::UnknownEntityReference(_, at) => {
            format!("an entity that XML does not know, at {at}")
        }
        Error::UnclosedRootNode | Error::UnexpectedEndOfStream => "cut off in the middle".into(),
        error => format!("not well-formed XML at {}", error.pos()),
    })
}

/// The elements of that name in an element.
pub fn children<'a, 'i: 'a>(
    node: Node<'a, 'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> + Clone {
    node.children()
        .filter(move |child| child.has_tag_name(name))
}

pub fn child<'a, 'i: 'a>(node: Node<'a, 'i>, name: &'static str) -> Option<Node<'a, 'i>> {
    children(node, name).next()
}

/// The text in an element, CDATA included, without the space around it.
pub fn content(node: Node<'_, '_>) -> String {
    let texts: String = node
        .children()
        .filter(Node::is_text)
        .filter_map(|text| text.text())
        .collect();
    texts.trim().to_owned()
}
