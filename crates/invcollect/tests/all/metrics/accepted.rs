//! What a technician accepted calls nobody any more: neither by an event, nor by a metric, nor by
//! the report.

use serde_json::{Value, json};

use super::{metrics, samples};
use crate::machine::Machine;
use crate::machine::smbios::Tables;

const SPEED: &str = "labtools_link_speed_bytes_per_second{interface=\"eth0\",medium=\"wired\"}";
const BEST: &str = "labtools_link_best_speed_bytes_per_second{interface=\"eth0\",medium=\"wired\"}";
const HALF: &str = "labtools_link_half_duplex{interface=\"eth0\",medium=\"wired\"}";
const HEALTHY: &str = "labtools_disk_healthy{disk=\"WD-WCC2EKP12345\"}";

/// What is told of a machine on which all of this is wrong from the first look on: an opened case,
/// a slow link that sends by turns, a faulty disk, half of its memory.
fn wrong() -> Machine {
    let machine = Machine::optiplex();
    let mut tables = Tables::optiplex();
    tables.slots[2].mib = 0;
    machine.firmware(&tables);
    machine.intrusion(true);
    machine.speed("eth0", Some(100));
    machine.write("sys/class/net/eth0/duplex", "half\n");
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":"SMART says that it is about to fail"}}"#,
    );
    machine.run(&["changes"]);
    machine.boot("11111111-0000-4000-8000-000000000001", 3600 + 60);
    machine.run(&["changes"]);
    machine
}

fn values(machine: &Machine, names: &[&str]) -> Vec<Option<f64>> {
    let samples = samples(&metrics(machine));
    names
        .iter()
        .map(|name| samples.get(*name).copied())
        .collect()
}

const NAMES: &[&str] = &[
    "labtools_chassis_opened{}",
    "labtools_memory_installed_bytes{}",
    "labtools_memory_expected_bytes{}",
    HEALTHY,
    SPEED,
    BEST,
    HALF,
];

fn marks(machine: &Machine) -> [Value; 4] {
    let host = machine.host();
    [
        "/chassis/accepted",
        "/memory/accepted_bytes",
        "/disks/0/accepted",
        "/interfaces/0/accepted",
    ]
    .map(|path| host.pointer(path).cloned().unwrap_or_default())
}

