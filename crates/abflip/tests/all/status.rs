//! `abflip status`: what it tells, of machines, images and disks that are not right.

use std::fs;
use std::os::unix::process::CommandExt;

use jsonpipe::testkit::Ended;
use serde_json::{Value, json};

use crate::machine::{self, A, B, BINARY, Machine, PARTITION, bios, uefi};

/// The section of a run that must end with this status.
fn status(machine: &Machine, arguments: &[&str], status: i32) -> Value {
    let ended = machine.run(&[&["status"], arguments].concat());
    assert_eq!(ended.status, status, "{ended:?}");
    ended.section("slots")
}

#[test]
fn all_of_it() {
    for (firmware, partitions, roots) in [("bios", bios(), [1, 2]), ("uefi", uefi(), [3, 4])] {
        let machine = Machine::with(512, &partitions);
        machine.record(&["b"]);
        let disk = machine.disk().display().to_string();
        assert_eq!(
            status(&machine, &[], 0),
            json!({
                "schema": 1, "changed": false, "disk": disk, "firmware": firmware,
                "a": {"partuuid": A, "partition": roots[0]},
                "b": {"partuuid": B, "partition": roots[1], "version": 7, "sha256": "00", "rejected": false},
                "booted": "a", "next": "a",
                "table": {
                    "sector_bytes": 512, "protective_mbr": true, "primary": true, "backup": true, "agree": true,
                    "backup_at_end": true, "faults": [],
                },
                "missing": [{"key": "a.version", "reason": "no verified write is recorded"}],
            })
        );
    }
}

#[test]
fn the_running_slot_is_found_by_the_kernels_tables_and_not_by_names() {
    let machine = Machine::new();
    machine.run_from(2);
    assert_eq!(status(&machine, &[], 0)["booted"], "b");
    // The partition that runs is not the one that the table has there: it was written since.
    fs::write(
        machine.root().join("sys/devices/block/sda/sda2/start"),
        "77\n",
    )
    .unwrap();
    let told = status(&machine, &[], 0);
    assert!(told.get("booted").is_none(), "{told}");
    assert_eq!(
        told["missing"][0],
        json!({"key": "booted", "reason": "the table has no partition 2 where the root is"})
    );
    fs::remove_file(machine.root().join("proc/self/mountinfo")).unwrap();
    let ended = machine.run(&["status"]);
    assert_eq!(ended.status, 78);
    assert!(
        ended
            .stderr
            .contains("finding the disk: nothing is mounted; name one with --disk"),
        "{ended:?}"
    );
}

#[test]
fn names_of_any_bytes_keep_nobody_from_the_answer() {
    let machine = Machine::new();
    machine.configure_extlinux();
    let append = |file: &str, bytes: &[u8]| {
        let path = machine.root().join(file);
        fs::write(&path, [fs::read(&path).unwrap(), bytes.to_vec()].concat()).unwrap();
    };
    append(
        "proc/self/mountinfo",
        b"30 24 0:40 / /mnt/caf\xe9 rw - tmpfs caf\xe9 rw\n",
    );
    append("sys/devices/block/sda/uevent", b"PARTNAME=caf\xe9\n");
    append("boot/extlinux/extlinux.conf", b"# caf\xe9\n");
    assert_eq!(status(&machine, &[], 0)["booted"], "a");
    assert_eq!(machine.slots(&["try"])["trial_state"], "armed");
}

#[test]
fn an_image_needs_no_root() {
    let machine = Machine::new();
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("lab.img");
    fs::copy(machine.disk(), &image).unwrap();
    fs::copy(
        machine.root().join("etc/labtools/abflip.ini"),
        work.path().join("abflip.ini"),
    )
    .unwrap();
    let open = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(work.path());
    let binary = work.path().join("abflip");
    fs::copy(BINARY, &binary).unwrap();
    open(&binary);
    let mut command = std::process::Command::new(&binary);
    command
        .args(["status", "--config"])
        .arg(work.path())
        .arg("--disk")
        .arg(&image)
        .uid(65534)
        .gid(65534);
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.status, 0, "{ended:?}");
    let slots = ended.section("slots");
    assert_eq!(slots["next"], "a");
    assert!(slots.get("booted").is_none(), "{slots}");
    // To write it is another matter.
    let mut command = std::process::Command::new(&binary);
    command
        .args(["repair", "--dry-run", "--config"])
        .arg(work.path())
        .arg("--disk")
        .arg(&image)
        .uid(65534)
        .gid(65534);
    assert_eq!(Ended::of(command.output().unwrap()).status, 0);
}

