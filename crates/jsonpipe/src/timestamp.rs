//! Times in the form of the documents: RFC 3339, UTC, whole seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 9999-12-31T23:59:59Z in seconds since 1970: the last time that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// `2026-11-23T04:08:18Z`. A time before 1970 is shown as 1970, and one after 9999 as the last second
/// of it: a lab PC whose clock was wrong still gets a valid date.
pub fn rfc3339(time: SystemTime) -> String {
    let shown = time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST);
    humantime::format_rfc3339_seconds(shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_is_a_valid_date() {
        let seconds = Duration::from_secs;
        for (time, text) in [
            (UNIX_EPOCH - seconds(1 << 40), "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH + seconds(1_763_870_898), "2025-11-23T04:08:18Z"),
            (UNIX_EPOCH + LAST, "9999-12-31T23:59:59Z"),
            (UNIX_EPOCH + LAST + seconds(1), "9999-12-31T23:59:59Z"),
            (
                UNIX_EPOCH + seconds(i64::MAX as u64),
                "9999-12-31T23:59:59Z",
            ),
        ] {
            assert_eq!(rfc3339(time), text);
        }
    }
}
