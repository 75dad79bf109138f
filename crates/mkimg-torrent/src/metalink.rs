//! Metalink 4, RFC 5854: describes the file for clients that support it, such as aria2.
//!
//! The torrent is its only source. A mirror (`url`) would act as a web seed: every host would fetch
//! from the server besides the swarm, and an image would cross an uplink once per host.

use std::fmt::Write;

use manifest::{Base, Hex};

use crate::pieces::Piece;

/// The text of a Metalink for the image under the name `file_name`, of which `pieces` have
/// `piece_bytes` each.
pub fn metalink(
    base: &Base,
    file_name: &str,
    piece_bytes: u64,
    pieces: &[Piece],
    torrent_url: &str,
) -> String {
    let Base {
        size_bytes,
        sha256,
        title,
        generation,
        ..
    } = base;
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n",
    );
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(xml, "{text}").unwrap_or_default(); // writing to a String cannot fail
    line(format_args!("  <file name=\"{}\">", escaped(file_name)));
    line(format_args!("    <identity>{}</identity>", escaped(title)));
    line(format_args!("    <version>{generation}</version>"));
    line(format_args!("    <size>{size_bytes}</size>"));
    line(format_args!("    <hash type=\"sha-256\">{sha256}</hash>"));
    line(format_args!(
        "    <pieces length=\"{piece_bytes}\" type=\"sha-1\">"
    ));
    for piece in pieces {
        line(format_args!("      <hash>{}</hash>", Hex(*piece)));
    }
    line(format_args!("    </pieces>"));
    line(format_args!(
        "    <metaurl mediatype=\"torrent\">{}</metaurl>",
        escaped(torrent_url)
    ));
    xml.push_str("  </file>\n</metalink>\n");
    xml
}

/// Escapes the text of an element and of an attribute in double quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
