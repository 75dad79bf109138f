//! Keys out of the bytes of a terminal, and a line out of keys.

use zeroize::Zeroizing;

/// The maximum length of a line, in bytes: nm-8021x-login takes no longer password.
const LINE_MAX_BYTES: usize = 255;

const ESCAPE: u8 = 0x1b;

/// What a key means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character that can be seen, or a space.
    Char(char),
    /// The end of a line.
    Enter,
    /// Backspace.
    Erase,
    /// Ctrl-U: empties the line.
    EraseLine,
    /// Ctrl-C, Ctrl-D, Ctrl-Z or Ctrl-\: begins anew.
    Again,
}

/// What the bytes so far have begun.
#[derive(Debug, Default, PartialEq, Eq)]
enum Begun {
    #[default]
    Nothing,
    /// Escape, alone or as the begin of the sequence of a key such as F1.
    Escape,
    /// Such a sequence (ECMA-48, section 5.4; the Linux console sends F1 as Escape [ [ A).
    Sequence,
}

/// Turns bytes into keys. Whatever came before, the next Enter is an Enter.
#[derive(Debug, Default)]
pub struct Keys {
    begun: Begun,
    /// The first bytes of a character in UTF-8.
    character: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// Takes one byte in; returns the key that it completes, if it means anything here.
    pub fn take(&mut self, byte: u8) -> Option<Key> {
        if byte.is_ascii_control() {
            self.character.clear();
            self.begun = match byte {
                ESCAPE => Begun::Escape,
                _ => Begun::Nothing,
            };
            return control(byte);
        }
        match self.begun {
            Begun::Nothing => self.text(byte),
            Begun::Escape => {
                self.begun = match byte {
                    b'[' | b'O' => Begun::Sequence,
                    _ => Begun::Nothing,
                };
                None
            }
            Begun::Sequence => {
                if byte.is_ascii_alphabetic() || byte == b'~' {
                    self.begun = Begun::Nothing;
                }
                None
            }
        }
    }

    fn text(&mut self, byte: u8) -> Option<Key> {
        if byte.is_ascii() {
            self.character.clear();
            return Some(Key::Char(char::from(byte)));
        }
        self.character.push(byte);
        match str::from_utf8(&self.character) {
            Ok(text) => {
                let character = text.chars().next();
                self.character.clear();
                character
                    .filter(|c| !jsonpipe::is_hidden(*c))
                    .map(Key::Char)
            }
            Err(error) if error.error_len().is_none() => None, // more of it follows
            Err(_) => {
                self.character.clear();
                None
            }
        }
    }
}

fn control(byte: u8) -> Option<Key> {
    match byte {
        b'\r' | b'\n' => Some(Key::Enter),
        0x08 | 0x7f => Some(Key::Erase),
        0x15 => Some(Key::EraseLine),
        0x03 | 0x04 | 0x1a | 0x1c => Some(Key::Again),
        _ => None,
    }
}

/// A line that is being typed. It may be a password.
#[derive(Default)]
pub struct Line {
    text: Zeroizing<String>,
    is_too_long: bool,
}

/// What a key did to a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    None,
    /// A character more.
    Added(char),
    /// So many characters fewer.
    Removed(usize),
    /// The line is complete.
    Done,
    /// The user wants to begin anew, or the line is too long.
    Again,
}

impl Line {
    /// Takes a key in.
    pub fn take(&mut self, key: Key) -> Edit {
        match key {
            Key::Char(c) if self.text.len() + c.len_utf8() > LINE_MAX_BYTES => {
                self.is_too_long = true;
                Edit::None
            }
            Key::Char(c) => {
                self.text.push(c);
                Edit::Added(c)
            }
            Key::Erase => match self.text.pop() {
                Some(_) => Edit::Removed(1),
                None => Edit::None,
            },
            Key::EraseLine => {
                let removed = self.text.chars().count();
                *self = Line::default();
                Edit::Removed(removed)
            }
            Key::Enter if self.is_too_long => Edit::Again,
            Key::Enter => Edit::Done,
            Key::Again => Edit::Again,
        }
    }

    /// What was typed.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|byte| keys.take(*byte)).collect()
    }

    fn text(keys: &[Key]) -> String {
        let shown = |key: &Key| match key {
            Key::Char(c) => *c,
            Key::Enter => '\n',
            other => panic!("{other:?}"),
        };
        keys.iter().map(shown).collect()
    }

    #[test]
    fn letters_of_every_language_are_characters() {
        let typed = "joão@uni-a.example\rñ€𝄞\n";
        assert_eq!(text(&keys(typed.as_bytes())), typed.replace('\r', "\n"));
    }

    #[test]
    fn keys_that_mean_nothing_here_leave_nothing() {
        for sequence in [
            "\x1b[A",
            "\x1bOP",
            "\x1b[[A",
            "\x1b[15~",
            "\x1b[1;5C",
            "\x1bx",
            "\t",
            "\0",
            "\x0c",
            "\x13",
            "\x11",
            "\u{202e}",
            "\u{9b}",
        ] {
            let typed = format!("a{sequence}b\r");
            assert_eq!(text(&keys(typed.as_bytes())), "ab\n", "{sequence:?}");
        }
        assert_eq!(text(&keys(b"a\xffb\xc3\r")), "ab\n", "not UTF-8");
    }

    #[test]
    fn enter_ends_a_line_whatever_came_before() {
        for before in ["\x1b", "\x1b[", "\x1b[[", "\x1b[1;1;1", "\x1bO"] {
            assert_eq!(keys(format!("{before}\r").as_bytes()), [Key::Enter]);
        }
        assert_eq!(keys(b"\xe2\x82\r"), [Key::Enter]);
    }

    #[test]
    fn the_keys_of_signals_begin_anew() {
        assert_eq!(keys(b"\x03\x04\x1a\x1c"), [Key::Again; 4]);
    }

    #[test]
    fn a_line_is_edited_by_whole_characters() {
        let mut line = Line::default();
        let edits: Vec<Edit> = keys("aé\x7f\x7f\x7fxy\x15z\r".as_bytes())
            .into_iter()
            .map(|key| line.take(key))
            .collect();
        assert_eq!(
            edits,
            [
                Edit::Added('a'),
                Edit::Added('é'),
                Edit::Removed(1),
                Edit::Removed(1),
                Edit::None,
                Edit::Added('x'),
                Edit::Added('y'),
                Edit::Removed(2),
                Edit::Added('z'),
                Edit::Done
            ]
        );
        assert_eq!(line.text(), "z");
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_not_cut() {
        let fill = |length| {
            let mut line = Line::default();
            for _ in 0..length {
                line.take(Key::Char('x'));
            }
            line
        };
        assert_eq!(fill(LINE_MAX_BYTES).take(Key::Enter), Edit::Done);
        let mut line = fill(1 << 20);
        assert_eq!(line.text().len(), LINE_MAX_BYTES);
        assert_eq!(line.take(Key::Enter), Edit::Again);
        line.take(Key::EraseLine);
        assert_eq!(
            line.take(Key::Enter),
            Edit::Done,
            "emptied, it is a new one"
        );
    }
}
