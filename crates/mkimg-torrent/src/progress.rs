//! How far the work is, on standard error: a bar on a terminal, a plain line every few seconds elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jsonpipe::Pipe;

const BETWEEN_BARS: Duration = Duration::from_millis(200);
const BETWEEN_LINES: Duration = Duration::from_secs(5);
const BAR: usize = 30;

/// Work that is counted in bytes.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: u64,
    done: AtomicU64,
}

impl Progress {
    /// `what` is done, as in `hashing FILE`, to `total` bytes.
    pub fn new(what: impl fmt::Display, total: u64) -> Progress {
        Progress { what: what.to_string(), total, done: AtomicU64::new(0) }
    }

    /// So many more are done.
    pub fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Does `work`, and meanwhile shows how far it is.
    pub fn shown<T>(&self, pipe: &Pipe, work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let (end, ended) = mpsc::channel::<()>();
            scope.spawn(move || self.show(pipe, &ended));
            let _end = end; // dropped when the work is done, or panics
            work()
        })
    }

    fn show(&self, pipe: &Pipe, ended: &mpsc::Receiver<()>) {
        let mut stderr = io::stderr();
        let terminal = stderr.is_terminal();
        let since = Instant::now();
        while ended.recv_timeout(if terminal { BETWEEN_BARS } else { BETWEEN_LINES }) == Err(RecvTimeoutError::Timeout) {
            let line = self.line(since.elapsed());
            if terminal {
                let full = self.permille() as usize * BAR / 1000;
                let _ = write!(stderr, "\r\x1b[K[{}{}] {line}", "#".repeat(full), "-".repeat(BAR - full)); // nobody to tell
            } else {
                pipe.warn(line);
            }
        }
        if terminal {
            let _ = write!(stderr, "\r\x1b[K");
        }
    }

    fn permille(&self) -> u64 {
        let done = self.done.load(Ordering::Relaxed).min(self.total);
        (u128::from(done) * 1000 / u128::from(self.total.max(1))) as u64
    }

    fn line(&self, elapsed: Duration) -> String {
        let done = self.done.load(Ordering::Relaxed);
        let rate = (done as f64 / elapsed.as_secs_f64().max(1e-3)) as u64;
        let left = (self.total.saturating_sub(done)).checked_div(rate).map_or(String::new(), |left| format!(", {left} s left"));
        let Progress { what, total, .. } = self;
        format!("{what}: {} % of {}, {}/s{left}", self.permille() / 10, Size(*total), Size(rate))
    }
}

/// A number of bytes for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
            bytes => write!(f, "{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_how_fast_and_how_long() {
        let progress = Progress::new("hashing /x", 60 << 30);
        assert_eq!(progress.line(Duration::ZERO), "hashing /x: 0 % of 60.0 GiB, 0.0 MiB/s");
        progress.advance(15 << 30);
        assert_eq!(progress.line(Duration::from_secs(10)), "hashing /x: 25 % of 60.0 GiB, 1.5 GiB/s, 30 s left");
        progress.advance(90 << 30); // more than there was
        assert_eq!(progress.line(Duration::from_secs(105)), "hashing /x: 100 % of 60.0 GiB, 1.0 GiB/s, 0 s left");
        assert_eq!(Progress::new("x", 0).permille(), 0);
    }
}
