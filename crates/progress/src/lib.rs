//! The progress of long work, on standard error: a bar on a terminal, otherwise a plain line every
//! few seconds.
//!
//! **Admission rule.** Belongs here: showing that a tool works on many bytes, and formatting such
//! numbers on standard error. Not: the content of a document or of a page (`page`).

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use jsonpipe::{Tool, shown};

const BETWEEN_BARS: Duration = Duration::from_millis(200);
const BETWEEN_LINES: Duration = Duration::from_secs(5);
const BAR: usize = 20;

/// Shows the progress of work, at intervals, and not for short work.
#[derive(Debug)]
pub struct Progress {
    tool: &'static str,
    terminal: bool,
    began: Instant,
    next: Instant,
    drawn: bool,
}

impl Progress {
    /// For work that begins now.
    pub fn new(tool: Tool) -> Progress {
        let (began, terminal) = (Instant::now(), io::stderr().is_terminal());
        Progress {
            tool: tool.name,
            terminal,
            began,
            next: began + pause(terminal),
            drawn: false,
        }
    }

    /// Shows `doing`, such as `hashing FILE`, with the bytes done, the rate, and the remaining
    /// time.
    pub fn show(&mut self, doing: impl fmt::Display, done: u64, total: u64) {
        let pace = Pace {
            done,
            total,
            elapsed: self.began.elapsed(),
        };
        self.show_with(doing, done, total, pace);
    }

    /// The same, with another text in place of the rate.
    pub fn show_with(
        &mut self,
        doing: impl fmt::Display,
        done: u64,
        total: u64,
        more: impl fmt::Display,
    ) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + pause(self.terminal);
        let permille = permille(done, total);
        let text = format!(
            "{}: {doing}: {} % of {}{more}",
            self.tool,
            permille / 10,
            Size(total)
        );
        let text = shown(&text);
        let mut stderr = io::stderr();
        // Errors are ignored: progress is not essential.
        if self.terminal {
            let full = permille as usize * BAR / 1000;
            let bar = format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full));
            // Without wrapping: the excess is cut off, because a wrapped line could not be
            // overwritten.
            let _ = write!(stderr, "\r\x1b[K\x1b[?7l{bar} {text}\x1b[?7h");
            self.drawn = true;
        } else {
            let _ = writeln!(stderr, "{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn pause(terminal: bool) -> Duration {
    if terminal {
        BETWEEN_BARS
    } else {
        BETWEEN_LINES
    }
}

fn permille(done: u64, total: u64) -> u64 {
    (u128::from(done.min(total)) * 1000 / u128::from(total.max(1))) as u64
}

struct Pace {
    done: u64,
    total: u64,
    elapsed: Duration,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = (self.done as f64 / self.elapsed.as_secs_f64().max(1e-3)) as u64;
        write!(f, ", {}/s", Size(rate))?;
        match self.total.saturating_sub(self.done).checked_div(rate) {
            Some(left) => write!(f, ", {left} s left"),
            None => Ok(()),
        }
    }
}

/// A size in readable form.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..1_000_000 => (1e3, "kB"),
            1_000_000..1_000_000_000 => (1e6, "MB"),
            _ => (1e9, "GB"),
        };
        write!(f, "{:.1} {name}", self.0 as f64 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(
            [0, 1500, 2_000_000, 42_949_672_960].map(|size| Size(size).to_string()),
            ["0.0 kB", "1.5 kB", "2.0 MB", "42.9 GB"]
        );
    }

    #[test]
    fn a_pace_tells_how_fast_and_how_long() {
        let pace = |done, seconds| {
            Pace {
                done,
                total: 60_000_000_000,
                elapsed: Duration::from_secs(seconds),
            }
            .to_string()
        };
        assert_eq!(pace(0, 0), ", 0.0 kB/s");
        assert_eq!(pace(15_000_000_000, 10), ", 1.5 GB/s, 30 s left");
        assert_eq!(pace(90_000_000_000, 90), ", 1.0 GB/s, 0 s left"); // more than there was
    }

    #[test]
    fn shares_stay_below_the_whole() {
        assert_eq!(
            [(0, 0), (1, 3), (5, 4), (u64::MAX, u64::MAX)]
                .map(|(done, total)| permille(done, total)),
            [0, 333, 1000, 1000]
        );
    }
}
