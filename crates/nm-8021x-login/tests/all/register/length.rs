//! What is read does not grow with the register.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};

use super::{Machine, end, start};

#[test]
fn register_recovers_from_its_end_however_long_it_is() {
    recovers_behind_a_hole(|n| start(&n.to_string()) + &end(&n.to_string()));
}

#[test]
fn register_recovers_from_its_end_however_many_logins_were_refused() {
    recovers_behind_a_hole(|_| {
        r#"{"event":"refused","machine":"lab-1","reason":"rejected","at":"2026-11-20T08:00:00Z"}"#
            .to_owned()
            + "\n"
    });
}

/// More than anybody could read: a hole, and at its end twenty times these lines.
fn recovers_behind_a_hole(lines: impl Fn(u32) -> String) {
    let machine = Machine::with("");
    let mut register = OpenOptions::new()
        .write(true)
        .open(machine.register())
        .unwrap();
    register.seek(SeekFrom::Start(1 << 40)).unwrap();
    let lines: String = (0..20).map(lines).collect();
    register
        .write_all(format!("\n{lines}{}", start("open")).as_bytes())
        .unwrap();
    let ended = machine.done("recover", "");
    let closed = &ended.section("register")["closed"];
    assert_eq!(
        (
            closed[0]["session"].as_str(),
            closed.as_array().map(Vec::len)
        ),
        (Some("open"), Some(1))
    );
    let length = fs::metadata(machine.register()).unwrap().len();
    assert!(length > 1 << 40);
    machine.done("recover", "");
    assert_eq!(
        fs::metadata(machine.register()).unwrap().len(),
        length,
        "once"
    );
}

#[test]
fn register_closes_a_session_in_front_of_some_that_were_added_by_hand() {
    let by_hand: String = (0..10)
        .map(|n| start(&n.to_string()) + &end(&n.to_string()))
        .collect();
    let machine = Machine::with(start("open") + &by_hand);
    machine.done("recover", "");
    assert_eq!(machine.lines().last().unwrap(), "end open power_lost");
}
