//! `collect --glpi`: the inventory as GLPI takes it.
//!
//! What glpi-project/inventory_format 1.2 asks of the parts that are written, compared by hand with
//! its inventory.schema.json: which keys there are, of which type, and what may stand in them. It
//! allows other keys below `content` since 1.2, which is why `x_invcollect` may be there, but
//! ignores them: of all others a key that is not here is an error. At the top it allows none.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::machine::smbios::Tables;
use crate::machine::{ID, Machine};

const STRING: &str = "string";
const INTEGER: &str = "integer";
const BOOLEAN: &str = "boolean";
const DATE: &str = "date";
const DATE_TIME: &str = "date and time";

type Keys = &'static [(&'static str, &'static str)];

const SECTIONS: &[(&str, Keys)] = &[
    (
        "hardware",
        &[
            ("name", STRING),
            ("uuid", STRING),
            ("memory", INTEGER),
            ("defaultgateway", STRING),
            ("chassis_type", STRING),
        ],
    ),
    (
        "bios",
        &[
            ("bmanufacturer", STRING),
            ("bversion", STRING),
            ("bdate", DATE),
            ("smanufacturer", STRING),
            ("smodel", STRING),
            ("ssn", STRING),
            ("mmanufacturer", STRING),
            ("mmodel", STRING),
            ("msn", STRING),
            ("enclosureserial", STRING),
            ("assettag", STRING),
        ],
    ),
    (
        "operatingsystem",
        &[
            ("kernel_name", STRING),
            ("kernel_version", STRING),
            ("arch", STRING),
            ("boot_time", DATE_TIME),
            ("timezone", "timezone"),
        ],
    ),
    (
        "cpus",
        &[
            ("name", STRING),
            ("arch", "x86_64"),
            ("core", INTEGER),
            ("thread", INTEGER),
        ],
    ),
    (
        "memories",
        &[
            ("capacity", INTEGER),
            ("caption", STRING),
            ("manufacturer", STRING),
            ("serialnumber", STRING),
            ("model", STRING),
            ("speed", STRING),
            ("numslots", INTEGER),
            ("type", STRING),
        ],
    ),
    (
        "storages",
        &[
            ("name", STRING),
            ("model", STRING),
            ("serial", STRING),
            ("wwn", STRING),
            ("disksize", INTEGER),
            ("type", STRING),
            ("description", STRING),
            ("interface", STRING),
        ],
    ),
    (
        "drives",
        &[
            ("type", STRING),
            ("volumn", STRING),
            ("filesystem", STRING),
            ("total", INTEGER),
            ("free", INTEGER),
        ],
    ),
    (
        "networks",
        &[
            ("description", STRING),
            ("mac", STRING),
            (
                "status",
                "up down dormant notpresent lowerlayerdown unknown testing",
            ),
            (
                "type",
                "ethernet wifi infiniband aggregate alias dialup loopback bridge fibrechannel bluetooth",
            ),
            ("virtualdev", BOOLEAN),
            ("driver", STRING),
            ("pcislot", STRING),
            ("speed", STRING),
            ("wifi_ssid", STRING),
            ("wifi_bssid", STRING),
            ("ipaddress", STRING),
            ("ipmask", STRING),
            ("ipsubnet", STRING),
            ("ipgateway", STRING),
            ("ipaddress6", STRING),
            ("ipmask6", STRING),
            ("ipsubnet6", STRING),
        ],
    ),
    (
        "controllers",
        &[
            ("pcislot", STRING),
            ("vendorid", STRING),
            ("productid", STRING),
            ("pciclass", STRING),
            ("driver", STRING),
        ],
    ),
    (
        "softwares",
        &[("name", STRING), ("version", STRING), ("from", STRING)],
    ),
];

