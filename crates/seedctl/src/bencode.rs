//! Parses bencoded bytes (BEP 3) in place and without recursion: a deeply nested hostile file
//! cannot overflow the stack.
//!
//! No library keeps the exact bytes of `info`, over which the infohash is computed, and accepts
//! every piece hash: `lava_torrent` rewrites `info`, recurses, and refuses a torrent whose hashes
//! happen to be UTF-8.

/// A torrent nests four levels: the file, `info`, `files`, a file's path.
const DEPTH_MAX: usize = 8;

/// A key, and the bytes of its value.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// The keys of a dictionary, each with the bytes of its value. Keys are in strict order, so each is
/// unique.
///
/// The error describes the fault in the bytes.
pub fn dictionary(bytes: &[u8]) -> Result<Vec<Entry<'_>>, &'static str> {
    let mut reader = Reader { bytes, at: 0 };
    let mut entries: Vec<Entry> = Vec::new();
    if reader.next() != Some(b'd') {
        return Err("not a dictionary");
    }
    while reader.peek() != Some(b'e') {
        let key = reader.string()?;
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err("its keys are not in order");
        }
        let start = reader.at;
        reader.skip_value()?;
        entries.push((key, &bytes[start..reader.at]));
    }
    reader.at += 1;
    if reader.at == bytes.len() {
        Ok(entries)
    } else {
        Err("something comes after its end")
    }
}

/// The values of a list, each with its bytes.
pub fn list(bytes: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut reader = Reader { bytes, at: 0 };
    let mut values = Vec::new();
    if reader.next() != Some(b'l') {
        return Err("not a list");
    }
    while reader.peek() != Some(b'e') {
        let start = reader.at;
        reader.skip_value()?;
        values.push(&bytes[start..reader.at]);
    }
    Ok(values)
}

/// A non-negative integer.
pub fn number(bytes: &[u8]) -> Option<u64> {
    str::from_utf8(bytes)
        .ok()?
        .strip_prefix('i')?
        .strip_suffix('e')?
        .parse()
        .ok()
}

/// A string of bytes.
pub fn string(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader { bytes, at: 0 };
    reader.string().ok().filter(|_| reader.at == bytes.len())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Skips one value of any type.
    fn skip_value(&mut self) -> Result<(), &'static str> {
        let mut depth = 1; // the file's own dictionary
        loop {
            match self.peek().ok_or("it ends too early")? {
                b'd' | b'l' => {
                    depth += 1;
                    self.at += 1;
                    if depth > DEPTH_MAX {
                        return Err("it is nested too deeply");
                    }
                }
                b'e' if depth > 1 => {
                    depth -= 1;
                    self.at += 1;
                }
                b'i' => self.integer()?,
                b'0'..=b'9' => drop(self.string()?),
                _ => return Err("not bencoded"),
            }
            if depth == 1 {
                return Ok(());
            }
        }
    }

    fn integer(&mut self) -> Result<(), &'static str> {
        self.at += 1;
        let digits = self.bytes[self.at..]
            .iter()
            .position(|byte| *byte == b'e')
            .ok_or("it ends too early")?;
        let text =
            str::from_utf8(&self.bytes[self.at..self.at + digits]).map_err(|_| "not bencoded")?;
        text.parse::<i64>()
            .map_err(|_| "a number in it is malformed or too large")?;
        self.at += digits + 1;
        Ok(())
    }

    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let mut length = 0_usize;
        let start = self.at;
        loop {
            match self.next().ok_or("it ends too early")? {
                b':' if self.at > start + 1 => break,
                digit @ b'0'..=b'9' => {
                    length = length
                        .checked_mul(10)
                        .and_then(|l| l.checked_add(usize::from(digit - b'0')))
                        .ok_or("not bencoded")?;
                }
                _ => return Err("not bencoded"),
            }
        }
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len())
            .ok_or("it ends too early")?;
        let string = &self.bytes[self.at..end];
        self.at = end;
        Ok(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_values_of_the_outermost_dictionary_are_found() {
        let text = b"d1:ai7e4:infod6:lengthi-1e4:name1:xe1:zl2:abdeee";
        let expected: [(&[u8], &[u8]); 3] = [
            (b"a", b"i7e"),
            (b"info", b"d6:lengthi-1e4:name1:xe"),
            (b"z", b"l2:abdee"),
        ];
        assert_eq!(dictionary(text).unwrap(), expected);
    }

    #[test]
    fn partial_or_unsorted_bencode_is_refused() {
        for (text, message) in [
            ("", "not a dictionary"),
            ("le", "not a dictionary"),
            ("d1:a", "it ends too early"),
            ("d1:ai7e", "it ends too early"),
            ("d9:a", "it ends too early"),
            ("d99999999999999999999:ai7ee", "not bencoded"),
            ("d18446744073709551615:ai7ee", "it ends too early"),
            ("d:i7ee", "not bencoded"),
            ("d1:ai7eee", "something comes after its end"),
            ("d1:bi7e1:ai7ee", "its keys are not in order"),
            ("d1:ai7e1:ai7ee", "its keys are not in order"),
            (
                "d1:ai99999999999999999999ee",
                "a number in it is malformed or too large",
            ),
            ("d1:aiee", "a number in it is malformed or too large"),
            ("d1:ax", "not bencoded"),
        ] {
            assert_eq!(dictionary(text.as_bytes()).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn values_are_read() {
        assert_eq!(
            (
                number(b"i7e"),
                number(b"i-7e"),
                number(b"7"),
                number(b"1:7")
            ),
            (Some(7), None, None, None)
        );
        assert_eq!(
            (string(b"2:ab"), string(b"2:abc"), string(b"i7e")),
            (Some(&b"ab"[..]), None, None)
        );
        let expected: [&[u8]; 2] = [b"1:a", b"li1ee"];
        assert_eq!(list(b"l1:ali1eee").unwrap(), expected);
        assert_eq!(list(b"l1:a").unwrap_err(), "it ends too early");
    }

    #[test]
    fn a_million_lists_in_each_other_are_refused() {
        let text = format!("d1:a{}", "l".repeat(1_000_000));
        assert_eq!(
            dictionary(text.as_bytes()).unwrap_err(),
            "it is nested too deeply"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[dlei0-9:a]{0,60}") {
            let _ = dictionary(&bytes);
            let _ = (dictionary(text.as_bytes()), list(text.as_bytes()), number(text.as_bytes()), string(text.as_bytes()));
        }
    }
}
