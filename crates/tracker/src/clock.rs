//! The tracker's two clocks: a monotonic clock for its decisions, and the wall clock for its
//! documents.
//!
//! The wall clock may be set at any time, as by NTP some time after boot. Earlier events are then
//! reported as if it had been right all the time.

use std::time::{Duration, Instant, SystemTime};

use jsonpipe::timestamp::rfc3339;

/// A smaller difference is no step: the two clocks are read one after the other, and NTP slews.
const STEP: Duration = Duration::from_secs(1);

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    /// The wall clock's time at the start, corrected by later steps.
    started_at: SystemTime,
}

impl Clock {
    /// Starts both clocks.
    pub fn start() -> Clock {
        Clock {
            started: Instant::now(),
            started_at: SystemTime::now(),
        }
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A moment since the start in the form of the documents, by the wall clock as it was at the
    /// last [`Clock::set`].
    pub fn at(&self, moment: Duration) -> String {
        rfc3339(self.started_at + moment)
    }

    /// Reads the wall clock. Reported times stay the same unless it was set meanwhile.
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
