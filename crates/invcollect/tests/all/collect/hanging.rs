//! What does not answer keeps nothing else from being told. What hangs for real is in the
//! laboratory.

use std::process::Command;

use serde_json::{Value, json};

use crate::machine::{BINARY, Machine};

#[test]
fn collect_does_not_ask_fuse_programs() {
    let machine = Machine::optiplex();
    machine.write(
        "proc/self/mountinfo",
        "40 27 0:77 / /srv/far rw - fuse.sshfs user@host:/far rw\n",
    );
    machine.write(
        "etc/fstab",
        "user@host:/far /srv/far fuse.sshfs defaults 0 0\n",
    );
    machine.directory("srv/far");
    let far = || machine.host()["filesystems"][0].clone();
    let expected = json!({"path": "/srv/far", "source": "host:/far", "kind": "fuse.sshfs", "read_only": false, "hanging": false});
    assert_eq!(far(), expected);
    assert!(
        machine
            .reason("filesystems[/srv/far].total_bytes")
            .unwrap()
            .contains("not asked")
    );
    // Somebody waits for an answer: it may be gone, and it may be busy. Nobody knows.
    machine.write("sys/fs/fuse/connections/77/waiting", "1\n");
    assert_eq!(far()["hanging"], Value::Null);
    let reason = machine.reason("filesystems[/srv/far].hanging").unwrap();
    assert_eq!(
        reason,
        "requests were unanswered for 2 seconds: the program that serves it is busy, or gone"
    );
}

/// A pipe that nobody writes to stands for a disk, a firmware that never answers: who opens it
/// waits for ever. (Not for a configuration file, which is no pipe.) What hangs for real is in the
/// laboratory.
#[test]
fn collect_names_hanging_files_and_reads_the_rest() {
    let on_disks = [
        ("persistent/inventory/uuid", "id"),
        ("var/lib/labtools/slots.json", "image"),
        ("var/lib/labtools/baseline.json", "changes"),
        ("var/log/labtools/events.jsonl", "guest_failures"),
    ];
    for stuck in [
        &on_disks[..],
        &[(
            "sys/class/firmware-attributes/dell-wmi-sysman/attributes/WakeOnLan/current_value",
            "firmware.attributes",
        )],
        &[("sys/class/hwmon/hwmon0/temp1_input", "temperatures")],
        &[("sys/firmware/dmi/tables/DMI", "system")],
        &[("sys/class/net/eth0/speed", "interfaces")],
    ] {
        let machine = Machine::optiplex();
        for (path, _) in stuck {
            machine.never_answers(path);
        }
        // `timeout` is for the day on which this fails.
        let output = Command::new("timeout")
            .args(["60", BINARY, "collect", "--root"])
            .arg(machine.root())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{stuck:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let host = &document["host"];
        for (_, key) in stuck {
            let missing = json!({"key": key, "reason": "no answer within 2 seconds"});
            assert!(
                host["missing"].as_array().unwrap().contains(&missing),
                "{host:#}"
            );
        }
        let serial = if stuck[0].1 == "system" {
            Value::Null
        } else {
            "ABC1234".into()
        };
        assert_eq!(
            (&host["system"]["serial"], &host["disks"][0]["name"]),
            (&serial, &json!("sda"))
        );
    }
    let machine = Machine::optiplex();
    machine.never_answers("qcow2/backing/bases.ini");
    assert!(
        machine
            .reason("bases")
            .unwrap()
            .ends_with("bases.ini: not a file")
    );
}

#[test]
fn collect_reads_nothing_of_a_hanging_file_system() {
    let machine = Machine::optiplex();
    machine.write(
        "proc/self/mountinfo",
        "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 27 8:3 / /qcow2 rw - fuseblk /dev/sda3 rw\n",
    );
    machine.write("sys/fs/fuse/connections/8388611/waiting", "1\n"); // 8:3
    let host = machine.host();
    assert_eq!(
        (&host["filesystems"][1]["hanging"], &host["bases"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(
        machine.reason("bases").unwrap(),
        "the file system that it is on does not answer"
    );
}