/// Whether a value is of a type; a type that is no word of these is the list of what may stand
/// there.
fn is(value: &Value, kind: &str) -> bool {
    let shaped = |shape: &str| {
        let text = value.as_str().unwrap_or_default();
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(b, s)| {
                if s == b'0' {
                    b.is_ascii_digit()
                } else {
                    b == s
                }
            })
    };
    match kind {
        STRING => value.is_string(),
        INTEGER => value.is_u64() || value.is_i64(),
        BOOLEAN => value.is_boolean(),
        DATE => shaped("0000-00-00"),
        DATE_TIME => shaped("0000-00-00 00:00:00"),
        "timezone" => value["name"].is_string() && value["offset"] == "+0000",
        words => value
            .as_str()
            .is_some_and(|text| words.split(' ').any(|word| word == text)),
    }
}

fn check(document: &Value) {
    let members = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        members(document),
        ["action", "content", "deviceid", "itemtype"]
    );
    let content = &document["content"];
    for name in members(content) {
        let Some((_, keys)) = SECTIONS.iter().find(|(section, _)| *section == name) else {
            assert!(
                ["versionclient", "x_invcollect"].contains(&name.as_str()),
                "{name}"
            );
            continue;
        };
        let section = &content[&name];
        let entries = section
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![section.clone()]);
        assert_eq!(
            section.is_array(),
            !["hardware", "bios", "operatingsystem"].contains(&name.as_str()),
            "{name}"
        );
        for entry in entries {
            for key in members(&entry) {
                let kind = keys
                    .iter()
                    .find(|(known, _)| *known == key)
                    .unwrap_or_else(|| panic!("{name}.{key}: unknown"));
                assert!(
                    is(&entry[&key], kind.1),
                    "{name}.{key}: {} is no {}",
                    entry[&key],
                    kind.1
                );
            }
        }
    }
    assert!(content["versionclient"].is_string() && document["deviceid"].is_string());
    assert!(
        content["networks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|network| network["description"].is_string())
    );
    assert!(
        content["softwares"]
            .as_array()
            .unwrap()
            .iter()
            .all(|software| software["name"].is_string())
    );
    assert!(!document.to_string().contains("null"));
}

fn inventory(machine: &Machine) -> Value {
    let file = machine.path("inventory.json");
    let ended = machine.run(&["collect", "--glpi", file.to_str().unwrap()]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        document["content"]["x_invcollect"]["id"],
        ended.document()["host"]["id"]
    );
    document
}

#[test]
fn a_machine_is_told_in_the_words_of_glpi() {
    let machine = Machine::optiplex();
    machine.wireless("wlan0", "00:1b:21:0a:0b:0e", true);
    machine.sata_disk(
        "sdb",
        "usb1/1-1/host7/target7:0:0/7:0:0:0",
        "DataTraveler",
        "0019E06B",
        61_440_000,
    );
    machine.netlink(
        r#"{"addresses":{"eth0":["10.0.3.7/24","2001:db8:3::7/64"],"wlan0":["10.0.3.8/24"]},"stations":{"wlan0":{"ssid":"eduroam","bssid":"02:00:00:00:00:01"}}}"#,
    );
    let document = inventory(&machine);
    check(&document);
    assert_eq!(document["deviceid"], ID);
    let content = &document["content"];
    for (pointer, expected) in [
        ("/hardware/memory", Value::from(8192)),
        ("/hardware/defaultgateway", "10.0.3.1".into()),
        ("/bios/ssn", "ABC1234".into()),
        ("/bios/bdate", "2018-06-28".into()),
        ("/cpus/0/core", 4.into()),
        ("/cpus/0/thread", 2.into()),
        ("/memories/1/serialnumber", "0A00B002".into()),
        ("/memories/0/speed", "1600".into()),
        ("/memories/1/numslots", 3.into()),
        ("/memories/1/type", "DDR3".into()),
        ("/storages/1/serial", "WD-WCC2EKP12345".into()),
        ("/networks/0/ipaddress", "10.0.3.7".into()),
        ("/networks/0/ipmask", "255.255.255.0".into()),
        ("/networks/0/ipsubnet", "10.0.3.0".into()),
        ("/networks/0/speed", "1000".into()),
        ("/networks/1/ipsubnet6", "2001:db8:3::".into()),
        ("/networks/2/wifi_ssid", "eduroam".into()),
        ("/softwares/1/name", "R".into()),
    ] {
        assert_eq!(
            content.pointer(pointer),
            Some(&expected),
            "{pointer}: {content:#}"
        );
    }
}

