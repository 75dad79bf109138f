//! What a technician accepted on a machine is no visit any more.

use serde_json::json;

use super::{findings, fleet};
use crate::store::{MONDAY, Store};

#[test]
fn accepted_changes_are_no_findings() {
    let mut store = Store::new();
    for (name, accepted) in [("h1", false), ("h2", true)] {
        let mut machine = store.machine("at1", "r1", name);
        machine.week(MONDAY, |host| {
            host["chassis"] = json!({"opened": true, "accepted": accepted});
            host["memory"]["installed_bytes"] = (4u64 << 30).into();
            host["disks"][0]["healthy"] = false.into();
            host["disks"][0]["accepted"] = accepted.into();
            host["interfaces"][0]["speed_bits_per_second"] = 100_000_000.into();
            host["interfaces"][0]["accepted"] = accepted.into();
            if accepted {
                host["memory"]["accepted_bytes"] = (4u64 << 30).into();
            }
        });
    }
    for (name, accepted) in [("h3", false), ("h4", true)] {
        let mut machine = store.machine("at1", "r2", name);
        machine.week(MONDAY, |host| {
            host["interfaces"][0]["carrier"] = false.into();
            host["interfaces"][0]["accepted"] = accepted.into();
            let wireless =
                json!({"name": "wlan0", "hardware": true, "wireless": true, "carrier": true});
            host["interfaces"].as_array_mut().unwrap().push(wireless);
        });
    }
    let fleet = fleet(&store, &[]);
    let mut found: Vec<_> = findings(&fleet, "visit")
        .into_iter()
        .map(|(host, what, _)| (host, what))
        .collect();
    found.sort();
    let expected = [
        ("h1", "case_opened"),
        ("h1", "disk_faulty"),
        ("h1", "memory_missing"),
        ("h1", "slow_link"),
        ("h3", "wireless_only"),
    ];
    assert_eq!(found, expected);
}

/// Each interface and each disk for itself, by the name that is written on no cable, but in the
/// machine.
#[test]
fn links_and_disks_are_told_one_by_one() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "r1", "h1");
    machine.week(MONDAY, |host| {
        let link = |name: &str, mac: &str, duplex: &str| {
            json!({"name": name, "hardware": true, "wireless": false, "mac": mac, "carrier": true, "duplex": duplex,
                "speed_bits_per_second": 100_000_000, "best_speed_bits_per_second": 1_000_000_000})
        };
        let moved = json!({"permanent_mac": "02:00:00:00:00:0b"});
        host["interfaces"] = json!([
            link("eth0", "02:00:00:00:00:0a", "full"),
            link("eth1", "02:00:00:00:00:ff", "full"),
            link("eth2", "02:00:00:00:00:0c", "half")
        ]);
        host["interfaces"][1].as_object_mut().unwrap().extend(moved.as_object().unwrap().clone());
        let change = |mac: &str| {
            json!({"id": mac, "told_at": "2024-11-18T08:00:00Z", "part": "link", "action": "degraded", "subject": mac,
                "before": "1000 Mb/s", "after": "100 Mb/s"})
        };
        host["changes"] = json!([change("02:00:00:00:00:0a"), change("02:00:00:00:00:0b"), change("02:00:00:00:00:dd")]);
        let disk = |name: &str| json!({"name": name, "removable": false, "healthy": false, "faults": ["it is worn"]});
        host["disks"] = json!([disk("sda"), disk("sdb")]);
    });
    let fleet = fleet(&store, &[]);
    let found: Vec<_> = findings(&fleet, "visit")
        .into_iter()
        .map(|(_, what, seen)| (what, seen))
        .collect();
    let expected = [
        ("disk_faulty", "disk sda: it is worn"),
        ("disk_faulty", "disk sdb: it is worn"),
        (
            "slow_link",
            "eth2 is half duplex: only one end can send at a time",
        ),
        ("slow_link", "eth2 runs at 100 Mb/s, and could at 1000"),
        (
            "slow_link",
            "link degraded, 02:00:00:00:00:dd: 1000 Mb/s, now 100 Mb/s",
        ),
        (
            "slow_link",
            "link degraded, eth0 (02:00:00:00:00:0a): 1000 Mb/s, now 100 Mb/s",
        ),
        (
            "slow_link",
            "link degraded, eth1 (02:00:00:00:00:0b): 1000 Mb/s, now 100 Mb/s",
        ),
    ];
    assert_eq!(found, expected);
}

/// As a telephone that is plugged in, whose link has half duplex.
#[test]
fn an_adapter_that_comes_and_goes_is_no_finding() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "r1", "h1");
    machine.week(MONDAY, |host| {
        let adapter = json!({"name": "removable0", "hardware": true, "removable": true, "wireless": false, "carrier": true,
            "duplex": "half", "speed_bits_per_second": 100_000_000, "best_speed_bits_per_second": 1_000_000_000});
        host["interfaces"].as_array_mut().unwrap().push(adapter);
    });
    assert_eq!(findings(&fleet(&store, &[]), "visit"), []);
}
