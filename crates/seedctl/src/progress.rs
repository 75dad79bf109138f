//! How far a long work is, on standard error: a line that is overwritten on a terminal, a line every ten seconds elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const ON_A_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Says how far it is, not too often.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    next: Instant,
    /// How long the line on the terminal is.
    shown: usize,
}

impl Progress {
    /// Nothing is said before the work has taken a while.
    pub fn new() -> Progress {
        let terminal = io::stderr().is_terminal();
        Progress { terminal, next: Instant::now() + if terminal { ON_A_TERMINAL } else { ELSEWHERE }, shown: 0 }
    }

    /// `doing` 40 % of `total` bytes, and what else is to say.
    pub fn show(&mut self, doing: &str, done: u64, total: u64, more: impl fmt::Display) {
        if Instant::now() < self.next {
            return;
        }
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        let text = format!("seedctl: {doing} {percent} % of {}{more}", Size(total));
        let mut stderr = io::stderr();
        // Nobody is hurt when nobody listens.
        if self.terminal {
            let width = self.shown.max(text.chars().count());
            let _ = write!(stderr, "\r{text:width$}");
            self.shown = text.chars().count();
            self.next = Instant::now() + ON_A_TERMINAL;
        } else {
            let _ = writeln!(stderr, "{text}");
            self.next = Instant::now() + ELSEWHERE;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown > 0 {
            let _ = write!(io::stderr(), "\r{:width$}\r", "", width = self.shown);
        }
    }
}

/// Bytes for people.
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
}
