//! The lines of a file from its end to its beginning.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The smallest read.
const CHUNK_BYTES: usize = 64 << 10;

/// The lines, without their newlines. Only as much of the file is read as is asked for.
#[derive(Debug)]
pub struct Backwards<'a> {
    file: &'a File,
    /// Bytes that were read and not yet returned; they begin at the offset `from`.
    read: Vec<u8>,
    from: u64,
}

impl<'a> Backwards<'a> {
    /// Of a file that may grow meanwhile.
    pub fn new(file: &'a File) -> io::Result<Backwards<'a>> {
        let from = file.metadata()?.len();
        Ok(Backwards {
            file,
            read: Vec::new(),
            from,
        })
    }

    fn step(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.read.iter().rposition(|byte| *byte == b'\n') {
                let line = self.read.split_off(at + 1);
                self.read.truncate(at);
                return Ok(Some(line));
            }
            if self.from == 0 {
                let first = std::mem::take(&mut self.read);
                return Ok((!first.is_empty()).then_some(first));
            }
            // As much as there is already: a line of any length is looked through twice at most.
            let length = CHUNK_BYTES.max(self.read.len()) as u64;
            let from = self.from.saturating_sub(length);
            let mut chunk = vec![0; (self.from - from) as usize];
            self.file.read_exact_at(&mut chunk, from)?;
            chunk.append(&mut self.read);
            (self.read, self.from) = (chunk, from);
        }
    }
}

impl Iterator for Backwards<'_> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn backwards_gives_the_lines_of_lines_in_reverse() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let long = "x".repeat(3 * CHUNK_BYTES);
        let short = "short\n".repeat(CHUNK_BYTES);
        for text in [
            "",
            "a",
            "a\n",
            "\na\n\n\nb",
            &long,
            &format!("{long}\n{long}\na\n{short}"),
        ] {
            fs::write(&path, text).unwrap();
            let found: Vec<_> = Backwards::new(&File::open(&path).unwrap())
                .unwrap()
                .map(|line| String::from_utf8(line.unwrap()).unwrap())
                .collect();
            let mut expected: Vec<_> = text.split('\n').rev().collect();
            if expected.last() == Some(&"") {
                expected.pop(); // in front of the first newline there is no line
            }
            assert!(
                found == expected,
                "{:.20}: {:.50}",
                text,
                format!("{found:?}")
            );
        }
    }
}
