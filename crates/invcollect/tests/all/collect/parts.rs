//! Disks, sensors and links.

use serde_json::{Value, json};

use crate::machine::Machine;

/// Two NVMe disks of which one is hot, as hwmon has them; dell_smm with two sensors of one label
/// (node_exporter has such a tree).
#[test]
fn sensors_of_one_name_are_told_apart() {
    let machine = Machine::optiplex();
    let sensor = |chip: u32, name: &str, channel: u32, label: &str, thousandths: u32| {
        let directory = format!("sys/class/hwmon/hwmon{chip}");
        machine.write(&format!("{directory}/name"), format!("{name}\n"));
        machine.write(
            &format!("{directory}/temp{channel}_label"),
            format!("{label}\n"),
        );
        machine.write(
            &format!("{directory}/temp{channel}_input"),
            format!("{thousandths}\n"),
        );
    };
    for (chip, thousandths) in [(2, 35_000), (3, 81_000)] {
        sensor(chip, "nvme", 1, "Composite", thousandths);
        machine.link(
            &format!("sys/class/hwmon/hwmon{chip}/device"),
            &format!("../../nvme/nvme{}", chip - 2),
        );
    }
    // Two chips that are part of one device, by the name of that.
    for chip in [5, 6] {
        sensor(chip, "twin", 1, "Die", chip * 1000);
        machine.link(
            &format!("sys/class/hwmon/hwmon{chip}/device"),
            &format!("../../bus{chip}/0000:01:00.0"),
        );
    }
    sensor(4, "dell_smm", 2, "Ambient", 30_000);
    sensor(4, "dell_smm", 3, "Ambient", 31_000);
    let told: Vec<Value> = machine.host()["temperatures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["sensor"], one["celsius"]]))
        .collect();
    let expected = [
        json!(["coretemp Package id 0", 47.0]),
        json!(["dell_smm Ambient temp2", 30.0]),
        json!(["dell_smm Ambient temp3", 31.0]),
        json!(["nvme Composite nvme0", 35.0]),
        json!(["nvme Composite nvme1", 81.0]),
        json!(["twin Die hwmon5", 5.0]),
        json!(["twin Die hwmon6", 6.0]),
    ];
    assert_eq!(told, expected);
    let file = machine.path("labtools.prom");
    machine.run(&["metrics", file.to_str().unwrap()]);
    let samples = machine
        .read("labtools.prom")
        .lines()
        .filter(|line| line.starts_with("labtools_temperature_celsius{"))
        .count();
    assert_eq!(samples, expected.len(), "each has its sample");
}

#[test]
fn links_are_told_as_they_are() {
    let machine = Machine::optiplex();
    machine.wired("eth1", "00:1b:21:0a:0b:0d", None);
    machine.write("sys/class/net/eth1/carrier", ""); // it is down: reading it would fail
    machine.wireless("wlan0", "00:1b:21:0a:0b:0e", true);
    machine.write("sys/class/net/lo/type", "772\n");
    machine.write(
        "etc/labtools/campus.ini",
        "[net.wireless]\ncidr=10.9.0.0/16\ncampus=sa\nbuilding=b1\nroom=-\nrole=wireless\n",
    );
    machine.netlink(
        r#"{"addresses":{"wlan0":["10.9.0.7/16"]},"best_speeds":{"eth0":1000000000},"stations":{"wlan0":
            {"ssid":"e\"duroam","bssid":"02:00:00:00:00:01","frequency_mhz":5180,"signal_dbm":-61,"speed_bits_per_second":866700000}}}"#,
    );
    machine.speed("eth0", Some(100));
    let host = machine.host();
    let [eth0, eth1, wlan0] = host["interfaces"].as_array().unwrap().as_slice() else {
        panic!("{:#}", host["interfaces"])
    };
    assert_eq!(
        (
            &eth0["speed_bits_per_second"],
            &eth0["best_speed_bits_per_second"]
        ),
        (&json!(100_000_000), &json!(1_000_000_000))
    );
    assert_eq!(
        eth0["received_bytes"], 9_007_199_254_740_993u64,
        "above 2^53"
    );
    for key in [
        "carrier",
        "speed_bits_per_second",
        "best_speed_bits_per_second",
        "duplex",
    ] {
        assert_eq!(eth1[key], Value::Null, "{key}");
    }
    assert_eq!(
        (&wlan0["wireless"], &wlan0["speed_bits_per_second"]),
        (&json!(true), &json!(866_700_000))
    );
    assert_eq!(
        (&wlan0["station"]["ssid"], &wlan0["station"]["signal_dbm"]),
        (&json!("e\"duroam"), &json!(-61))
    );

    // What it is in now is no network of the campus: it may be a telephone that bears somebody's
    // name.
    machine.write(
        "etc/labtools/campus.ini",
        "[net.wireless]\ncidr=10.8.0.0/16\ncampus=sa\nbuilding=b1\nroom=-\nrole=wireless\n",
    );
    let wlan0 = machine.host()["interfaces"][2].clone();
    assert_eq!(
        wlan0["station"],
        json!({"frequency_mhz": 5180, "signal_dbm": -61})
    );
    assert!(
        machine
            .reason("interfaces[wlan0].station.ssid")
            .unwrap()
            .contains("may be private")
    );
}

