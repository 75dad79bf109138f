//! The tracker's two clocks: one that only goes forward, by which it decides, and the one on the
//! wall, which its documents have.
//!
//! The one on the wall may be set at any time, as by NTP some time after the machine has started.
//! What happened before is then told as if it had been right all the time.

use std::time::{Duration, Instant, SystemTime};

use jsonpipe::timestamp::rfc3339;

/// Less than this is no step: the two are read one after the other, and NTP slews.
const STEP: Duration = Duration::from_secs(1);

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    /// What the clock on the wall shows, or should have shown, at the start.
    started_at: SystemTime,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Clock {
        Clock {
            started: Instant::now(),
            started_at: SystemTime::now(),
        }
    }

    /// Since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A moment since the start as the documents have it, by the clock on the wall as it was at the
    /// last [`Clock::set`].
    pub fn at(&self, moment: Duration) -> String {
        rfc3339(self.started_at + moment)
    }

    /// Looks at the clock on the wall. Times that were told stay as they are unless it was set
    /// meanwhile.
    pub fn set(&mut self) {
        self.set_to(SystemTime::now(), self.now());
    }

    fn set_to(&mut self, wall: SystemTime, now: Duration) {
        let started_at = wall.checked_sub(now).unwrap_or(SystemTime::UNIX_EPOCH);
        let step = started_at
            .duration_since(self.started_at)
            .unwrap_or_else(|error| error.duration());
        if step > STEP {
            self.started_at = started_at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_clock_on_the_wall_when_it_is_set_and_else_stay() {
        let seconds = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let moment = Duration::from_secs(5);
        let mut clock = Clock {
            started: Instant::now(),
            started_at: seconds(1_000_000),
        };
        clock.set_to(
            seconds(1_000_010) + Duration::from_millis(900),
            Duration::from_secs(10),
        );
        assert_eq!(clock.at(moment), rfc3339(seconds(1_000_005)), "no step");
        // NTP sets it 26 hours forward, and later two seconds back.
        clock.set_to(seconds(1_000_020 + 93_600), Duration::from_secs(20));
        assert_eq!(clock.at(moment), rfc3339(seconds(1_000_005 + 93_600)));
        clock.set_to(seconds(1_000_028 + 93_600), Duration::from_secs(30));
        assert_eq!(clock.at(moment), rfc3339(seconds(1_000_003 + 93_600)));
    }
}
