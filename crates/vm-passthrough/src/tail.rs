//! Keeps the end of a program's standard error.

use std::borrow::Cow;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ChildStderr;

/// Far more than a program prints until it is ready.
const KEPT_BYTES: usize = 16 << 10;
/// Enough for the last error and its cause.
const SHOWN_BYTES: usize = 1024;

/// Reads a program's standard error and keeps its end.
#[derive(Debug)]
pub struct Tail {
    pipe: Option<ChildStderr>,
    kept: Vec<u8>,
}

impl Tail {
    pub fn new(pipe: Option<ChildStderr>) -> Tail {
        Tail {
            pipe,
            kept: Vec::new(),
        }
    }

    /// For poll(2); `None` once all writers are gone.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(ChildStderr::as_fd)
    }

    /// Reads the available bytes, or waits for some.
    pub fn fill(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        let mut chunk = [0; 4096];
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                self.kept.extend_from_slice(&chunk[..count]);
                self.kept
                    .drain(..self.kept.len().saturating_sub(KEPT_BYTES));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// All that is kept, as it was printed.
    pub fn all(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.kept)
    }

    /// The last kilobyte as one line for an error message, made printable: a guest may have
    /// influenced it.
    pub fn text(&self) -> String {
        let shown = self.kept.len().saturating_sub(SHOWN_BYTES);
        let text = String::from_utf8_lossy(&self.kept[shown..]);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            "it printed nothing".into()
        } else {
            lines.join("; ").replace(jsonpipe::is_hidden, "?")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn tail_of(script: &str) -> String {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut tail = Tail::new(child.stderr.take());
        while tail.pipe().is_some() {
            tail.fill().unwrap();
        }
        child.wait().unwrap();
        tail.text()
    }

    #[test]
    fn the_end_is_kept_and_harmless() {
        assert_eq!(
            tail_of("printf 'one\\n\\n  two\\033[2J\\342\\200\\256\\n' >&2"),
            "one; two?[2J?"
        );
        assert_eq!(tail_of("true"), "it printed nothing");
        let long = tail_of("printf '%05000d the end' 0 >&2");
        assert_eq!(
            (long.len(), long.ends_with("0 the end")),
            (SHOWN_BYTES, true)
        );
    }
}
