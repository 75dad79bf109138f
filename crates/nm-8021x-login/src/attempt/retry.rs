//! When a link that is down is tried again.

use std::time::{Duration, Instant};

/// A link that failed is tried again after this long, then after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When a link that is down is tried again.
#[derive(Debug, Default)]
pub struct Retry {
    at: Option<Instant>,
    pause: Option<Duration>,
}

impl Retry {
    /// Whether it is now.
    pub fn is_due(&self) -> bool {
        self.left().is_zero()
    }

    /// How long until then.
    pub fn left(&self) -> Duration {
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        self.at.map_or(Duration::ZERO, left)
    }

    /// It failed once more.
    pub fn put_off(&mut self) {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |pause| LONGEST_PAUSE.min(2 * pause));
        (self.pause, self.at) = (Some(pause), Some(Instant::now() + pause));
    }
}
