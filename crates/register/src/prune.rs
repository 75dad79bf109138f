//! `prune`: removes lines older than the law asks to keep.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use jsonpipe::json_lines::JsonLines;
use jsonpipe::{Answer, Common, Document, atomic, sabotaged};

use crate::backwards::Backwards;
use crate::line::{Event, Line};
use crate::report::Pruned;
use crate::time::Time;
use crate::{PATH, SECTION, unreadable};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Removes the sessions that ended, and the logins that were refused, more than `days` ago.
pub fn prune(common: &Common, days: u32, dry_run: bool) -> anyhow::Result<Answer> {
    let path = common.path(PATH);
    let age = u64::from(days) * DAY_SECONDS;
    let mut report = Pruned {
        changed: false,
        before: Time::now().before(age),
        removed_lines: 0,
        removed_bytes: 0,
    };
    let Some(register) = JsonLines::open_if_there(path.clone())? else {
        return answer(&report);
    };
    let file = register.file();
    let read = |file| {
        let now = now(file)?;
        let old = Old::read(file, now, now.before(age))?;
        Ok((now.before(age), old, file.metadata()?.ino()))
    };
    let (before, old, inode) = read(file).map_err(|error| unreadable(common, error))?;
    report.before = before;
    if old.removed_lines > 0 {
        report.removed_lines = old.removed_lines;
        report.removed_bytes = old.bytes - old.kept.len() as u64;
    }
    if old.removed_lines == 0 || dry_run {
        return answer(&report);
    }
    let head = Line {
        ended_before: Some(before.to_string()),
        at: Some(Time::now().to_string()),
        inode: Some(inode),
        offset: Some(old.bytes),
        kept_bytes: Some(old.kept.len() as u64),
        ..Line::new(Event::Pruned)
    };
    let head = head.to_text()?;
    if sabotaged("prune-in-place") {
        let rest = std::fs::read(&path)?.split_off(usize::try_from(old.bytes)?);
        std::fs::write(&path, [head.as_bytes(), &old.kept, &rest].concat())?;
        return answer(&report);
    }
    atomic::write(&path, 0o600, |new| {
        new.write_all(head.as_bytes())?;
        new.write_all(&old.kept)?;
        let mut rest = file;
        rest.seek(SeekFrom::Start(old.bytes))?;
        io::copy(&mut rest, new).map(|_| ())
    })?;
    report.changed = true;
    answer(&report)
}

fn answer(report: &Pruned) -> anyhow::Result<Answer> {
    let mut document = Document::default();
    document.set(SECTION, report)?;
    Ok(Answer::yes(document).staying(report.changed))
}

/// The offset in this file that continues `offset` in the file of `inode`, which it replaced: the
/// first line of a pruned register maps the old offsets to the new. `None` when this file did not
/// replace that one, or the line at `offset` is gone.
pub fn moved(file: &File, inode: u64, offset: u64) -> io::Result<Option<u64>> {
    let (mut file, mut first) = (BufReader::new(file), Vec::new());
    file.seek(SeekFrom::Start(0))?;
    file.read_until(b'\n', &mut first)?;
    Ok(Line::parse(&first).and_then(|line| {
        if line.event != Event::Pruned || line.inode? != inode {
            return None;
        }
        Some(first.len() as u64 + line.kept_bytes? + offset.checked_sub(line.offset?)?)
    }))
}

/// From when the days count: the clock, or the last start where that is earlier. For a login the
/// certificate of the server had to be valid, so the clock was right at a start; a clock that is
/// years ahead now removes nothing.
fn now(file: &File) -> io::Result<Time> {
    let clock = Time::now();
    for line in Backwards::new(file)? {
        if let Some(line) = Line::parse(&line?)
            && line.event == Event::Start
            && let Some(started) = line.written_at()
        {
            return Ok(clock.min(started));
        }
    }
    Ok(clock)
}

/// The beginning of the register, up to the last line that is certainly old.
#[derive(Default)]
struct Old {
    bytes: u64,
    /// Of it, the starts of sessions that ended later, or did not end.
    kept: Vec<u8>,
    removed_lines: u64,
}