#[test]
fn a_disk_with_faults_is_not_healthy() {
    let machine = Machine::optiplex();
    assert_eq!(machine.host()["disks"][0]["healthy"], true);
    machine.directory("sys/block/sda/sda3");
    machine.write("sys/fs/ext4/sda3/errors_count", "4\n");
    let disk = machine.host()["disks"][0].clone();
    assert_eq!(
        (&disk["healthy"], &disk["faults"]),
        (
            &json!(false),
            &json!(["the file system on sda3 has 4 errors on record"])
        )
    );
}

/// That the kernel has it is no verdict, and neither is a disk that is not asked.
#[test]
fn a_disk_that_says_nothing_is_not_healthy() {
    let machine = Machine::optiplex();
    machine.sata_disk(
        "sdb",
        "usb1/1-1/host7/target7:0:0/7:0:0:0",
        "DataTraveler",
        "0019E06B",
        61_440_000,
    );
    machine.remove("smart.json");
    let healthy = || {
        machine.host()["disks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|disk| disk["healthy"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(healthy(), [Value::Null, Value::Null]);
    assert_eq!(
        machine.reason("disks[sda].healthy").unwrap(),
        "no /smart.json"
    );
    assert_eq!(
        machine.reason("disks[sdb].healthy").unwrap(),
        "only a disk on SATA or NVMe is asked"
    );
    machine.write(
        "smart.json",
        r#"{"sda":{"smart":"SMART says that it is about to fail"}}"#,
    );
    assert_eq!(healthy(), [Value::Null, json!(false)]);
}

/// The two disks of the thesis (3.3): a hard disk of 1 TB and an SSD of 480 GB. The kernel cuts a
/// model after 16 characters.
#[test]
fn disks_of_the_thesis_are_told_apart() {
    let machine = Machine::optiplex();
    machine.remove("sys/block");
    let (hdd, ssd) = (
        "ata5/host4/target4:0:0/4:0:0:0",
        "ata6/host5/target5:0:0/5:0:0:0",
    );
    machine.sata_disk("sda", hdd, "ST1000DM003-1CH1", "S1DABCDE", 1_953_525_168);
    machine.sata_disk("sdb", ssd, "CT480BX500SSD1", "1938E21F0001", 937_703_088);
    machine.write(
        &format!("sys/devices/pci0000:00/0000:00:1f.2/{ssd}/block/sdb/queue/rotational"),
        "0\n",
    );
    let disks = machine.host()["disks"].take();
    let found: Vec<Value> = [
        "name",
        "model",
        "serial",
        "bytes",
        "rotational",
        "transport",
    ]
    .map(|key| {
        disks
            .as_array()
            .unwrap()
            .iter()
            .map(|disk| disk[key].clone())
            .collect()
    })
    .into();
    let expected = [
        json!(["sdb", "sda"]), // by serial number
        json!(["CT480BX500SSD1", "ST1000DM003-1CH1"]),
        json!(["1938E21F0001", "S1DABCDE"]),
        json!([480_103_981_056_u64, 1_000_204_886_016_u64]),
        json!([false, true]),
        json!(["sata", "sata"]),
    ];
    assert_eq!(found, expected);
}
