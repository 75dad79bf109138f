//! `collect`: what a machine is.

mod firmware;
mod guest;
mod hanging;
mod parts;
mod removable;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::cases::case;
use crate::machine::{BINARY, Machine};
use jsonpipe::testkit::{assert_expected, traced};

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
fn collect_tells_a_machine() {
    let host = without_measured(Machine::optiplex().host());
    let found = tempfile::tempdir().unwrap();
    fs::write(found.path().join("host.json"), format!("{host:#}\n")).unwrap();
    assert_expected(&case("collect", "optiplex-7010"), found.path());
}

#[test]
fn the_same_machine_gives_the_same_bytes() {
    let machine = Machine::optiplex();
    let text = |host: Value| without_measured(host).to_string();
    assert_eq!(text(machine.host()), text(machine.host()));
}

/// Nothing is there: not /sys, not /proc. Everything has its reason, and nothing is -1, 0 or empty
/// instead.
#[test]
fn unknown_values_are_absent_with_a_reason() {
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
            Value::Object(members) => members
                .iter()
                .for_each(|(key, value)| check(&format!("{path}.{key}"), value)),
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
fn values_for_root_are_missing_without_root() {
    // Not of this machine: the tables of some test machines are not there at all.
    let machine = Machine::optiplex();
    fs::set_permissions(
        machine.path("sys/firmware/dmi/tables/DMI"),
        fs::Permissions::from_mode(0o400),
    )
    .unwrap();
    fs::set_permissions(machine.root(), fs::Permissions::from_mode(0o755)).unwrap();
    machine.write("sys/class/dmi/id/product_name", "OptiPlex 7010\n");
    let copy = machine.path("invcollect");
    // Not by this process: what it has open for writing another test's child may still hold when it
    // is to be run.
    assert!(
        Command::new("cp")
            .arg(BINARY)
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy);
        command
    };
    for directory in ["run/labtools", "var/log/labtools", "var/lib/labtools/spool"] {
        machine.directory(directory);
        fs::set_permissions(machine.path(directory), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::set_permissions(
        machine.path("var/lib/labtools/slots.json"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let output = as_nobody()
        .args(["collect", "--root"])
        .arg(machine.root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let host = &document["host"];
    assert_eq!(
        (&host["system"]["model"], &host["memory"]["installed_bytes"]),
        (&json!("OptiPlex 7010"), &Value::Null)
    );
    for (key, path) in [
        ("memory.installed_bytes", "/sys/firmware/dmi/tables/DMI"),
        ("guest", "/run/labtools/guest.lock"),
        ("guest_failures", "/var/log/labtools/events.jsonl"),
        ("image", "/var/lib/labtools/slots.json"),
    ] {
        let reason = json!({"key": key, "reason": format!("{path}: needs root")});
        assert!(
            host["missing"].as_array().unwrap().contains(&reason),
            "{key}: {host:#}"
        );
    }
    let output = as_nobody()
        .args(["accept", "--root"])
        .arg(machine.root())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).ends_with("; needs root\n"),
        "{output:?}"
    );
    // And none of it is measured as 0.
    let metrics = machine.path("metrics/labtools.prom");
    machine.directory("metrics");
    fs::set_permissions(machine.path("metrics"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = as_nobody()
        .arg("metrics")
        .arg(&metrics)
        .arg("--root")
        .arg(machine.root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reason = json!({"key": "spool", "reason": "/var/lib/labtools/spool: needs root"});
    assert!(
        document["metrics"]["missing"]
            .as_array()
            .unwrap()
            .contains(&reason),
        "{document:#}"
    );
    let metrics = fs::read_to_string(metrics).unwrap();
    for metric in [
        "labtools_guest_running",
        "labtools_spool_bytes",
        "labtools_spool_reports",
        "labtools_spool_rejected_reports",
    ] {
        assert!(!metrics.contains(metric), "{metric}: {metrics}");
    }
}

/// Firmware, disks and sensors say anything, and who reads it sits at a terminal.
#[test]
fn texts_of_devices_do_not_move_a_terminal() {
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
    machine.write(
        "proc/self/mountinfo",
        "27 1 8:1 / / rw - ext4 /dev/sda\u{1b}1 rw\n",
    );
    machine.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: a\u{1b}b\n");
    machine.write(
        "proc/net/route",
        "e\u{1b}0\t00000000\t0103000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
    );
    machine.wired("e\u{1b}0", "00:1b:21:0a:0b:0e", Some(1000));
    machine.link(
        "sys/class/net/e\u{1b}0/device/driver",
        "../../drivers/e\u{1b}1000e",
    );
    machine.pci(
        "0000:09:00.\u{1b}0",
        "0x8086",
        "0x0152",
        "0x030000",
        Some("i\u{1b}915"),
    );
    let host = machine.host();
    assert_eq!(
        (
            &host["interfaces"][1]["name"],
            &host["routes"][0]["interface"]
        ),
        (&json!("e\u{fffd}0"), &json!("e\u{fffd}0"))
    );
    assert_eq!(host["hostname"], "a\u{fffd}]0;x\u{fffd}b\u{fffd}c");
    assert_eq!(
        (&host["system"]["model"], &host["filesystems"][0]["source"]),
        (&host["hostname"], &json!("/dev/sda\u{fffd}1"))
    );
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
    assert!(
        !machine
            .read("labtools.prom")
            .contains(|c| c != '\n' && jsonpipe::is_hidden(c))
    );
}

#[test]
fn a_broken_configuration_keeps_no_machine_from_reporting() {
    let machine = Machine::optiplex();
    machine.write("etc/labtools/campus.ini", "[net.x]\ncidr=nowhere\n");
    machine.write(
        "etc/labtools/models.ini",
        "[model.OptiPlex 7010]\nmemory_installed=8\n",
    );
    let host = machine.host();
    assert_eq!(
        (&host["place"], &host["memory"]["expected_bytes"]),
        (&Value::Null, &Value::Null)
    );
    assert!(machine.reason("place").unwrap().contains("net.x"));
    assert!(
        machine
            .reason("configuration")
            .unwrap()
            .contains("model.OptiPlex 7010.memory_installed: expected an amount of memory")
    );
    machine.remove("etc/labtools/models.ini");
    // Whether or not it is needed.
    machine.remove("sys/firmware/dmi");
    machine.write(
        "etc/labtools/invcollect.ini",
        "[push]\nurl=http://collector.example\n",
    );
    assert!(
        machine
            .reason("configuration")
            .unwrap()
            .ends_with("invcollect.ini: push.url: not https://HOST[:PORT][/PATH]")
    );
    machine.remove("etc/labtools/invcollect.ini");
    machine.remove("etc/labtools/campus.ini");
    assert_eq!(machine.reason("configuration"), None);
    assert_eq!(
        machine.reason("place").unwrap(),
        format!("no {}", machine.path("etc/labtools/campus.ini").display())
    );
}

#[test]
fn collect_starts_no_process() {
    let machine = Machine::optiplex();
    let mut command = Command::new(BINARY);
    command.args(["collect", "--root"]).arg(machine.root());
    let (ended, trace) = traced("process,write", &command);
    assert_eq!(ended.status, 0, "{ended:?}");
    assert_eq!(trace.matches("execve(").count(), 1, "its own");
    assert!(
        !trace.contains("vfork(") && !trace.contains(" fork("),
        "{trace}"
    );
    let clones = trace
        .lines()
        .filter(|line| line.contains(" clone(") || line.contains(" clone3("));
    assert!(
        clones.clone().count() > 0 && clones.clone().all(|line| line.contains("CLONE_THREAD")),
        "{trace}"
    );
}

/// Who is logged in stands in the paths and sources of mounts, and on their sticks: in no output.
#[test]
fn outputs_do_not_name_the_user() {
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
    machine.write(
        "etc/fstab",
        "server:/srv /srv nfs4 defaults 0 0\nx /srv/far fuse.sshfs defaults 0 0\n",
    );
    machine.directory("srv/far");
    machine.write("sys/fs/fuse/connections/50/waiting", "1\n");
    machine.write("sys/fs/fuse/connections/51/waiting", "1\n");
    let stick = "usb1/1-1/host7/target7:0:0/7:0:0:0";
    machine.sata_disk("sdb", stick, "ALICE", "ALICE-0019E06B", 61_440_000);
    machine.write(
        &format!("sys/devices/pci0000:00/0000:00:1f.2/{stick}/wwid"),
        "naa.ALICE\n",
    );
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
        outputs.extend(
            metrics
                .exists()
                .then(|| fs::read_to_string(&metrics).unwrap()),
        );
    }
    outputs.push(fs::read_to_string(&glpi).unwrap());
    outputs.extend(
        [
            "var/log/labtools/events.jsonl",
            "var/lib/labtools/baseline.json",
        ]
        .map(|path| machine.read(path)),
    );
    for output in &outputs {
        assert!(!output.contains("ALICE"), "{output}");
        assert!(!output.contains("STICK"), "{output}");
    }
    let host = machine.host();
    let paths: Vec<&Value> = host["filesystems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|filesystem| &filesystem["path"])
        .collect();
    assert_eq!(
        paths,
        ["/", "/qcow2", "/srv", "/srv/far"],
        "and what is the machine's is there"
    );
}

#[test]
fn collect_names_mounts_that_failed() {
    let machine = Machine::optiplex();
    machine.write(
        "etc/fstab",
        "# /a /comment\nUUID=x /qcow2 ext4 rw 0 2\nUUID=y /var/log ext4 rw,nofail 0 2\n\
         UUID=z none swap sw 0 0\nserver:/x /mnt/later nfs4 noauto 0 0\n/dev/sdb1 /a\\040b ext4\n",
    );
    assert_eq!(machine.host()["unmounted"], json!(["/var/log", "/a b"]));
    let file = machine.path("labtools.prom");
    machine.run(&["metrics", file.to_str().unwrap()]);
    let text = fs::read_to_string(&file).unwrap();
    let mounted: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("labtools_filesystem_mounted{"))
        .filter_map(|line| line.split_once("path=\""))
        .map(|(_, sample)| sample)
        .collect();
    let expected = ["/var/log\"} 0", "/a b\"} 0", "/\"} 1", "/qcow2\"} 1"];
    assert_eq!(mounted, expected, "{text}");
}
