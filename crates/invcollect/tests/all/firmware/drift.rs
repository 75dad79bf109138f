//! A setting that has another value later: the inventory, its event, and what a technician accepts.

use serde_json::json;

use super::{INI, attribute, authentication, lenovo, policy, wanted};
use crate::machine::Machine;

/// The events of one run; the next one has none.
fn told(machine: &Machine) -> Vec<String> {
    let ended = machine.run(&["changes"]);
    let message = |event: &serde_json::Value| event["message"].as_str().unwrap().to_owned();
    let told: Vec<String> = ended.lines().iter().map(message).collect();
    let again = machine.run(&["changes"]);
    assert_eq!((&*again.stdout, again.status), ("", ended.status));
    told
}

#[test]
fn a_setting_that_drifts_is_an_event_until_it_is_mended() {
    let machine = lenovo();
    let ended = machine.run(&["changes"]);
    assert_eq!(ended.status, 1, "at the first run, too");
    let [event] = ended.lines().try_into().unwrap();
    assert_eq!(
        (
            &event["event"]["action"],
            &event["message"],
            &event["labtools"]
        ),
        (
            &json!("firmware_degraded"),
            &json!("the firmware's setting VTdFeature is Disable, and firmware.ini wants Enable"),
            &json!({"part": "firmware", "action": "degraded", "subject": "VTdFeature", "fault": "vt_d", "before": "Enable", "after": "Disable"}),
        )
    );
    assert_eq!(told(&machine), [""; 0]);
    // What cannot be read is neither mended nor told again.
    let value = "sys/class/firmware-attributes/thinklmi/attributes/VTdFeature/current_value";
    machine.remove(value);
    assert_eq!(
        machine.reason("firmware.wanted.VTdFeature").unwrap(),
        "this firmware has no VTdFeature"
    );
    assert_eq!(machine.run(&["changes"]).status, 1);
    attribute(&machine, "VTdFeature", "Disable", "Disable;Enable");
    assert_eq!(told(&machine), [""; 0]);

    assert_eq!(machine.run(&["firmware"]).status, 0);
    assert_eq!(machine.run(&["changes"]).status, 0);
    attribute(&machine, "VTdFeature", "Disable", "Disable;Enable");
    assert_eq!(told(&machine).len(), 1);
    // It is no longer wanted.
    policy(&machine, "thinklmi", "", "false");
    assert_eq!(machine.run(&["changes"]).status, 0);
}

#[test]
fn an_accepted_setting_is_no_event_before_it_changes_again() {
    let machine = lenovo();
    attribute(&machine, "WakeOnLAN", "ACOnly", "Disable,ACOnly,Enable");
    assert_eq!(told(&machine).len(), 2);
    let accepted = machine.run(&["accept"]);
    assert_eq!(accepted.status, 0, "{accepted:?}");
    assert_eq!(accepted.section("baseline")["changed"], true);
    assert_eq!(machine.run(&["changes"]).status, 0);
    assert_eq!(
        machine.run(&["accept"]).section("baseline")["changed"],
        false
    );
    attribute(&machine, "WakeOnLAN", "Disable", "Disable,ACOnly,Enable");
    assert_eq!(
        told(&machine),
        ["the firmware's setting WakeOnLAN is Disable, and firmware.ini wants Enable"]
    );
}

#[test]
fn the_inventory_has_what_is_wanted() {
    let machine = lenovo();
    policy(&machine, "thinklmi", "VTdFeature=Enable", "true");
    let password = |is: &str| json!({"setting": "setup_password", "attribute": "Admin", "wanted": "set", "is": is});
    assert_eq!(wanted(&machine)[2], password("unset"));
    authentication(&machine, "Admin", "bios-admin", "1");
    assert_eq!(wanted(&machine)[2], password("set"));
    machine.write(INI, "[firmware.thinklmi]\nvt_d\n");
    assert_eq!(wanted(&machine), json!([]));
    assert!(
        machine
            .reason("firmware.wanted")
            .unwrap()
            .contains("firmware.ini")
    );
    machine.remove(INI);
    assert_eq!(machine.reason("firmware.wanted"), None);
}
