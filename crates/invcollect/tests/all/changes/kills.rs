//! Wherever a run ends, no event is lost, and none is in the log twice.

use std::fs;

use serde_json::{Value, json};

use super::{BASELINE, LOG, known, told, without_module};
use jsonpipe::testkit::stepped::killed_before;

use crate::machine::{self, Machine};

/// Somebody else writes lines that speak of the events which are not in the log yet: none of these
/// is the event.
fn quote_waiting_events(machine: &Machine) {
    let Ok(baseline) = fs::read_to_string(machine.path(BASELINE)) else {
        return;
    };
    let baseline: Value = serde_json::from_str(&baseline).unwrap();
    for event in baseline["unlogged"].as_array().unwrap() {
        let id = &event["event"]["id"];
        let mut log = fs::read_to_string(machine.path(LOG)).unwrap_or_default();
        log += &format!(
            "{}\n",
            json!({"event": "stage", "error": format!("see event {id}"), "about": {"event": {"id": id}}})
        );
        log += &format!("{}\n", json!({"event": "stage", "id": id}));
        machine.write(LOG, log);
    }
}

/// Killed before any call that changes something: the next run completes it, and no event is lost
/// or in the log twice.
#[test]
fn killed_at_any_point_nothing_is_lost_or_doubled() {
    let mut kills = 0;
    loop {
        let machine = known();
        machine.firmware(&without_module("0A00B001"));
        machine.intrusion(true);
        let killed = killed_before(&mut machine.command(&["changes"]), kills, machine::changes);
        quote_waiting_events(&machine);
        machine.run(&["changes"]);
        let log = fs::read_to_string(machine.path(LOG)).unwrap_or_default();
        let events = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone());
        let mut actions: Vec<String> = events
            .filter(|event| event.is_object())
            .map(|event| event["action"].to_string())
            .collect();
        actions.sort();
        assert_eq!(
            actions,
            ["\"chassis_opened\"", "\"memory_removed\""],
            "killed before change {kills}"
        );
        assert_eq!(machine.run(&["changes"]).stdout, "");
        if !killed {
            break;
        }
        kills += 1;
    }
    assert!(
        kills > 15,
        "only {kills} changes; the calls that this run makes are not among those that it is killed at"
    );
}

/// Accepted at any point or not: what was new is in the log once.
#[test]
fn accept_killed_at_any_point_loses_no_event() {
    let mut kills = 0;
    loop {
        let machine = known();
        machine.intrusion(true);
        let killed = killed_before(&mut machine.command(&["accept"]), kills, machine::changes);
        assert_eq!(machine.run(&["accept"]).status, 0);
        assert_eq!(
            machine.read(LOG).lines().count(),
            1,
            "killed before change {kills}"
        );
        assert_eq!(told(&machine), Vec::<String>::new());
        if !killed {
            break;
        }
        kills += 1;
    }
    assert!(kills > 15, "only {kills} changes");
}