impl Old {
    /// A line is as young as the youngest in front of it: lines are in order, and a clock may have
    /// been wrong. One that has no time, or one that is yet to come, is as old as the next.
    fn read(file: &File, now: Time, before: Time) -> io::Result<Old> {
        let mut lines = BufReader::new(file);
        lines.seek(SeekFrom::Start(0))?;
        let (mut old, mut starts, mut ends) = (Old::default(), Vec::new(), BTreeMap::new());
        let (mut position, mut undated) = (0, 0);
        let mut bytes = Vec::new();
        while lines.read_until(b'\n', &mut bytes)? > 0 {
            position += bytes.len() as u64;
            let line = Line::parse(&bytes);
            let written = line.as_ref().and_then(Line::written_at);
            match written.filter(|written| *written <= now) {
                Some(written) if written >= before => break,
                Some(_) => {
                    old.bytes = position;
                    old.removed_lines += undated + 1;
                    undated = 0;
                }
                // One of our own is not missed.
                None if line
                    .as_ref()
                    .is_some_and(|line| line.event == Event::Pruned) => {}
                None => undated += 1,
            }
            if let Some(session) = line.as_ref().and_then(|line| line.session.clone()) {
                match line.map(|line| line.event) {
                    Some(Event::Start) => starts.push((session, position, bytes.clone())),
                    _ => drop(ends.insert(session, position)),
                }
            }
            bytes.clear();
        }
        for (session, position, start) in starts {
            let is_over = ends.get(&session).is_some_and(|end| *end <= old.bytes);
            if position <= old.bytes && !is_over {
                old.kept.extend_from_slice(&start);
                old.removed_lines -= 1;
            }
        }
        Ok(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: &str = "2025-11-20T08:00:00Z";

    /// What is removed of these lines, and what is kept of what is in front of them.
    fn removed(lines: &[&str]) -> (usize, u64, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("register.jsonl");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        let file = File::open(&path).unwrap();
        let now = Time::parse("2026-11-20T08:00:00Z").unwrap();
        let old = Old::read(&file, now, Time::parse(YEAR).unwrap()).unwrap();
        let cut = text[..old.bytes as usize].lines().count();
        (cut, old.removed_lines, String::from_utf8(old.kept).unwrap())
    }

    fn line(event: &str, session: &str, time: &str) -> String {
        let key = if event == "start" {
            "started_at"
        } else {
            "ended_at"
        };
        format!(r#"{{"event":"{event}","session":"{session}","{key}":"{time}"}}"#)
    }

    #[test]
    fn prune_removes_what_is_older_and_not_what_is_as_old() {
        let refused = |at: &str| format!(r#"{{"event":"refused","at":"{at}"}}"#);
        assert_eq!(removed(&[]), (0, 0, String::new()));
        assert_eq!(removed(&[&refused(YEAR)]), (0, 0, String::new()));
        let old = refused("2025-11-20T07:59:59Z");
        assert_eq!(removed(&[&old, &refused(YEAR)]), (1, 1, String::new()));
    }

    #[test]
    fn prune_keeps_a_session_whole() {
        let start = line("start", "1", "2025-01-01T08:00:00Z");
        let old = line("end", "1", "2025-01-01T09:00:00Z");
        let kept = format!("{start}\n");
        assert_eq!(removed(&[&start, &old]), (2, 2, String::new()));
        assert_eq!(
            removed(&[&start, &line("end", "1", YEAR)]),
            (1, 0, kept.clone())
        );
        assert_eq!(removed(&[&start]), (1, 0, kept.clone()), "it has no end");
        // An end whose clock was wrong is as old as what follows, which is young, or not there.
        for time in ["2099-01-01T00:00:00Z", "yesterday"] {
            assert_eq!(
                removed(&[&start, &line("end", "1", time)]),
                (1, 0, kept.clone())
            );
            let follows = line("start", "2", "2025-01-02T08:00:00Z");
            let (cut, removed, kept) = removed(&[&start, &line("end", "1", time), &follows]);
            assert_eq!((cut, removed, kept), (3, 2, format!("{follows}\n")));
        }
    }

    #[test]
    fn prune_believes_no_clock_that_went_back() {
        let young = line("start", "1", "2025-12-01T08:00:00Z");
        let battery_empty = line("end", "1", "2000-01-01T00:00:00Z");
        assert_eq!(removed(&[&young, &battery_empty]), (0, 0, String::new()));
    }
}
