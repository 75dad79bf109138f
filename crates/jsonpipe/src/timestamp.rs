//! Times in the form of the documents: RFC 3339, UTC, whole seconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-23T04:08:18Z`. A time before 1970 is shown as 1970: a lab PC with an empty clock
/// battery still gets a valid date.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time.max(UNIX_EPOCH)).to_string()
}
