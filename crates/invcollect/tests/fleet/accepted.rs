//! What a technician accepted on a machine is no visit any more.

use serde_json::json;

use crate::store::{MONDAY, Store};
use crate::{findings, fleet};

#[test]
fn what_was_accepted_is_no_finding() {
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
            let wireless = json!({"name": "wlan0", "hardware": true, "wireless": true, "carrier": true});
            host["interfaces"].as_array_mut().unwrap().push(wireless);
        });
    }
    let fleet = fleet(&store, &[]);
    let mut found: Vec<_> = findings(&fleet, "visit").into_iter().map(|(host, what, _)| (host, what)).collect();
    found.sort();
    let expected =
        [("h1", "case_opened"), ("h1", "disk_faulty"), ("h1", "memory_missing"), ("h1", "slow_link"), ("h3", "wireless_only")];
    assert_eq!(found, expected);
}
