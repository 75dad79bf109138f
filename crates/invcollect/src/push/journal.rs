//! Logs of JSON Lines that are reported line by line: the events of `changes`, and the access
//! register.
//!
//! Each report contains the position up to which it read the log, so a line is in exactly one
//! report.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use envelope::Cursor;
use jsonpipe::json_lines::rotated;
use jsonpipe::{Exit, io_error};
use serde_json::Value;

/// The maximum size of a report's lines; the collector refuses more than 1 MiB.
const REPORT_MAX_BYTES: usize = 256 << 10;

/// Lines for a report.
#[derive(Debug)]
pub struct Lines {
    /// The lines, each with its newline.
    pub text: Vec<u8>,
    /// The position after them, including skipped lines.
    pub read: Cursor,
}

/// The next lines that `wanted` accepts; empty at the end.
///
/// Bytes after the last newline are still being written. A rotated log is read to its end, as
/// `NAME.1` or older, before the newer ones. In a pruned register, reading continues after the lines
/// that were read. If the log at the position is gone, or there is no
/// position, all existing ones are read from the oldest.
pub fn next(log: &Path, from: Cursor, wanted: impl Fn(&[u8]) -> bool) -> anyhow::Result<Lines> {
    next_until(log, from, None, wanted)
}

/// The lines between two positions, to report them again.
pub fn between(
    log: &Path,
    from: Cursor,
    until: Cursor,
    wanted: impl Fn(&[u8]) -> bool,
) -> anyhow::Result<Vec<u8>> {
    let (mut from, mut text) = (from, Vec::new());
    loop {
        let lines = next_until(log, from, Some(until), &wanted)?;
        if lines.text.is_empty() {
            return Ok(text);
        }
        (from, text) = (lines.read, [text, lines.text].concat());
    }
}

fn next_until(
    log: &Path,
    from: Cursor,
    until: Option<Cursor>,
    wanted: impl Fn(&[u8]) -> bool,
) -> anyhow::Result<Lines> {
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", log.display()),
        )
    };
    let mut from = from;
    loop {
        let Some((file, newer)) = find(log, from.inode).map_err(failed)? else {
            return Ok(Lines {
                text: Vec::new(),
                read: from,
            });
        };
        let metadata = file.metadata().map_err(failed)?;
        let followed = |cursor| follow(&file, metadata.ino(), cursor).map_err(failed);
        from = followed(from)?;
        let until = until.map(followed).transpose()?;
        if metadata.ino() != from.inode || metadata.len() < from.offset {
            from = Cursor {
                inode: metadata.ino(),
                offset: 0,
            };
        }
        let end = until
            .filter(|until| until.inode == from.inode)
            .map_or(u64::MAX, |until| until.offset);
        let lines = read(file, from, end, &wanted).map_err(failed)?;
        let is_last = until.is_some_and(|until| until.inode == from.inode);
        let Some(inode) = newer.filter(|_| lines.text.is_empty() && !is_last) else {
            return Ok(lines);
        };
        from = Cursor { inode, offset: 0 };
    }
}

/// The same place, if the file replaced that of the cursor: `register prune` says so in it.
fn follow(file: &File, inode: u64, cursor: Cursor) -> io::Result<Cursor> {
    if cursor.inode == inode {
        return Ok(cursor);
    }
    let moved = register::moved(file, cursor.inode, cursor.offset)?;
    Ok(moved.map_or(cursor, |offset| Cursor { inode, offset }))
}

/// The file to continue with, and the index of the next newer one.
fn find(log: &Path, inode: u64) -> io::Result<Option<(File, Option<u64>)>> {
    let (mut newer, mut found) = (None, None);
    let mut has_gap = false;
    for age in 0.. {
        let path = if age == 0 {
            log.to_owned()
        } else {
            rotated(log, age)
        };
        let file = match File::open(path) {
            // During a rotation one name may be missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !has_gap => {
                has_gap = true;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            opened => opened?,
        };
        let this = file.metadata()?.ino();
        found = Some((file, newer.replace(this)));
        if this == inode {
            break;
        }
    }
    Ok(found)
}

