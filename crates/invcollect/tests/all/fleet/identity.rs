//! Which machine it is, and when it was on, whatever its clock says.

use envelope::Kind;
use serde_json::json;

use super::{findings, fleet, of_host};
use crate::store::{DAY, HOUR, MONDAY, QUARTER, Store, time};

#[test]
fn clones_and_exchanged_boards_are_told_apart() {
    let mut store = Store::new();
    // One id on two machines: both boot, and report by turns.
    let mut clone = store.machine("at1", "101", "clone");
    for at in (MONDAY + 8 * HOUR..MONDAY + 10 * HOUR).step_by(QUARTER as usize) {
        for (board, offset) in [("one", 0), ("two", 7)] {
            let mut document = clone.document(MONDAY + offset, at + offset);
            document["host"]["system"] = json!({"serial": board, "uuid": board});
            clone.snapshot(&document, at + offset);
        }
    }
    // The same board under two ids at the same time, and one after the other.
    for (name, ids, apart) in [("both", 2, 0), ("again", 2, 2 * DAY)] {
        let number = store.list("at1", "102", name);
        for index in 0..ids {
            let mut machine = store.enroll(number, "at1", "102", name);
            let from = MONDAY + 8 * HOUR + index * apart;
            machine.on(from, from + HOUR, |_| ());
        }
    }
    // Another board, for good.
    let mut exchanged = store.machine("at1", "103", "exchanged");
    exchanged.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    exchanged.on(MONDAY + DAY, MONDAY + DAY + HOUR, |host| {
        host["system"]["uuid"] = "new".into()
    });
    // Another machine that says to be one of hosts.ini.
    let mut honest = store.machine("at1", "104", "honest");
    honest.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    let mut liar = store.enroll(999, "at1", "104", "honest");
    liar.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());

    let fleet = fleet(&store, &[]);
    let mut found: Vec<_> = fleet["duplicates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["kind"].as_str().unwrap(),
                one["hosts"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|host| host.as_str().unwrap())
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("board_exchanged", vec!["exchanged"]),
            ("one_board_two_ids", vec!["both", "both"]),
            ("one_id_two_machines", vec!["clone"]),
            ("one_name_two_ids", vec!["honest"]),
            ("reinstalled", vec!["again", "again"]),
        ]
    );
}

#[test]
fn a_wrong_clock_is_told_and_spoils_no_hours() {
    let mut store = Store::new();
    let mut ahead = store.machine("at1", "101", "ahead");
    let mut late = store.machine("at1", "101", "late");
    for quarter in 0..=16 {
        let at = MONDAY + 8 * HOUR + quarter * QUARTER;
        let mut document = ahead.document(MONDAY + 8 * HOUR, at);
        document["host"]["collected_at"] = time(at + 3 * DAY).into();
        ahead.send(
            Kind::Snapshot,
            document.to_string().as_bytes(),
            at + 3 * DAY,
            at + 1,
        );
        // The collector was away, and takes all at once in the evening; then one more comes at its
        // time.
        let document = late.document(MONDAY + 8 * HOUR, at);
        late.send(
            Kind::Snapshot,
            document.to_string().as_bytes(),
            at,
            MONDAY + 20 * HOUR,
        );
    }
    let document = late.document(MONDAY + 20 * HOUR - 1, MONDAY + 20 * HOUR);
    late.snapshot(&document, MONDAY + 20 * HOUR);

    let fleet = fleet(&store, &[]);
    let machine = of_host(&fleet, "ahead");
    assert_eq!(
        (&machine["clock_ahead_seconds"], &machine["on_seconds"]),
        (&json!(3 * DAY - 1), &json!(4 * HOUR))
    );
    let machine = of_host(&fleet, "late");
    assert_eq!(
        (machine.get("clock_ahead_seconds"), &machine["on_seconds"]),
        (None, &json!(4 * HOUR + 1))
    );
    let skewed: Vec<_> = findings(&fleet, "remote")
        .into_iter()
        .filter(|(_, what, _)| *what == "clock_skewed")
        .collect();
    assert_eq!(
        skewed,
        [("ahead", "clock_skewed", "its clock is 2 days ahead")]
    );
}

#[test]
fn machines_behind_are_found_by_place() {
    let mut store = Store::new();
    for (number, room, image) in [(1, "101", 11), (2, "102", 12), (3, "103", 12)] {
        let mut twin = store.enroll(number, "at1", room, "twin");
        twin.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |host| {
            host["image"]["version"] = image.into()
        });
    }
    let fleet = fleet(&store, &[]);
    let behind: Vec<_> = fleet["remote"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["what"] == "behind")
        .collect();
    assert_eq!(
        (behind.len(), &behind[0]["building"], &behind[0]["room"]),
        (1, &json!("at1"), &json!("101"))
    );
}
