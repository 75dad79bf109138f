//! Places and times in the form of the page.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time;

/// A room, with its building.
pub fn place(building: &str, room: &str) -> String {
    if room.is_empty() {
        "no room known".into()
    } else {
        format!("{building}, room {room}")
    }
}

/// A local time.
pub fn clock(rfc3339: &str, zone: &TimeZone) -> String {
    let wall = time::parse(rfc3339)
        .and_then(|at| Timestamp::from_second(at).ok())
        .map(|at| zone.to_datetime(at));
    wall.map_or_else(
        || "some time".into(),
        |wall| wall.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}
