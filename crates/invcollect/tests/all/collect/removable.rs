//! What comes and goes: what is on USB, and what is plugged in outside the case.

use serde_json::{Value, json};

use crate::machine::Machine;

/// An adapter on USB tells how it runs, and not what could be a telephone's.
#[test]
fn an_interface_that_comes_and_goes_is_told_without_its_addresses() {
    let machine = Machine::optiplex();
    machine.wired("enx02a1b2c3d4e5", "02:a1:b2:c3:d4:e5", Some(100));
    machine.link(
        "sys/class/net/enx02a1b2c3d4e5/device/subsystem",
        "../../../../bus/usb",
    );
    machine.wireless("wlx02a1b2c3d4e6", "02:a1:b2:c3:d4:e6", true);
    machine.link(
        "sys/class/net/wlx02a1b2c3d4e6/device/subsystem",
        "../../../../bus/usb",
    );
    machine.netlink(
        r#"{"stations":{"wlx02a1b2c3d4e6":{"ssid":"a telephone","signal_dbm":-61}},
            "addresses":{"eth0":["10.0.3.7/24"],"enx02a1b2c3d4e5":["192.168.42.7/24","2001:db8:77::a1ff:feb2/64"]},
            "permanent_addresses":{"enx02a1b2c3d4e5":"02:a1:b2:c3:d4:e5"}}"#,
    );
    machine.write(
        "proc/net/route",
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
         enx02a1b2c3d4e5\t00000000\t012AA8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
         enx02a1b2c3d4e5\t002AA8C0\t00000000\t0001\t0\t0\t50\t00FFFFFF\t0\t0\t0\n",
    );
    let host = machine.host();
    let names: Vec<&Value> = host["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|interface| &interface["name"])
        .collect();
    assert_eq!(names, ["eth0", "removable0", "removable1"]);
    assert_eq!(host["interfaces"][2]["station"], json!({"signal_dbm": -61}));
    let removable = &host["interfaces"][1];
    assert_eq!(
        (&removable["removable"], &removable["carrier"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        (&removable["speed_bits_per_second"], &removable["addresses"]),
        (&json!(100_000_000), &json!([]))
    );
    assert_eq!(
        host["routes"],
        json!([{"destination": "0.0.0.0/0", "interface": "removable0", "metric": 50}])
    );
    for text in ["a1b2c3", "a1:b2:c3", "192.168.42", "a1ff"] {
        assert!(!host.to_string().contains(text), "{text}: {host:#}");
    }
}

#[test]
fn a_usb_stick_is_a_disk_that_comes_and_goes() {
    let machine = Machine::optiplex();
    machine.sata_disk(
        "sdb",
        "usb1/1-1/host7/target7:0:0/7:0:0:0",
        "DataTraveler",
        "0019E06B",
        61_440_000,
    );
    let host = machine.host();
    let disks: Vec<(&Value, &Value, &Value)> = host["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| (&disk["name"], &disk["transport"], &disk["removable"]))
        .collect();
    let expected = [
        (json!("sdb"), json!("usb"), json!(true)),
        (json!("sda"), json!("sata"), json!(false)),
    ];
    assert_eq!(
        disks,
        expected
            .iter()
            .map(|(a, b, c)| (a, b, c))
            .collect::<Vec<_>>()
    );
}

/// Behind a port that the firmware calls external-facing, whatever it is.
#[test]
fn external_devices_come_and_go() {
    let machine = Machine::optiplex();
    machine.run(&["changes"]);
    let port = "0000:00:1c.4/0000:02:00.0";
    machine.sata_disk(
        "nvme0n1",
        &format!("{port}/nvme/nvme0"),
        "Somebody's",
        "S4EWNX0M123456",
        1_000_000,
    );
    machine.pci("0000:02:00.0", "0x144d", "0xa80a", "0x0c8000", None);
    assert_eq!(machine.host()["disks"][0]["removable"], false);
    machine.write(
        &format!("sys/devices/pci0000:00/0000:00:1f.2/{port}/removable"),
        "removable\n",
    );
    machine.write("sys/bus/pci/devices/0000:02:00.0/removable", "removable\n");
    let host = machine.host();
    let disk = host["disks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|disk| disk["name"] == "nvme0n1")
        .unwrap();
    assert_eq!(
        (&disk["removable"], &disk["serial"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(host["devices"][2]["removable"], true);
    assert_eq!(machine.run(&["changes"]).stdout, "");
}

/// An eMMC is soldered to the board, and what it has for booting is no disk. A card is put into the
/// same kind of slot.
#[test]
fn an_emmc_stays_and_a_card_does_not() {
    let machine = Machine::optiplex();
    let card = |host: &str, kind: &str, disks: &[&str]| {
        let device = format!("sys/devices/pci0000:00/0000:00:1a.0/mmc_host/{host}/{host}:0001");
        for (file, value) in [("type", kind), ("name", "DA4064"), ("serial", "0x2a6b01c4")] {
            machine.write(&format!("{device}/{file}"), format!("{value}\n"));
        }
        for disk in disks {
            machine.write(&format!("{device}/block/{disk}/size"), "122142720\n");
            machine.link(&format!("{device}/block/{disk}/device"), "../..");
            machine.link(
                &format!("sys/block/{disk}"),
                &format!("../../{device}/block/{disk}"),
            );
        }
    };
    card("mmc0", "MMC", &["mmcblk0", "mmcblk0boot0", "mmcblk0boot1"]);
    card("mmc1", "SD", &["mmcblk1"]);
    let host = machine.host();
    let disks = host["disks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|disk| disk["transport"] == "mmc");
    let told: Vec<_> = disks
        .map(|disk| {
            json!([
                disk["name"],
                disk["removable"],
                disk["model"],
                disk["serial"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["mmcblk1", true, null, null]),
            json!(["mmcblk0", false, "DA4064", "0x2a6b01c4"])
        ]
    );
    machine.run(&["changes"]);
    machine.remove("sys/block/mmcblk0");
    machine.remove("sys/block/mmcblk1");
    let [event] = machine.run(&["changes"]).lines().try_into().unwrap();
    assert_eq!(
        (&event["event"]["action"], &event["labtools"]["subject"]),
        (&json!("disk_removed"), &json!("0x2a6b01c4"))
    );
}
