//! Makes untrusted text printable.

use std::borrow::Cow;

/// Whether a character moves the cursor, changes the direction of the text around it, or has no
/// width, and could thus hide or forge what a person reads.
///
/// These are the control characters, the line separators, the annotation marks, and Unicode's
/// Default_Ignorable_Code_Point (Unicode Technical Report 36, section 3).
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text with U+FFFD in place of each hidden character, including newlines: it fills one line of
/// a terminal, as it is written.
pub fn shown(text: &str) -> Cow<'_, str> {
    if text.contains(is_hidden) {
        text.replace(is_hidden, "\u{fffd}").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_replaces_what_cannot_be_seen() {
        assert_eq!(
            shown("a\u{1b}[31m\n\u{202e}b\u{200b}\u{9b}c\u{7f}"),
            "a\u{fffd}[31m\u{fffd}\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}"
        );
    }

    #[test]
    fn shown_replaces_text_that_shows_nothing() {
        for c in [
            '\u{e0041}',
            '\u{fe0f}',
            '\u{e0100}',
            '\u{3164}',
            '\u{115f}',
            '\u{fff9}',
            '\u{34f}',
            '\u{1d173}',
        ] {
            assert_eq!(shown(&format!("root{c}")), "root\u{fffd}", "{c:?}");
        }
    }

    #[test]
    fn shown_keeps_letters_of_every_language() {
        for text in ["João", "עברית", "한국어", "e\u{301}", "OptiPlex 7010 (∞)"] {
            assert_eq!(shown(text), text);
        }
    }
}
