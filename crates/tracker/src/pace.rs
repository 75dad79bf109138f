//! The pace of a host.

use std::time::Duration;

/// The minimum time of a measurement, and the minimum time before a challenger is judged.
pub const MEASURED: Duration = Duration::from_secs(2);
/// A rate covers the last five to ten seconds, or the last two announces where they are rarer.
pub const RECENT: Duration = Duration::from_secs(5);

/// The missing bytes at a time.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The time.
    pub at: Duration,
    /// The missing bytes.
    pub left: u64,
}

/// The recent pace of a host.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The start of the measurement.
    pub earlier: Mark,
    later: Mark,
    last: Mark,
}

impl Pace {
    /// The pace of a new host.
    pub fn new(at: Duration, left: u64) -> Pace {
        let mark = Mark { at, left };
        Pace {
            earlier: mark,
            later: mark,
            last: mark,
        }
    }

    /// Adds a reading. While nothing arrives, nothing is measured: the host may be waiting for
    /// others.
    pub fn update(&mut self, at: Duration, left: u64) {
        let mark = Mark { at, left };
        if left >= self.earlier.left {
            *self = Pace::new(at, left);
        } else if at >= self.later.at + RECENT {
            (self.earlier, self.later) = (self.later, mark);
        }
        self.last = mark;
    }

    /// In bytes per second; `None` while it is not known.
    pub fn rate(&self) -> Option<f64> {
        let (took, got) = (
            self.took(),
            self.earlier.left.saturating_sub(self.last.left),
        );
        (took >= MEASURED && got > 0).then(|| got as f64 / took.as_secs_f64())
    }

    /// The time that the measurement covers.
    pub fn took(&self) -> Duration {
        self.last.at.saturating_sub(self.earlier.at)
    }

    /// The bytes it lacks by now, extrapolated at this rate.
    pub fn left(&self, now: Duration, rate: f64) -> u64 {
        self.last
            .left
            .saturating_sub((rate * now.saturating_sub(self.last.at).as_secs_f64()) as u64)
    }
}
