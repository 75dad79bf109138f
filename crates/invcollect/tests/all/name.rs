//! `name`: what a boot gives a machine as its name, by the list of all machines.

use std::fs;

use serde_json::{Value, json};

use crate::machine::Machine;

const HOSTS: &str = "etc/labtools/hosts.ini";
const NAME: &str = "proc/sys/kernel/hostname";
const KEPT: &str = "run/labtools/machine.json";

/// The machine is called `lab`, as in its image.
fn machine(hosts: &str) -> Machine {
    let machine = Machine::empty();
    machine.wired("eno1", "02:00:5e:0A:1b:2c", Some(1000));
    machine.write(NAME, "lab\n");
    machine.write("netlink.json", "{}");
    machine.write(HOSTS, hosts);
    machine
}

fn host(name: &str, mac: &str, address: &str) -> String {
    format!("[host.{name}]\nmac={mac}\naddress={address}\nbuilding=AT10\nroom=Sala 3, $(x) é\n")
}

/// The status, the section, and the name that the kernel has then.
fn named(machine: &Machine) -> (i32, Value, String) {
    let ended = machine.run(&["name"]);
    assert_eq!(machine.read(KEPT), ended.stdout);
    let name = machine.read(NAME);
    (ended.status, ended.section("machine"), name)
}

#[test]
fn a_machine_of_the_list_has_its_name_and_its_room() {
    let others = host("pc2", "02:00:5e:00:00:02", "10.0.0.2");
    for mac in ["02:00:5e:0a:1b:2c", "02:00:5E:0A:1B:2C"] {
        let machine = machine(&(others.clone() + &host("pc1.lab", mac, "10.0.0.1")));
        let mut wanted = json!({
            "schema": 1, "changed": true, "name": "pc1.lab", "building": "AT10", "room": "Sala 3, $(x) é", "missing": []
        });
        assert_eq!(named(&machine), (0, wanted.clone(), "pc1.lab".into()));
        wanted["changed"] = false.into();
        assert_eq!(named(&machine), (0, wanted, "pc1.lab".into()));
    }
}

#[test]
fn a_machine_that_the_list_does_not_name_has_a_name_of_its_address() {
    let without_file = machine("");
    without_file.remove(HOSTS);
    let other = machine(&host("pc2", "02:00:5e:00:00:02", "10.0.0.2"));
    for (machine, reason) in [
        (without_file, "no "),
        (other, "no address of a wired port of this machine"),
    ] {
        let (status, section, name) = named(&machine);
        assert_eq!((status, name.as_str()), (0, "lab-0a1b2c"));
        assert_eq!(
            (&section["name"], &section["room"]),
            (&json!(name), &json!(null))
        );
        let missing = &section["missing"][0];
        assert_eq!(missing["key"], "room");
        assert!(
            missing["reason"].as_str().unwrap().contains(reason),
            "{missing}"
        );
    }
}

#[test]
fn a_list_that_is_wrong_is_said_and_the_machine_has_a_name_all_the_same() {
    let ours = |name: &str| host(name, "02:00:5e:0a:1b:2c", "10.0.0.1");
    let long = "a".repeat(65);
    for (hosts, reason) in [
        (ours("PC 1"), "not the name of a host"),
        (ours("$(x)"), "not the name of a host"),
        (ours("ação"), "not the name of a host"),
        (ours(&"a".repeat(300)), "not the name of a host"),
        (ours(&long), "not the name of a host"),
        (
            ours("pc1") + &host("pc2", "02:00:5E:0A:1B:2C", "10.0.0.2"),
            "another host also has it",
        ),
        (
            ours("pc1") + &host("pc2", "02:00:5e:00:00:09", "10.0.0.2"),
            "pc1 and pc2 both have",
        ),
        ("\0\u{1b}[2J".into(), "control character"),
        ("[host.pc1]\nmac=x\n".into(), "hosts.ini"),
    ] {
        let machine = machine(&hosts);
        machine.wired("eno2", "02:00:5e:00:00:09", None);
        let ended = machine.run(&["name"]);
        assert_eq!(ended.status, 1, "{ended:?}");
        assert!(ended.stderr.contains(reason), "{reason}: {}", ended.stderr);
        assert_eq!(machine.read(NAME), "lab-000009", "{reason}");
        assert_eq!(ended.section("machine")["name"], "lab-000009");
        let why = ended.section("machine")["missing"][0]["reason"].to_string();
        assert!(ended.stdout.contains(reason), "{why}");
    }
}

#[test]
fn the_fault_of_the_list_is_in_the_event_log() {
    let machine = machine("[host.pc1]\nmac=x\n");
    machine.directory("var/log/labtools");
    assert_eq!(machine.run(&["name", "--log"]).status, 1);
    let line: Value = serde_json::from_str(&machine.read("var/log/labtools/events.jsonl")).unwrap();
    assert_eq!(
        (&line["command"], &line["status"]),
        (&json!("name"), &json!(1))
    );
    let said = line["error"].as_str().unwrap();
    assert!(
        said.starts_with("invcollect: naming this machine: "),
        "{said}"
    );
    assert_eq!(line["report"]["name"], "lab-0a1b2c");
}

/// What a user plugs in gives no name, and neither does an entry with its address.
#[test]
fn ports_that_come_and_go_do_not_count() {
    let machine = machine(&host("pc1", "02:00:00:00:00:01", "10.0.0.1"));
    machine.wired("usb0", "02:00:00:00:00:01", Some(100));
    machine.link("sys/class/net/usb0/device/subsystem", "../../bus/usb");
    assert_eq!(named(&machine).2, "lab-0a1b2c");
    machine.remove("sys/class/net/eno1");
    machine.wireless("wlan0", "02:00:00:00:00:02", true);
    assert_eq!(named(&machine).2, "lab-000002");
}

#[test]
fn a_machine_without_a_port_keeps_its_name() {
    let machine = machine(&host("pc1", "02:00:5e:0a:1b:2c", "10.0.0.1"));
    machine.remove("sys/class/net/eno1");
    let ended = machine.run(&["name"]);
    let section = ended.section("machine");
    assert_eq!(
        (ended.status, machine.read(NAME).trim(), &section["name"]),
        (1, "lab", &json!(null))
    );
    assert_eq!(
        section["missing"][1],
        json!({"key": "name", "reason": "no port of this machine was found"})
    );
    assert!(ended.stderr.contains("; no port of"), "{}", ended.stderr);
}

#[test]
fn a_dry_run_and_a_failure_leave_the_name_as_it_was() {
    let machine = machine(&host("pc1", "02:00:5e:0a:1b:2c", "10.0.0.1"));
    let ended = machine.run(&["name", "--dry-run"]);
    assert_eq!(
        (ended.status, &ended.section("machine")["name"]),
        (0, &json!("pc1"))
    );
    assert_eq!(machine.read(NAME), "lab\n");
    assert!(!machine.path("run").exists());
    fs::write(machine.path("run"), "").unwrap(); // no directory can be made there
    let ended = machine.run(&["name"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (74, ""), "{ended:?}");
    assert_eq!(machine.read(NAME), "lab");
}