#[test]
fn status_is_1_for_faults_to_repair() {
    let machine = Machine::new();
    let whole = machine.bytes();
    let last = machine.last() * 512;
    for (place, bytes, fault) in [
        (510, vec![0], "there is no protective MBR"),
        (512, vec![0], "primary table: there is no header"),
        (
            1024 + 100,
            vec![1],
            "primary table: the checksum of the entries is wrong",
        ),
        (last, vec![0], "backup table: there is no header"),
    ] {
        machine.poke(place, &bytes);
        let slots = status(&machine, &[], 1);
        assert_eq!(slots["table"]["faults"], json!([fault]));
        assert_eq!(slots["next"], "a");
        machine.poke(0, &whole);
    }
    machine.poke(512, &[0]);
    machine.poke(last, &[0]);
    let slots = status(&machine, &[], 1);
    assert!(
        slots.get("next").is_none()
            && slots.get("booted").is_none()
            && slots["a"].get("partition").is_none(),
        "{slots}"
    );
    assert_eq!(slots["table"]["sector_bytes"], Value::Null);
}

#[test]
fn the_digest_is_that_of_the_image_as_it_was_shipped() {
    let machine = Machine::new();
    // An image of a length that is no whole sector, longer than one read; then its label is
    // patched.
    let image: Vec<u8> = (0..PARTITION as usize - 1000)
        .map(|at| (at * 7 % 251) as u8)
        .collect();
    machine.poke(2 * PARTITION, &image);
    let digest = program_sha256(&machine, &image);
    machine.poke(2 * PARTITION + 5000, b"rootB");
    let record = |sha256: &str, masked: Value| {
        let record = json!({"schema": 1, "b": {
            "disk_guid": machine::DISK_GUID, "partuuid": B, "version": 8, "sha256": sha256, "size_bytes": image.len(),
            "masked": masked, "verified_at": "2026-11-23T00:00:00Z",
        }});
        fs::write(
            machine.root().join("var/lib/labtools/slots.json"),
            record.to_string(),
        )
        .unwrap();
    };
    let shipped: String = image[5000..5005]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    record(&digest, json!([{"offset_bytes": 5000, "shipped": shipped}]));
    let slots = status(&machine, &["--digest"], 0);
    assert_eq!(
        (&slots["b"]["intact"], &slots["b"]["sha256"]),
        (&true.into(), &digest.clone().into())
    );
    assert!(slots["a"].get("intact").is_none());
    // One bit elsewhere.
    machine.poke(2 * PARTITION + 9000, &[image[9000] ^ 1]);
    let slots = status(&machine, &["--digest"], 1);
    assert_eq!(slots["b"]["intact"], false);
    assert_eq!(
        slots["table"]["faults"],
        json!(["slot b differs from the image written to it; write it again"])
    );
    record(
        &digest,
        json!([{"offset_bytes": image.len(), "shipped": "00"}]),
    );
    assert_eq!(machine.run(&["status", "--digest"]).status, 78);
}

fn program_sha256(machine: &Machine, bytes: &[u8]) -> String {
    let path = machine.root().join("shipped");
    fs::write(&path, bytes).unwrap();
    let (ok, said) = machine::program("sha256sum", "coreutils", &[path.to_str().unwrap()], "");
    assert!(ok);
    said.split(' ').next().unwrap().to_owned()
}

#[test]
fn status_has_an_exit_status_for_each_refusal() {
    let machine = Machine::new();
    machine.refused(
        &["status", "--disk", "/nowhere/disk"],
        66,
        "opening /nowhere/disk",
    );
    machine.refused(
        &["status", "--disk", "/dev/null"],
        65,
        "neither a disk nor an image file",
    );
    machine.configure("[slots]\nfirmware=bios\n");
    machine.refused(&["status"], 78, "abflip.ini: slots.a: missing");
    fs::remove_file(machine.root().join("etc/labtools/abflip.ini")).unwrap();
    machine.refused(&["status"], 66, "abflip.ini");
}

#[test]
fn next_slot_is_not_rejected() {
    let machine = Machine::new();
    let records = machine.root().join("var/lib/labtools/slots.json");
    let mut recorded: Value = serde_json::from_str(&fs::read_to_string(&records).unwrap()).unwrap();
    recorded["rejected"] = json!([{"version": 7, "sha256": "00"}]);
    fs::write(&records, recorded.to_string()).unwrap();
    let slots = status(&machine, &[], 0);
    assert_eq!(
        (&slots["a"]["rejected"], &slots["b"]["rejected"]),
        (&false.into(), &true.into()),
        "{slots}"
    );
}

#[test]
fn a_disk_without_a_sector_has_no_table() {
    for length in [0, 511] {
        let machine = Machine::new();
        fs::write(machine.disk(), vec![0; length]).unwrap();
        let ended = machine.run(&["status"]);
        assert_eq!(
            (
                ended.status,
                &ended.section("slots")["table"]["backup_at_end"]
            ),
            (1, &false.into()),
            "{length}: {ended:?}"
        );
        assert_eq!(
            ended.section("slots")["table"]["faults"][1],
            "primary table: the disk is too small for one"
        );
    }
}
