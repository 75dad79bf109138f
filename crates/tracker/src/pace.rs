//! How fast a host gets on.

use std::time::Duration;

/// A rate is measured over this time at least, and a challenger works as long before it is judged.
pub const MEASURED: Duration = Duration::from_secs(2);
/// A rate is of the last five to ten seconds, or of the last two announces where they are rarer.
pub const RECENT: Duration = Duration::from_secs(5);

/// What a host lacked, and when.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When.
    pub at: Duration,
    /// What, in bytes.
    pub left: u64,
}

/// How fast a host got on lately.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Where it is measured from.
    pub earlier: Mark,
    later: Mark,
    last: Mark,
}

impl Pace {
    /// Of a host that has just come.
    pub fn new(at: Duration, left: u64) -> Pace {
        let mark = Mark { at, left };
        Pace {
            earlier: mark,
            later: mark,
            last: mark,
        }
    }

    /// It lacks so much now. While nothing arrives, nothing is measured: it may wait for others.
    pub fn update(&mut self, at: Duration, left: u64) {
        let mark = Mark { at, left };
        if left >= self.earlier.left {
            *self = Pace::new(at, left);
        } else if at >= self.later.at + RECENT {
            (self.earlier, self.later) = (self.later, mark);
        }
        self.last = mark;
    }

    /// In bytes a second; `None` while that cannot be told.
    pub fn rate(&self) -> Option<f64> {
        let (took, got) = (
            self.took(),
            self.earlier.left.saturating_sub(self.last.left),
        );
        (took >= MEASURED && got > 0).then(|| got as f64 / took.as_secs_f64())
    }

    /// For how long that is measured.
    pub fn took(&self) -> Duration {
        self.last.at.saturating_sub(self.earlier.at)
    }

    /// What it lacks by now, if it went on like this.
    pub fn left(&self, now: Duration, rate: f64) -> u64 {
        self.last
            .left
            .saturating_sub((rate * now.saturating_sub(self.last.at).as_secs_f64()) as u64)
    }
}
