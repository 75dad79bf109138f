//! Pieces of HTML.

use std::fmt::{self, Display, Write};

use jsonpipe::is_hidden;

/// A text as HTML.
pub fn text(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// See [`text`].
#[derive(Debug)]
pub struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c if is_hidden(c) => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

/// A part of the page, to which its contents lead.
pub struct Section {
    pub id: &'static str,
    pub title: String,
    /// What stands below the title.
    pub html: String,
}

/// A room, with its building.
pub fn place(building: &str, room: &str) -> String {
    if room.is_empty() { "no room known".into() } else { format!("{}, room {}", text(building), text(room)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_no_markup() {
        assert_eq!(text("<script>\"&'\0\u{202e}\u{200b}").to_string(), "&lt;script&gt;&quot;&amp;&#39;\u{fffd}\u{fffd}\u{fffd}");
    }
}