#[test]
fn accepted_changes_are_silent() {
    let machine = wrong();
    let gib = |count: f64| Some(count * 1073741824.0);
    let told = [
        Some(1.0),
        gib(4.0),
        gib(8.0),
        Some(0.0),
        Some(12.5e6),
        Some(125e6),
        Some(1.0),
    ];
    assert_eq!(
        (values(&machine, NAMES), marks(&machine)),
        (told.to_vec(), Default::default())
    );
    assert_eq!(
        machine.run(&["accept"]).document()["baseline"]["accepted"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let silent = [
        Some(0.0),
        gib(4.0),
        gib(4.0),
        Some(1.0),
        Some(12.5e6),
        Some(12.5e6),
        Some(0.0),
    ];
    let accepted = [json!(true), json!(4u64 << 30), json!(true), json!(true)];
    assert_eq!(
        (values(&machine, NAMES), marks(&machine)),
        (silent.to_vec(), accepted)
    );
    assert_eq!(
        machine.host()["chassis"]["opened"],
        true,
        "what is so is still told"
    );

    // An older release did not write who took the baseline. What is wrong in it was accepted all
    // the same.
    let baseline = machine.read("var/lib/labtools/baseline.json");
    let older = baseline.replace("  \"accepted\": true,\n", "");
    assert_ne!(older, baseline);
    machine.write("var/lib/labtools/baseline.json", older);
    assert_eq!(
        values(
            &machine,
            &["labtools_chassis_opened{}", HEALTHY, BEST, HALF]
        ),
        [Some(0.0), Some(1.0), Some(12.5e6), Some(0.0)]
    );
    machine.write("var/lib/labtools/baseline.json", baseline);

    // What is worse than what was accepted is not.
    machine.speed("eth0", Some(10));
    machine
        .write("smart.json", r#"{"sda":{"smart":"SMART says that it is about to fail","spare":"it has no spare blocks left"}}"#);
    assert_eq!(
        values(&machine, &[HEALTHY, SPEED, BEST]),
        [Some(0.0), Some(1.25e6), Some(12.5e6)]
    );
    assert_eq!(marks(&machine)[2..], [Value::Null, Value::Null]);
}

/// The first look accepts nothing: only a technician does.
#[test]
fn a_missing_cable_calls_somebody_until_it_is_accepted() {
    let only = "labtools_wireless_only{}";
    let machine = Machine::optiplex();
    machine.speed("eth0", None);
    machine.wireless("wlan0", "00:1b:21:0a:0b:0e", true);
    machine.run(&["changes"]);
    assert_eq!(values(&machine, &[only]), [Some(1.0)]);
    machine.run(&["accept"]);
    assert_eq!(
        (values(&machine, &[only]), marks(&machine)[3].clone()),
        (vec![Some(0.0)], json!(true))
    );
    machine.speed("eth0", Some(1000));
    machine.run(&["changes"]);
    machine.speed("eth0", None);
    assert_eq!(values(&machine, &[only]), [Some(1.0)], "it had one since");
}

/// A chip whose pin floats says for ever that the case was opened. No technician can reset what is
/// not there.
#[test]
fn a_model_without_a_switch_was_never_opened() {
    let machine = wrong();
    let opened = "labtools_changes{part=\"chassis\",action=\"opened\"}";
    assert_eq!(values(&machine, &[opened]), [Some(1.0)]);
    machine.write(
        "etc/labtools/models.ini",
        "[model.OptiPlex 7010]\ndevices=00:02.0 8086:0152\nintrusion_switch=false\n",
    );
    machine.run(&["changes"]);
    assert_eq!(
        values(&machine, &[opened, "labtools_chassis_opened{}"]),
        [None, None]
    );
    let host = machine.host();
    assert_eq!(
        (
            &host["chassis"]["opened"],
            &host["chassis"]["intrusion_switch"]
        ),
        (&Value::Null, &json!(false))
    );
    assert_eq!(
        machine.reason("chassis.opened").unwrap(),
        "models.ini says that this model has no intrusion switch"
    );

    machine.write(
        "etc/labtools/models.ini",
        "[model.OptiPlex 7010]\nintrusion_switch=maybe\n",
    );
    assert!(
        machine
            .reason("configuration")
            .unwrap()
            .contains("intrusion_switch")
    );
    assert_eq!(machine.host()["chassis"]["opened"], true);
}

/// A bridge and a VLAN have the address of the port below them: one cable is one link.
#[test]
fn bridges_and_vlans_add_no_link() {
    let machine = Machine::optiplex();
    for name in ["br0", "eth0.100"] {
        machine.wired(name, "00:1b:21:0a:0b:0c", Some(1000));
        machine.remove(&format!("sys/class/net/{name}/device"));
    }
    machine.run(&["changes"]);
    for name in ["br0", "eth0", "eth0.100"] {
        machine.speed(name, Some(100));
    }
    let of_links: Vec<String> = samples(&metrics(&machine))
        .into_keys()
        .filter(|name| name.starts_with("labtools_link_"))
        .collect();
    let up = "labtools_link_up{interface=\"eth0\",medium=\"wired\"}";
    assert_eq!(of_links, [BEST, HALF, SPEED, up]);
}

/// An adapter on USB may be a telephone, which says that it is half duplex: no technician is called
/// for it, nor for its cable.
#[test]
fn removable_adapters_raise_no_alarm() {
    let machine = Machine::optiplex();
    machine.wireless("wlan0", "00:1b:21:0a:0b:0f", true);
    machine.wired("usb0", "02:a1:b2:c3:d4:e5", Some(10));
    machine.link("sys/class/net/usb0/device/subsystem", "../../../../bus/usb");
    machine.write("sys/class/net/usb0/duplex", "half\n");
    let half: Vec<String> = metrics(&machine)
        .lines()
        .filter(|line| line.starts_with("labtools_link_half_duplex{"))
        .map(str::to_owned)
        .collect();
    assert!(
        matches!(&half[..], [one] if one.ends_with(r#"interface="eth0",medium="wired"} 0"#)),
        "{half:?}"
    );
    machine.remove("sys/class/net/eth0");
    machine.speed("usb0", None);
    let text = metrics(&machine);
    let only = text
        .lines()
        .find(|line| line.starts_with("labtools_wireless_only{"))
        .unwrap();
    assert!(only.ends_with(" 0"), "it has nothing else: {only}");
}
