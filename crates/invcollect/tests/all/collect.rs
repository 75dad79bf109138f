//! `collect`: what a machine is.

mod hanging;
mod removable;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::machine::smbios::{Slot, Tables};
use crate::machine::{BINARY, ID, Machine};

/// What only this run knows.
fn without_measured(mut host: Value) -> Value {
    for path in ["/collected_at", "/boot/booted_at"] {
        *host.pointer_mut(path).unwrap() = "".into();
    }
    for filesystem in host["filesystems"].as_array_mut().unwrap() {
        for key in ["total_bytes", "used_bytes", "available_bytes"] {
            assert!(filesystem[key].is_u64(), "{filesystem}");
            filesystem[key] = 0.into();
        }
    }
    host
}

#[test]
fn a_machine_is_told() {
    let expected = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/invcollect/host.json");
    let host = without_measured(Machine::optiplex().host());
    let expected: Value = serde_json::from_str(&fs::read_to_string(expected).unwrap()).unwrap();
    assert_eq!(host, expected, "{host:#}");
}

#[test]
fn the_same_machine_gives_the_same_bytes() {
    let machine = Machine::optiplex();
    let text = |host: Value| without_measured(host).to_string();
    assert_eq!(text(machine.host()), text(machine.host()));
}

/// Nothing is there: not /sys, not /proc. Everything has its reason, and nothing is -1, 0 or empty instead.
#[test]
fn what_is_not_known_is_absent_with_a_reason() {
    let machine = Machine::empty();
    let host = machine.host();
    for key in [
        "board",
        "boot.clock_at_boot",
        "changes",
        "chassis",
        "chassis.opened",
        "disks",
        "filesystems",
        "firmware",
        "firmware.attributes",
        "guest_failures",
        "id",
        "image",
        "interfaces",
        "memory.installed_bytes",
        "memory.usable_bytes",
        "place",
        "processor",
        "routes",
        "system",
        "temperatures",
    ] {
        assert!(machine.reason(key).is_some(), "{key}: {host:#}");
    }
    fn check(path: &str, value: &Value) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| check(&format!("{path}.{key}"), value)),
            Value::Array(elements) => elements.iter().for_each(|value| check(path, value)),
            Value::Null => panic!("{path} is null"),
            Value::String(text) => assert!(!text.is_empty(), "{path}"),
            Value::Number(number) => assert_eq!(path, ".schema", "{number}"),
            Value::Bool(_) => {}
        }
    }
    check("", &host);
}

