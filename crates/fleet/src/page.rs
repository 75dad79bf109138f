//! The page, which begins with the current tasks.

mod tables;
mod to_do;
mod traffic;
mod words;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use page::numbers::{bytes, hours, noun};
use page::{Look, Page, Tile};

use crate::report::{Finding, Fleet, Room};
use words::clock;

/// The whole page.
pub fn page(fleet: &Fleet, zone: &TimeZone) -> String {
    let sections = [
        Some(to_do::to_do(
            "visit",
            "To visit",
            "These need a person on site.",
            &fleet.visit,
        )),
        Some(to_do::to_do(
            "desk",
            "From a desk",
            "This can be done without going there.",
            &fleet.remote,
        )),
        tables::rooms(fleet),
        tables::hours_of_the_week(fleet),
        fleet
            .traffic
            .as_ref()
            .map(|traffic| traffic::received(traffic, zone)),
        Some(tables::events(fleet, zone)),
        tables::versions(fleet),
        Some(tables::machines(fleet)),
        tables::software(fleet),
        Some(tables::doubts(fleet)),
    ];
    let (since, until) = (clock(&fleet.since, zone), clock(&fleet.until, zone));
    let page = Page {
        title: "The labs: what there is to do".into(),
        kind: "Computer labs",
        heading: "Tasks".into(),
        lead: format!(
            "Reports from {since} to {until}, times of {}",
            fleet.time_zone
        ),
        tiles: tiles(fleet),
        has_contents: true,
        sections: sections.into_iter().flatten().collect(),
    };
    page.write()
}

fn tiles(fleet: &Fleet) -> Vec<Tile> {
    let to_do = |findings: &[Finding]| {
        let machines = findings
            .iter()
            .map(|finding| (&finding.building, &finding.room, &finding.host));
        machines.collect::<BTreeSet<_>>().len() as u64
    };
    let (visit, remote) = (to_do(&fleet.visit), to_do(&fleet.remote));
    let heard = fleet
        .machines
        .iter()
        .filter(|machine| machine.reports > 0)
        .count();
    // A good value is only known for machines that reported.
    let good = |is_good: bool| {
        if is_good && heard > 0 {
            Look::Good
        } else {
            Look::Plain
        }
    };
    let mut tiles = vec![
        Tile::new(
            visit.to_string(),
            format!("{} to visit", noun(visit, "machine")),
            if visit == 0 { good(true) } else { Look::Bad },
        ),
        Tile::new(
            remote.to_string(),
            format!("{} to look after from a desk", noun(remote, "machine")),
            Look::Plain,
        ),
        Tile::new(
            format!("{heard} of {}", fleet.machines.len()),
            "machines reported",
            good(heard == fleet.machines.len()),
        ),
    ];
    let mut tile =
        |value: String, caption: &str| tiles.push(Tile::new(value, caption, Look::Plain));
    let sum = |of: fn(&Room) -> u64| fleet.rooms.iter().map(of).fold(0, u64::saturating_add);
    let (on, used) = (sum(|room| room.on_seconds), sum(|room| room.use_seconds));
    tile(hours(on), "they were on, together");
    if let Some(share) = used.saturating_mul(100).checked_div(on) {
        tile(format!("{share} %"), "of that in use");
    }
    let (disk, disk_used) = (
        sum(|room| room.disk_bytes),
        sum(|room| room.disk_used_bytes),
    );
    if let Some(share) = disk_used.saturating_mul(100).checked_div(disk) {
        tile(
            format!("{share} %"),
            &format!("of {} of disks is in use", bytes(disk)),
        );
    }
    tiles
}
