//! What is broken, forged or hostile is counted, and hides nothing of others.

use std::fs;

use invcollect::envelope::Kind;
use serde_json::json;

use crate::store::{DAY, HOUR, MONDAY, Store, put};
use crate::{findings, fleet, of_host};

#[test]
fn what_is_not_signed_by_its_host_is_counted_and_not_believed() {
    let mut store = Store::new();
    let mut victim = store.machine("at1", "101", "victim");
    let mut other = store.machine("at1", "101", "other");
    victim.on(MONDAY + 8 * HOUR, MONDAY + 10 * HOUR, |_| ());
    other.on(MONDAY + 8 * HOUR, MONDAY + 10 * HOUR, |_| ());
    let directory = store.store().join("reports").join(&victim.id);
    let document = victim.document(MONDAY, MONDAY + DAY).to_string().replace("TAG0001", "forged");
    assert!(document.contains("forged"));

    // Another machine's report, under its own name, the victim's, and with the victim's name in it.
    other.sequence += 500;
    let theirs = fs::read(other.send(Kind::Snapshot, document.as_bytes(), MONDAY + DAY, MONDAY + DAY)).unwrap();
    put(&directory.join("001000000509"), &theirs, MONDAY + DAY);
    put(&directory.join("001000009000"), &theirs, MONDAY + DAY);
    let theirs = fs::read(other.send(Kind::Snapshot, document.as_bytes(), MONDAY + DAY, MONDAY + DAY)).unwrap();
    let sealed = String::from_utf8(theirs).unwrap().replace(&other.id, &victim.id);
    put(&directory.join("001000000510"), sealed.as_bytes(), MONDAY + DAY + 1);
    // Its own: cut off at every place, changed, not a document, of another schema, of the wrong length.
    let whole = fs::read(directory.join("001000000000")).unwrap();
    for (index, length) in [0, 1, 50, 300, whole.len() / 2, whole.len() - 1].into_iter().enumerate() {
        put(&directory.join(format!("00100000002{index}")), &whole[..length], MONDAY + DAY);
    }
    put(&directory.join("001000000030"), &vec![b'a'; (1 << 20) + 1], MONDAY + DAY);
    for payload in [
        "",
        "{}",
        "[]",
        "{\"host\":{\"schema\":2,\"collected_at\":\"2024-11-18T09:00:00Z\"}}",
        "{\"host\":{\"schema\":1,\"collected_at\":7}}",
    ] {
        victim.send(Kind::Snapshot, payload.as_bytes(), MONDAY + DAY, MONDAY + DAY);
    }
    // A stranger that nobody enrolled, a text in the name of a host that signs, names that are none.
    let stranger = store.store().join("reports/00000000-dead-4000-8000-000000000000");
    fs::create_dir(&stranger).unwrap();
    put(&stranger.join("001000000000"), &whole, MONDAY + DAY);
    store.text(&victim.id, MONDAY + DAY, "---- df ----\n");
    for name in ["reports/.x.expelled.1", "reports/..%2f", "reports/UPPER", "reports/a b"] {
        fs::create_dir(store.store().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", directory.join("001000000099")).unwrap();

    let fleet = fleet(&store, &[]);
    let rejected: Vec<_> = fleet["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["reason"].as_str().unwrap(), one["reports"].as_u64().unwrap()))
        .collect();
    // What the other says of itself is its own: that it has the victim's Ethernet address.
    let serial_of =
        |id: &str| fleet["machines"].as_array().unwrap().iter().find(|machine| machine["id"] == id).unwrap()["serial"].clone();
    assert_eq!(serial_of(&other.id), "forged");
    assert_eq!(serial_of(&victim.id), "TAG0001", "WRONG  forged: a report that its host did not sign was believed");
    let stranger = "00000000-dead-4000-8000-000000000000";
    let victim = &*victim.id;
    assert_eq!(
        rejected,
        [
            (stranger, "not_enrolled", 1),
            (victim, "wrong_signature", 1),
            (victim, "wrong_place", 2),
            (victim, "damaged", 7),
            (victim, "not_understood", 5),
            (victim, "unsigned_text", 1),
        ]
    );
    let machine = of_host(&fleet, "victim");
    assert_eq!((&machine["reports"], &machine["on_seconds"]), (&json!(9), &json!(2 * HOUR)));
    let remote: Vec<_> = findings(&fleet, "remote")
        .into_iter()
        .filter(|(_, what, _)| *what == "rejected_reports")
        .map(|(host, ..)| host)
        .collect();
    assert_eq!(remote, [stranger, "victim", "victim", "victim", "victim"]);
}