fn read(
    mut file: File,
    from: Cursor,
    end: u64,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Lines> {
    file.seek(SeekFrom::Start(from.offset))?;
    let mut file = BufReader::new(file);
    let (mut text, mut offset) = (Vec::new(), from.offset);
    let mut line = Vec::new();
    while text.len() < REPORT_MAX_BYTES && offset < end {
        line.clear();
        file.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        offset += line.len() as u64;
        if wanted(&line) {
            text.extend_from_slice(&line);
        }
    }
    Ok(Lines {
        text,
        read: Cursor { offset, ..from },
    })
}

/// Whether a line is an event of `changes`. Other events stay on the machine, and so do lines torn
/// by a power cut.
pub fn is_own_event(line: &[u8]) -> bool {
    serde_json::from_slice(line).is_ok_and(|event: Value| {
        event.pointer("/event/provider").and_then(Value::as_str) == Some(crate::TOOL.name)
    })
}

/// Whether a line is a record of the register.
pub fn is_record(line: &[u8]) -> bool {
    serde_json::from_slice(line).is_ok_and(|record: Value| record.is_object())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn text(lines: &Lines) -> &str {
        str::from_utf8(&lines.text).unwrap()
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write;
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    #[test]
    fn every_line_is_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("events.jsonl");
        assert_eq!(text(&next(&log, Cursor::default(), |_| true).unwrap()), "");
        append(&log, "a\nb\nhal");
        let first = next(&log, Cursor::default(), |_| true).unwrap();
        assert_eq!(text(&first), "a\nb\n");
        assert_eq!(text(&next(&log, first.read, |_| true).unwrap()), "");
        append(&log, "f\nc\n");
        let second = next(&log, first.read, |line| line != b"c\n").unwrap();
        assert_eq!(text(&second), "half\n");
        assert_eq!(
            text(&next(&log, second.read, |_| true).unwrap()),
            "",
            "c was read, and not wanted"
        );
    }

    #[test]
    fn a_rotated_log_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("events.jsonl");
        append(&log, "a\n");
        let read = next(&log, Cursor::default(), |_| true).unwrap().read;
        append(&log, "b\n");
        fs::rename(&log, directory.path().join("events.jsonl.1")).unwrap();
        append(&log, "c\n");
        let old = next(&log, read, |_| true).unwrap();
        assert_eq!(text(&old), "b\n");
        let new = next(&log, old.read, |_| true).unwrap();
        assert_eq!(text(&new), "c\n");
        // Exactly the lines of a lost report, from one file to the next.
        let again = |until| between(&log, Cursor::default(), until, |_| true).unwrap();
        assert_eq!(again(read), b"a\n");
        assert_eq!(again(old.read), b"a\nb\n");
        assert_eq!(
            again(Cursor {
                offset: 0,
                ..new.read
            }),
            b"a\nb\n"
        );
        assert_eq!(between(&log, read, new.read, |_| true).unwrap(), b"b\nc\n");
        append(&log, "d\n");
        assert_eq!(between(&log, read, new.read, |_| true).unwrap(), b"b\nc\n");
        assert_eq!(again(new.read), b"a\nb\nc\n");
        // The log is gone or was truncated: all existing lines are new.
        let gone = Cursor {
            inode: 1,
            offset: 4,
        };
        let old = next(&log, gone, |_| true).unwrap();
        assert_eq!(text(&old), "a\nb\n");
        assert_eq!(text(&next(&log, old.read, |_| true).unwrap()), "c\nd\n");
        let longer = Cursor {
            offset: 99,
            ..new.read
        };
        assert_eq!(text(&next(&log, longer, |_| true).unwrap()), "c\nd\n");
    }

    #[test]
    fn journal_is_read_whole_however_often_it_was_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("events.jsonl");
        append(&log, "a\n");
        let mut read = next(&log, Cursor::default(), |_| true).unwrap().read;
        append(&log, "b\n");
        for text in ["c\n", "d\n", "e\n"] {
            // Like logrotate: the oldest first.
            for age in (0..3).rev() {
                let from = if age == 0 {
                    log.clone()
                } else {
                    rotated(&log, age)
                };
                let _ = fs::rename(from, rotated(&log, age + 1)); // some do not exist yet
            }
            append(&log, text);
        }
        let mut taken = String::new();
        loop {
            let lines = next(&log, read, |_| true).unwrap();
            if lines.text.is_empty() {
                break;
            }
            read = lines.read;
            taken += text(&lines);
        }
        assert_eq!(taken, "b\nc\nd\ne\n");
    }

    #[test]
    fn journal_goes_on_in_a_register_that_was_pruned() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("register.jsonl");
        append(&log, "old\nopen\na\n");
        let old = next(&log, Cursor::default(), |_| true).unwrap();
        append(&log, "b\n");
        // As `nm-8021x-login register prune` does it, whose own tests have this line.
        let inode = old.read.inode;
        let pruned =
            format!("{{\"event\":\"pruned\",\"offset\":9,\"inode\":{inode},\"kept_bytes\":5}}\n");
        let new = directory.path().join("new");
        append(&new, &format!("{pruned}open\na\nb\n"));
        fs::rename(&new, &log).unwrap();
        let more = next(&log, old.read, |_| true).unwrap();
        assert_eq!(text(&more), "b\n");
        assert_eq!(text(&next(&log, more.read, |_| true).unwrap()), "");
        let from = Cursor { inode, offset: 9 };
        assert_eq!(between(&log, from, old.read, |_| true).unwrap(), b"a\n");
        // What it had not read is gone: all that is there is new.
        let behind = Cursor { inode, offset: 4 };
        let all = next(&log, behind, |_| true).unwrap();
        assert_eq!(text(&all), format!("{pruned}open\na\nb\n"));
    }

    #[test]
    fn journal_is_read_whole_in_the_middle_of_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("events.jsonl");
        append(&log, "a\n");
        let read = next(&log, Cursor::default(), |_| true).unwrap().read;
        append(&log, "b\n");
        fs::rename(&log, rotated(&log, 2)).unwrap();
        append(&log, "c\n"); // NAME.1 has just become NAME.2
        let old = next(&log, read, |_| true).unwrap();
        assert_eq!(text(&old), "b\n");
        assert_eq!(text(&next(&log, old.read, |_| true).unwrap()), "c\n");
    }

    #[test]
    fn a_report_does_not_grow_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("events.jsonl");
        let line = format!("{}\n", "x".repeat(1000));
        append(&log, &line.repeat(600));
        let (mut read, mut taken) = (Cursor::default(), 0);
        loop {
            let lines = next(&log, read, |_| true).unwrap();
            if lines.text.is_empty() {
                break;
            }
            assert!(lines.text.len() <= REPORT_MAX_BYTES + line.len());
            (read, taken) = (lines.read, taken + lines.text.len());
        }
        assert_eq!(taken, 600 * line.len());
    }

    #[test]
    fn only_own_events_leave_the_machine() {
        assert!(is_own_event(br#"{"event":{"provider":"invcollect"}}"#));
        for line in [
            r#"{"event":{"provider":"sshd"}}"#,
            r#"{"event":"login","user":"alice"}"#,
            "{\"event\":{\"provi",
            "\0\0",
        ] {
            assert!(!is_own_event(line.as_bytes()), "{line}");
        }
    }
}
