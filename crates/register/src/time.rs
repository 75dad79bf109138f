//! A time as documents and lines have it.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

/// A time, RFC 3339. It is read with any offset, and written in UTC.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Time(Timestamp);

impl Time {
    /// The error does not show the text.
    pub fn parse(text: &str) -> Result<Time, &'static str> {
        text.parse().map(Time).map_err(
            |_| "a time is wanted, such as 2026-11-20T08:00:00Z or 2026-11-20T05:00:00-03:00",
        )
    }

    /// The clock of this machine, in whole seconds.
    pub fn now() -> Time {
        let now = Timestamp::now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// So many seconds before; of all time, the beginning.
    pub fn before(self, seconds: u64) -> Time {
        let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        Time(self.0.saturating_sub(seconds).unwrap_or(Timestamp::MIN))
    }
}

impl TryFrom<String> for Time {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Time, &'static str> {
        Time::parse(&text)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_with_its_offset_and_written_in_utc() {
        for text in ["2026-11-20T08:00:00Z", "2026-11-20T05:00:00-03:00"] {
            assert_eq!(
                Time::parse(text).unwrap().to_string(),
                "2026-11-20T08:00:00Z"
            );
        }
        for text in ["", "yesterday", "2026-11-20", "2026-11-20T08:00:00", "7"] {
            assert!(Time::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn time_before_all_time_is_its_beginning() {
        let time = Time::parse("2026-11-20T08:00:00Z").unwrap();
        assert_eq!(time.before(3600).to_string(), "2026-11-20T07:00:00Z");
        assert_eq!(time.before(u64::MAX), Time(Timestamp::MIN));
    }
}