/// GLPI has a type for what is made of other interfaces.
#[test]
fn interfaces_that_are_made_of_others_have_their_types() {
    let machine = Machine::optiplex();
    for name in ["bond0", "br0", "eth0.100"] {
        machine.wired(name, "00:1b:21:0a:0b:0c", Some(1000));
        machine.remove(&format!("sys/class/net/{name}/device"));
    }
    machine.directory("sys/class/net/bond0/bonding");
    machine.directory("sys/class/net/br0/bridge");
    machine.write(
        "sys/class/net/eth0.100/uevent",
        "DEVTYPE=vlan\nINTERFACE=eth0.100\nIFINDEX=7\n",
    );
    let document = inventory(&machine);
    check(&document);
    let networks = document["content"]["networks"].as_array().unwrap();
    let types: Vec<_> = networks
        .iter()
        .map(|network| (network["description"].as_str(), network["type"].as_str()))
        .collect();
    let expected = [
        ("bond0", "aggregate"),
        ("br0", "bridge"),
        ("eth0", "ethernet"),
        ("eth0", "ethernet"),
        ("eth0.100", "alias"),
    ];
    assert_eq!(types, expected.map(|(name, kind)| (Some(name), Some(kind))));
}

#[test]
fn glpi_leaves_out_unknown_values() {
    let machine = Machine::empty();
    machine.write("persistent/inventory/uuid", ID);
    machine.write("proc/meminfo", "MemTotal:        8029532 kB\n");
    machine.write("proc/cpuinfo", "processor\t: 0\n\nprocessor\t: 1\n");
    let document = inventory(&machine);
    check(&document);
    assert_eq!(
        document["content"]["hardware"],
        serde_json::json!({}),
        "what the kernel has is not what is installed"
    );
    assert_eq!(
        document["content"]["cpus"],
        serde_json::json!([{"arch": "x86_64"}])
    );
}

/// A list that is empty says that there is nothing: no module and no disk goes because the
/// firmware's table is damaged.
#[test]
fn glpi_does_not_remove_unreadable_parts() {
    let machine = Machine::optiplex();
    machine.write(
        "sys/firmware/dmi/tables/DMI",
        &Tables::optiplex().table()[..200],
    );
    machine.remove("sys/block");
    let document = inventory(&machine);
    check(&document);
    for section in ["memories", "storages"] {
        assert_eq!(document["content"].get(section), None);
    }
}

/// GLPI would take all that have none for one.
#[test]
fn a_machine_without_an_id_is_refused() {
    let machine = Machine::optiplex();
    machine.remove("persistent/inventory/uuid");
    let file = machine.path("inventory.json");
    let ended = machine.run(&["collect", "--glpi", file.to_str().unwrap()]);
    assert_eq!(
        (ended.status, ended.stdout.as_str(), file.exists()),
        (66, "", false)
    );
    assert!(
        ended
            .stderr
            .contains("the installer writes /persistent/inventory/uuid"),
        "{}",
        ended.stderr
    );
    for (id, wrong) in [
        (
            ID.to_uppercase(),
            "/persistent/inventory/uuid: not a UUID in lower case; uuidgen makes one",
        ),
        (
            "00000000-0000-0000-0000-000000000000".into(),
            "/persistent/inventory/uuid: a UUID of one digit, which identifies no machine",
        ),
    ] {
        machine.write("persistent/inventory/uuid", id);
        let ended = machine.run(&["collect", "--glpi", file.to_str().unwrap()]);
        assert_eq!(
            (ended.status, ended.stdout.as_str(), file.exists()),
            (66, "", false)
        );
        assert!(
            ended.stderr.contains(wrong) && !ended.stderr.contains("the installer"),
            "{}",
            ended.stderr
        );
    }
}