#[test]
fn what_needs_root_is_missing_without_it() {
    // Not of this machine: the tables of some test machines are not there at all.
    let machine = Machine::optiplex();
    fs::set_permissions(machine.path("sys/firmware/dmi/tables/DMI"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(machine.root(), fs::Permissions::from_mode(0o755)).unwrap();
    machine.write("sys/class/dmi/id/product_name", "OptiPlex 7010\n");
    let copy = machine.path("invcollect");
    // Not by this process: what it has open for writing another test's child may still hold when it is to be run.
    assert!(Command::new("cp").arg(BINARY).arg(&copy).status().unwrap().success());
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        command
    };
    for directory in ["run/labtools", "var/log/labtools", "var/lib/labtools/spool"] {
        machine.directory(directory);
        fs::set_permissions(machine.path(directory), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::set_permissions(machine.path("var/lib/labtools/slots.json"), fs::Permissions::from_mode(0o600)).unwrap();
    let output = as_nobody().args(["collect", "--root"]).arg(machine.root()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let host = &document["host"];
    assert_eq!((&host["system"]["model"], &host["memory"]["installed_bytes"]), (&json!("OptiPlex 7010"), &Value::Null));
    for (key, path) in [
        ("memory.installed_bytes", "/sys/firmware/dmi/tables/DMI"),
        ("guest", "/run/labtools/guest.lock"),
        ("guest_failures", "/var/log/labtools/events.jsonl"),
        ("image", "/var/lib/labtools/slots.json"),
    ] {
        let reason = json!({"key": key, "reason": format!("{path}: needs root")});
        assert!(host["missing"].as_array().unwrap().contains(&reason), "{key}: {host:#}");
    }
    let output = as_nobody().args(["accept", "--root"]).arg(machine.root()).output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("; needs root\n"), "{output:?}");
    // And none of it is measured as 0.
    let metrics = machine.path("metrics/labtools.prom");
    machine.directory("metrics");
    fs::set_permissions(machine.path("metrics"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = as_nobody().arg("metrics").arg(&metrics).arg("--root").arg(machine.root()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reason = json!({"key": "spool", "reason": "/var/lib/labtools/spool: needs root"});
    assert!(document["metrics"]["missing"].as_array().unwrap().contains(&reason), "{document:#}");
    let metrics = fs::read_to_string(metrics).unwrap();
    for metric in ["labtools_guest_running", "labtools_spool_bytes", "labtools_spool_reports", "labtools_spool_rejected_reports"]
    {
        assert!(!metrics.contains(metric), "{metric}: {metrics}");
    }
}

#[test]
fn dmidecode_reads_the_same() {
    let tables = Tables {
        slots: vec![
            Slot { label: "DIMM A", bank: "", mib: 4096, serial: "0A00B001" },
            Slot { label: "DIMM B", bank: "", mib: 0, serial: "" },
            Slot { label: "DIMM C", bank: "", mib: 65536, serial: "0A00B003" },
        ],
        ..Tables::optiplex()
    };
    let machine = Machine::optiplex();
    machine.firmware(&tables);
    let host = machine.host();
    let mut dump = tables.entry_point(32);
    dump.resize(32, 0);
    dump.extend(tables.table());
    machine.write("dump", dump);
    let decoded = Command::new("dmidecode").arg("--from-dump").arg(machine.path("dump")).output().unwrap();
    let decoded = String::from_utf8(decoded.stdout).unwrap();
    let value = |kind: &str, key: &str| -> Vec<String> {
        let of_kind = decoded.split("\n\n").filter(|structure| structure.lines().any(|line| line == kind));
        of_kind
            .flat_map(|structure| structure.lines())
            .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": ").map(str::to_owned))
            .collect()
    };
    let ours = |pointer: &str| vec![host.pointer(pointer).unwrap().as_str().unwrap().to_owned()];
    for (kind, key, pointer) in [
        ("BIOS Information", "Version", "/firmware/version"),
        ("BIOS Information", "Release Date", "/firmware/date"),
        ("System Information", "Manufacturer", "/system/manufacturer"),
        ("System Information", "Product Name", "/system/model"),
        ("System Information", "Serial Number", "/system/serial"),
        ("System Information", "UUID", "/system/uuid"),
        ("Base Board Information", "Product Name", "/board/product"),
        ("Base Board Information", "Serial Number", "/board/serial"),
        ("Chassis Information", "Asset Tag", "/chassis/asset_tag"),
    ] {
        assert_eq!(value(kind, key), ours(pointer), "{decoded}");
    }
    assert_eq!(value("Memory Device", "Size"), ["4 GB", "No Module Installed", "64 GB"]);
    assert_eq!(host["memory"]["installed_bytes"], 68u64 << 30);
    assert_eq!(value("Memory Device", "Serial Number")[0], host["memory"]["modules"][0]["serial"]);
    assert_eq!((value("Memory Device", "Type")[0].as_str(), &host["memory"]["modules"][0]["kind"]), ("DDR3", &json!(24)));
    assert_eq!(host["memory"]["slots"], 3);
}

#[test]
fn a_damaged_table_tells_no_memory_at_all() {
    let machine = Machine::optiplex();
    let table = Tables::optiplex().table();
    machine.write("sys/firmware/dmi/tables/DMI", &table[..table.len() - 100]);
    let host = machine.host();
    assert_eq!((&host["memory"]["installed_bytes"], &host["memory"]["modules"]), (&Value::Null, &json!([])));
    assert_eq!(host["system"]["serial"], "ABC1234");
    assert!(machine.reason("memory.installed_bytes").unwrap().contains("damaged"));
}

#[test]
fn serials_that_many_machines_have_are_refused() {
    let machine = Machine::optiplex();
    for serial in ["To Be Filled By O.E.M.", "Default string", "0000000", "System Serial Number", "........", " "] {
        machine.firmware(&Tables { serial, uuid: [0xff; 16], ..Tables::optiplex() });
        let host = machine.host();
        assert_eq!((&host["system"]["serial"], &host["system"]["uuid"]), (&Value::Null, &Value::Null), "{serial}");
        assert!(machine.reason("system.serial").is_some());
    }
    assert_eq!(machine.host()["id"], ID, "who it is does not depend on that");
    machine.write("persistent/inventory/uuid", "to be filled\n");
    assert_eq!(machine.reason("id").unwrap(), "/persistent/inventory/uuid: not a UUID in lower case; uuidgen makes one");
}

/// Two NVMe disks of which one is hot, as hwmon has them; dell_smm with two sensors of one label (node_exporter has such a tree).
#[test]
fn sensors_of_one_name_are_told_apart() {
    let machine = Machine::optiplex();
    let sensor = |chip: u32, name: &str, channel: u32, label: &str, thousandths: u32| {
        let directory = format!("sys/class/hwmon/hwmon{chip}");
        machine.write(&format!("{directory}/name"), format!("{name}\n"));
        machine.write(&format!("{directory}/temp{channel}_label"), format!("{label}\n"));
        machine.write(&format!("{directory}/temp{channel}_input"), format!("{thousandths}\n"));
    };
    for (chip, thousandths) in [(2, 35_000), (3, 81_000)] {
        sensor(chip, "nvme", 1, "Composite", thousandths);
        machine.link(&format!("sys/class/hwmon/hwmon{chip}/device"), &format!("../../nvme/nvme{}", chip - 2));
    }
    // Two chips that are part of one device, by the name of that.
    for chip in [5, 6] {
        sensor(chip, "twin", 1, "Die", chip * 1000);
        machine.link(&format!("sys/class/hwmon/hwmon{chip}/device"), &format!("../../bus{chip}/0000:01:00.0"));
    }
    sensor(4, "dell_smm", 2, "Ambient", 30_000);
    sensor(4, "dell_smm", 3, "Ambient", 31_000);
    let told: Vec<Value> =
        machine.host()["temperatures"].as_array().unwrap().iter().map(|one| json!([one["sensor"], one["celsius"]])).collect();
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
    let samples = machine.read("labtools.prom").lines().filter(|line| line.starts_with("labtools_temperature_celsius{")).count();
    assert_eq!(samples, expected.len(), "each has its sample");
}

/// As thinklmi and hp-bioscfg have them; what is not asked for is not read.
#[test]
fn settings_of_other_makers_are_told_by_their_names() {
    let machine = Machine::optiplex();
    for (driver, name) in [
        ("thinklmi", "WakeOnLAN"),
        ("thinklmi", "VirtualizationTechnology"),
        ("thinklmi", "SecureBoot"),
        ("thinklmi", "UserPassword"),
        ("hp-bioscfg", "Wake On LAN"),
        ("hp-bioscfg", "Virtualization Technology (VTx)"),
    ] {
        machine.write(&format!("sys/class/firmware-attributes/{driver}/attributes/{name}/current_value"), "Enable\n");
    }
    let host = machine.host();
    let attributes = host["firmware"]["attributes"].as_array().unwrap();
    let names: Vec<_> = attributes.iter().map(|attribute| attribute["name"].as_str().unwrap()).collect();
    let expected = ["SecureBoot", "Virtualization Technology (VTx)", "VirtualizationTechnology", "Wake On LAN", "WakeOnLAN"];
    assert_eq!(names, expected);
}

/// Firmware, disks and sensors say anything, and who reads it sits at a terminal.
#[test]
fn no_text_of_a_device_moves_a_terminal() {
    let machine = Machine::optiplex();
    let text = "a\u{1b}]0;x\u{7}b\u{202e}c\n";
    machine.remove("sys/firmware/dmi/tables/DMI");
    for file in [
        "sys/class/dmi/id/sys_vendor",
        "sys/class/dmi/id/product_name",
        "sys/class/dmi/id/product_serial",
        "sys/class/dmi/id/chassis_asset_tag",
        "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/model",
        "sys/class/hwmon/hwmon0/temp1_label",
        "sys/class/firmware-attributes/dell/attributes/AutoOn/current_value",
        "proc/sys/kernel/hostname",
    ] {
        machine.write(file, text);
    }
    machine.write("proc/self/mountinfo", "27 1 8:1 / / rw - ext4 /dev/sda\u{1b}1 rw\n");
    machine.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: a\u{1b}b\n");
    machine.write("proc/net/route", "e\u{1b}0\t00000000\t0103000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n");
    machine.wired("e\u{1b}0", "00:1b:21:0a:0b:0e", Some(1000));
    machine.link("sys/class/net/e\u{1b}0/device/driver", "../../drivers/e\u{1b}1000e");
    machine.pci("0000:09:00.\u{1b}0", "0x8086", "0x0152", "0x030000", Some("i\u{1b}915"));
    let host = machine.host();
    assert_eq!((&host["interfaces"][1]["name"], &host["routes"][0]["interface"]), (&json!("e\u{fffd}0"), &json!("e\u{fffd}0")));
    assert_eq!(host["hostname"], "a\u{fffd}]0;x\u{fffd}b\u{fffd}c");
    assert_eq!((&host["system"]["model"], &host["filesystems"][0]["source"]), (&host["hostname"], &json!("/dev/sda\u{fffd}1")));
    fn check(value: &Value) {
        match value {
            Value::Object(members) => members.values().for_each(check),
            Value::Array(elements) => elements.iter().for_each(check),
            Value::String(text) => assert!(!text.contains(jsonpipe::is_hidden), "{text:?}"),
            _ => {}
        }
    }
    check(&host);
    let file = machine.path("labtools.prom");
    machine.run(&["metrics", file.to_str().unwrap()]);
    assert!(!machine.read("labtools.prom").contains(|c| c != '\n' && jsonpipe::is_hidden(c)));
}

#[test]
fn the_switch_in_the_case_is_read_where_it_is_told() {
    let machine = Machine::optiplex();
    let opened = || {
        let chassis = machine.host()["chassis"].clone();
        (chassis["opened"].as_bool(), chassis["opened_by"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(opened(), (Some(false), "hwmon".into()));
    machine.intrusion(true);
    assert_eq!(opened(), (Some(true), "hwmon".into()));
    let status = "sys/class/firmware-attributes/dell-wmi-sysman/attributes/ChassisIntrusionStatus/current_value";
    machine.write(status, "DoorClosed\n");
    assert_eq!(opened(), (Some(false), "firmware".into()));
    machine.write(status, "Tripped\n");
    assert_eq!(opened(), (Some(true), "firmware".into()));
    machine.write(status, "Sunny\n");
    machine.remove("sys/class/hwmon/hwmon1");
    assert_eq!(opened(), (None, String::new()));
    assert_eq!(machine.reason("chassis.opened").unwrap(), "ChassisIntrusionStatus is Sunny, which is not known");
    assert_eq!(machine.read(status), "Sunny\n", "nothing is ever written there");
}

#[test]
fn cctk_is_asked_once_an_hour_where_there_is_nothing_else() {
    let machine = Machine::optiplex();
    machine.remove("sys/class/hwmon/hwmon1");
    let cctk = "opt/dell/dcc/cctk";
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{}\nprintf '[cctk]\\r\\n;svctag=ABC1234\\r\\nchassisintrusionstatus=tripped\\r\\nwakeonlan=lanonly\\r\\n'\n",
        machine.path("calls").display()
    );
    machine.write(cctk, script);
    fs::set_permissions(machine.path(cctk), fs::Permissions::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let host = machine.host();
        assert_eq!((&host["chassis"]["opened"], &host["chassis"]["opened_by"]), (&json!(true), &json!("cctk")));
        let expected = json!([{"name": "ChassisIntrusionStatus", "value": "tripped"}, {"name": "WakeOnLan", "value": "lanonly"}]);
        assert_eq!(host["firmware"]["attributes"], expected);
    }
    assert_eq!(machine.read("calls"), "-o /dev/stdout\n");
    let cache = fs::File::options().write(true).open(machine.path("run/labtools/cctk")).unwrap();
    cache.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3601)).unwrap();
    machine.host();
    assert_eq!(machine.read("calls").lines().count(), 2);

    // One that does not work is asked no more often.
    for (script, reason) in [
        (format!("#!/bin/sh\necho >>{}\nexit 1\n", machine.path("calls").display()), "cctk printed no setting"),
        ("no program".into(), "running /opt/dell/dcc/cctk: Exec format error (os error 8)"),
    ] {
        machine.remove("run/labtools/cctk");
        machine.remove("calls");
        machine.write("calls", "");
        machine.write(cctk, script);
        for _ in 0..2 {
            let said = machine.reason("firmware.attributes").unwrap();
            assert!(said.ends_with(reason), "{said}");
        }
        assert!(machine.read("calls").lines().count() <= 1);
        // By then somebody has put a good one there.
        machine.write(cctk, "#!/bin/sh\necho wakeonlan=disabled\n");
        assert!(machine.reason("firmware.attributes").is_some());
    }
}

#[test]
fn links_are_told_as_they_are() {
    let machine = Machine::optiplex();
    machine.wired("eth1", "00:1b:21:0a:0b:0d", None);
    machine.write("sys/class/net/eth1/carrier", ""); // it is down: reading it would fail
    machine.wireless("wlan0", "00:1b:21:0a:0b:0e", true);
    machine.write("sys/class/net/lo/type", "772\n");
    machine.write("etc/labtools/campus.ini", "[net.wireless]\ncidr=10.9.0.0/16\ncampus=sa\nbuilding=b1\nroom=-\nrole=wireless\n");
    machine.netlink(
        r#"{"addresses":{"wlan0":["10.9.0.7/16"]},"best_speeds":{"eth0":1000000000},"stations":{"wlan0":
            {"ssid":"e\"duroam","bssid":"02:00:00:00:00:01","frequency_mhz":5180,"signal_dbm":-61,"speed_bits_per_second":866700000}}}"#,
    );
    machine.speed("eth0", Some(100));
    let host = machine.host();
    let [eth0, eth1, wlan0] = host["interfaces"].as_array().unwrap().as_slice() else { panic!("{:#}", host["interfaces"]) };
    assert_eq!(
        (&eth0["speed_bits_per_second"], &eth0["best_speed_bits_per_second"]),
        (&json!(100_000_000), &json!(1_000_000_000))
    );
    assert_eq!(eth0["received_bytes"], 9_007_199_254_740_993u64, "above 2^53");
    for key in ["carrier", "speed_bits_per_second", "best_speed_bits_per_second", "duplex"] {
        assert_eq!(eth1[key], Value::Null, "{key}");
    }
    assert_eq!((&wlan0["wireless"], &wlan0["speed_bits_per_second"]), (&json!(true), &json!(866_700_000)));
    assert_eq!((&wlan0["station"]["ssid"], &wlan0["station"]["signal_dbm"]), (&json!("e\"duroam"), &json!(-61)));

    // What it is in now is no network of the campus: it may be a telephone that bears somebody's name.
    machine.write("etc/labtools/campus.ini", "[net.wireless]\ncidr=10.8.0.0/16\ncampus=sa\nbuilding=b1\nroom=-\nrole=wireless\n");
    let wlan0 = machine.host()["interfaces"][2].clone();
    assert_eq!(wlan0["station"], json!({"frequency_mhz": 5180, "signal_dbm": -61}));
    assert!(machine.reason("interfaces[wlan0].station.ssid").unwrap().contains("somebody's own"));
}

#[test]
fn the_hardware_clock_at_boot_tells_a_weak_battery() {
    let machine = Machine::optiplex();
    assert_eq!(machine.host()["boot"]["clock_before_image"], false);
    machine.write("dev/kmsg", "6,300,1,-;rtc_cmos 00:05: setting system clock to 2012-01-01T00:00:04 UTC (1325376004)\n");
    let boot = machine.host()["boot"].clone();
    assert_eq!((&boot["clock_before_image"], &boot["clock_at_boot"]), (&json!(true), &json!("2012-01-01T00:00:04Z")));
}

#[test]
fn the_guest_that_runs_is_told_and_never_whose_it_is() {
    use std::os::unix::fs::MetadataExt;
    let machine = Machine::optiplex();
    machine.write("run/labtools/guest.lock", "");
    machine.write("proc/locks", "");
    assert_eq!(machine.host()["guest"], Value::Null);
    let lock = fs::metadata(machine.path("run/labtools/guest.lock")).unwrap();
    let device = lock.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    machine.write("proc/locks", format!("1: FLOCK  ADVISORY  WRITE 500 {major:02x}:{minor:02x}:{} 0 EOF\n", lock.ino()));
    machine.write("proc/500/task/500/children", "501 ");
    machine.link("proc/501/fd/4", "/qcow2/user/TOKEN-OF-ALICE/windows@7.qcow2");
    machine.link("proc/501/fd/5", "/qcow2/backing/windows/7.qcow2");
    machine.write("proc/501/stat", "501 (qemu) x) S 500 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 4 0 60000 1 1\n");
    machine.write("proc/stat", "cpu 1\nbtime 1795420800\n");
    let host = machine.host();
    assert_eq!(host["guest"], json!({"base": "windows", "generation": 7, "started_at": "2026-11-23T08:10:00Z"}));
    assert!(!host.to_string().contains("ALICE"));
}

#[test]
fn failures_of_guests_are_told_by_their_cause() {
    let machine = Machine::optiplex();
    machine.write("proc/vmstat", "oom_kill 1\n");
    machine.write("dev/kmsg", "3,900,3540000000,-;Out of memory: Killed process 501 (qemu-system-x86) total-vm:6291456kB\n");
    machine.write(
        "var/log/labtools/events.jsonl",
        r#"{"at":"2026-11-23T07:00:00Z","event":"stage","tool":"vm-passthrough","status":1,"report":{"ended":"died","ended_reason":"QEMU ended: qemu_thread_create: Resource temporarily unavailable"}}
{"at":"2026-11-23T06:00:00Z","event":"stage","tool":"cowvol","status":1}
{"torn"#,
    );
    let failures = machine.host()["guest_failures"].clone();
    let causes: Vec<&Value> = failures.as_array().unwrap().iter().map(|failure| &failure["cause"]).collect();
    assert_eq!(causes, ["memory", "threads"]);
    assert_eq!(failures[1]["at"], "2026-11-23T07:00:00Z");
}

#[test]
fn a_disk_with_faults_is_not_healthy() {
    let machine = Machine::optiplex();
    assert_eq!(machine.host()["disks"][0]["healthy"], true);
    machine.directory("sys/block/sda/sda3");
    machine.write("sys/fs/ext4/sda3/errors_count", "4\n");
    let disk = machine.host()["disks"][0].clone();
    assert_eq!((&disk["healthy"], &disk["faults"]), (&json!(false), &json!(["the file system on sda3 has 4 errors on record"])));
}

/// That the kernel has it is no verdict, and neither is a disk that is not asked.
#[test]
fn a_disk_that_says_nothing_is_not_healthy() {
    let machine = Machine::optiplex();
    machine.sata_disk("sdb", "usb1/1-1/host7/target7:0:0/7:0:0:0", "DataTraveler", "0019E06B", 61_440_000);
    machine.remove("smart.json");
    let healthy = || machine.host()["disks"].as_array().unwrap().iter().map(|disk| disk["healthy"].clone()).collect::<Vec<_>>();
    assert_eq!(healthy(), [Value::Null, Value::Null]);
    assert_eq!(machine.reason("disks[sda].healthy").unwrap(), "no /smart.json");
    assert_eq!(machine.reason("disks[sdb].healthy").unwrap(), "only a disk on SATA or NVMe is asked");
    machine.write("smart.json", r#"{"sda":{"smart":"SMART says that it is about to fail"}}"#);
    assert_eq!(healthy(), [Value::Null, json!(false)]);
}

#[test]
fn a_broken_configuration_keeps_no_machine_from_reporting() {
    let machine = Machine::optiplex();
    machine.write("etc/labtools/campus.ini", "[net.x]\ncidr=nowhere\n");
    machine.write("etc/labtools/invcollect.ini", "[expected.OptiPlex 7010]\nmemory=8\n");
    let host = machine.host();
    assert_eq!((&host["place"], &host["memory"]["expected_bytes"]), (&Value::Null, &Value::Null));
    assert!(machine.reason("place").unwrap().contains("net.x"));
    assert!(machine.reason("configuration").unwrap().contains("expected.OptiPlex 7010.memory: unknown key"));
    // Whether or not it is needed.
    machine.remove("sys/firmware/dmi");
    machine.write("etc/labtools/invcollect.ini", "[push]\nurl=http://collector.example\n");
    assert!(machine.reason("configuration").unwrap().ends_with("invcollect.ini: push.url: not https://HOST[:PORT][/PATH]"));
    machine.remove("etc/labtools/invcollect.ini");
    machine.remove("etc/labtools/campus.ini");
    assert_eq!(machine.reason("configuration"), None);
    assert_eq!(machine.reason("place").unwrap(), format!("no {}", machine.path("etc/labtools/campus.ini").display()));
}

#[test]
fn no_process_is_started() {
    let machine = Machine::optiplex();
    let trace = machine.path("trace");
    let arguments = ["-f", "-qq", "-e", "trace=process,write", "-o"];
    let output =
        Command::new("strace").args(arguments).arg(&trace).args([BINARY, "collect", "--root"]).arg(machine.root()).output();
    assert!(output.unwrap().status.success());
    let trace = fs::read_to_string(trace).unwrap();
    assert_eq!(trace.matches("execve(").count(), 1, "its own");
    assert!(!trace.contains("vfork(") && !trace.contains(" fork("), "{trace}");
    let clones = trace.lines().filter(|line| line.contains("clone") && !line.contains("resumed"));
    assert!(clones.clone().count() > 0 && clones.clone().all(|line| line.contains("CLONE_THREAD")), "{trace}");
}

/// Who is logged in stands in the paths and sources of mounts, and on their sticks: in no output.
#[test]
fn nothing_tells_who_is_logged_in() {
    let machine = Machine::optiplex();
    machine.run(&["changes"]);
    machine.write(
        "proc/self/mountinfo",
        "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 27 8:3 / /qcow2 rw - ext4 /dev/sda3 rw\n\
         31 27 8:4 / /home/ALICE rw - ext4 /dev/mapper/home-ALICE rw\n32 27 8:17 / /media/ALICE/STICK rw - vfat /dev/sdb1 rw\n\
         33 27 8:18 / /mnt/x rw - ext4 /dev/disk/by-label/ALICE rw\n34 27 0:50 / /run/user/ALICE/doc rw - fuse.portal portal rw\n\
         35 27 0:51 / /mnt/y rw - fuse.sshfs ALICE@host:/ rw\n36 27 0:52 / /mnt/z rw - cifs //server/ALICE rw\n\
         37 27 0:53 / /qcow2/user/ALICE rw - zfs pool/user/ALICE rw\n38 27 0:54 / /srv rw - nfs4 server:/srv rw\n\
         39 27 0:55 / /srv/far rw - fuse.sshfs ALICE@host:/far rw\n40 27 8:19 / /var/home/ALICE rw - ext4 /dev/sda5 rw\n\
         41 27 8:1 /home/ALICE /var/lib rw - ext4 /dev/sda1 rw\n",
    );
    machine.write("etc/fstab", "server:/srv /srv nfs4 defaults 0 0\nx /srv/far fuse.sshfs defaults 0 0\n");
    machine.directory("srv/far");
    machine.write("sys/fs/fuse/connections/50/waiting", "1\n");
    machine.write("sys/fs/fuse/connections/51/waiting", "1\n");
    let stick = "usb1/1-1/host7/target7:0:0/7:0:0:0";
    machine.sata_disk("sdb", stick, "ALICE", "ALICE-0019E06B", 61_440_000);
    machine.write(&format!("sys/devices/pci0000:00/0000:00:1f.2/{stick}/wwid"), "naa.ALICE\n");
    machine.write("sys/class/block/sdb/device/serial", "ALICE\n");
    machine.intrusion(true);

    let (glpi, metrics) = (machine.path("glpi.json"), machine.path("labtools.prom"));
    let mut outputs = Vec::new();
    for arguments in [
        &["collect", "--glpi", glpi.to_str().unwrap()][..],
        &["metrics", metrics.to_str().unwrap()],
        &["changes"],
        &["accept"],
        &["metrics", metrics.to_str().unwrap()],
    ] {
        let ended = machine.run(arguments);
        outputs.extend([ended.stdout, ended.stderr]);
        outputs.extend(metrics.exists().then(|| fs::read_to_string(&metrics).unwrap()));
    }
    outputs.push(fs::read_to_string(&glpi).unwrap());
    outputs.extend(["var/log/labtools/events.jsonl", "var/lib/labtools/baseline.json"].map(|path| machine.read(path)));
    for output in &outputs {
        assert!(!output.contains("ALICE"), "{output}");
        assert!(!output.contains("STICK"), "{output}");
    }
    let host = machine.host();
    let paths: Vec<&Value> = host["filesystems"].as_array().unwrap().iter().map(|filesystem| &filesystem["path"]).collect();
    assert_eq!(paths, ["/", "/qcow2", "/srv", "/srv/far"], "and what is the machine's is there");
}
