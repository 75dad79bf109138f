//! `probe`: entries of models.ini made from recorded machines, changed ones, and this one.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jsonpipe::Common;
use model::Difference;
use serde_json::{Value, json};
use tempfile::TempDir;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vm-passthrough")
}

/// Probes the machine that `root` is.
fn command(root: &Path, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"));
    command
        .args(["probe", "--root"])
        .arg(root)
        .arg("--to")
        .arg(to)
        .stdin(Stdio::null());
    command
}

fn probe(root: &Path, to: &Path) -> Output {
    command(root, to).output().unwrap()
}

/// The report, and the entry, which must be readable.
fn probed(root: &Path) -> (Value, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join(model::FILE);
    let output = probe(root, &to);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let common = Common {
        config: Some(directory.path().to_owned()),
        ..jsonpipe::testkit::common(root)
    };
    let models = model::read_all(&common).unwrap();
    let [(name, entry)] = &models[..] else {
        panic!("{models:?}");
    };
    assert_eq!(document["guest"]["model"], **name);
    let mut differences = model::differences(&common, entry).unwrap();
    differences.retain(|difference| !matches!(difference, Difference::ExtraGraphics { .. }));
    assert_eq!(differences, []);
    let text = fs::read_to_string(&to).unwrap();
    (document["guest"].clone(), text, stderr)
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A machine with these devices: address, device of Intel's, class, group.
fn machine(name: &str, devices: &[(&str, &str, &str, Option<u32>)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "sys/class/dmi/id/product_name", name);
    for (address, id, class, group) in devices {
        let directory = format!("sys/bus/pci/devices/{address}");
        for (file, text) in [
            ("vendor", "0x8086".to_owned()),
            ("device", format!("0x{id}")),
            ("class", format!("0x{class}")),
        ] {
            write(root.path(), &format!("{directory}/{file}"), &text);
        }
        if let Some(group) = group {
            let groups = format!("../../../../kernel/iommu_groups/{group}");
            symlink(groups, root.path().join(&directory).join("iommu_group")).unwrap();
            let member = format!("sys/kernel/iommu_groups/{group}/devices/{address}");
            write(root.path(), &member, "");
        }
    }
    root
}

#[test]
fn the_entries_of_recorded_machines_are_as_expected() {
    for name in ["optiplex-7010", "optiplex-9020", "optiplex-7040"] {
        let case = testdata().join(name);
        let (guest, text, stderr) = probed(&case.join("machine"));
        let expected = fs::read_to_string(case.join("probe.expected")).unwrap();
        assert_eq!(text, expected, "{name}");
        assert_eq!((stderr.as_str(), &guest["missing"]), ("", &json!([])));
    }
}

/// An I219-V has no quirk in the kernel, and shares the group of audio.
#[test]
fn a_device_whose_group_has_the_network_stays_the_hosts() {
    let root = machine(
        "Test",
        &[
            ("0000:00:02.0", "1912", "030000", Some(0)),
            ("0000:00:1f.0", "a145", "060100", Some(6)),
            ("0000:00:1f.3", "a170", "040300", Some(6)),
            ("0000:00:1f.4", "a123", "0c0500", Some(6)),
            ("0000:00:1f.6", "15b8", "020000", Some(6)),
        ],
    );
    let (guest, text, _) = probed(root.path());
    assert_eq!(guest["devices"], json!(["0000:00:02.0"]));
    assert_eq!(guest["parked"], json!([]));
    assert!(
        text.contains("# Not for guests: 0000:00:1f.3 8086:a170, audio: its group also has 0000:00:1f.6 8086:15b8, network, which stays the host's\n"),
        "{text}"
    );
}

#[test]
fn an_added_graphics_card_and_its_audio_are_not_for_guests() {
    let root = machine(
        "Test",
        &[
            ("0000:00:01.0", "1901", "060400", Some(1)),
            ("0000:00:1b.0", "1e20", "040300", Some(5)),
            ("0000:01:00.0", "1c03", "030000", Some(1)),
            ("0000:01:00.1", "10f1", "040300", Some(1)),
        ],
    );
    let (guest, text, _) = probed(root.path());
    assert_eq!(guest["devices"], json!(["0000:00:1b.0"]));
    assert_eq!(guest["parked"], json!([]));
    assert_eq!(text.matches("# Not for guests: 0000:01:00.").count(), 2);
}

#[test]
fn storage_network_and_what_may_be_either_are_never_parked() {
    for class in [
        "010601", "010802", "020000", "028000", "0d8000", "080501", "ff0000", "030000",
    ] {
        let root = machine(
            "Test",
            &[
                ("0000:00:14.0", "a12f", "0c0330", Some(3)),
                ("0000:00:14.2", "0001", class, Some(3)),
            ],
        );
        let (guest, text, _) = probed(root.path());
        assert_eq!(
            (&guest["devices"], &guest["parked"]),
            (&json!([]), &json!([])),
            "{text}"
        );
    }
}

#[test]
fn a_machine_without_groups_has_no_parked_devices_and_says_why() {
    let root = machine("Test", &[("0000:00:14.0", "a12f", "0c0330", None)]);
    let (guest, text, stderr) = probed(root.path());
    assert_eq!(guest["devices"], json!(["0000:00:14.0"]));
    assert!(text.contains("# parked: unknown: this kernel has no IOMMU groups"));
    assert!(stderr.contains("vm-passthrough: parked: unknown: this kernel has no IOMMU groups"));
    let keys: Vec<&Value> = guest["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| &missing["key"])
        .collect();
    assert_eq!(keys, ["parked", "memory_installed", "processor", "bios"]);
}

#[test]
fn strings_of_firmware_and_kernel_cannot_forge_a_line() {
    let root = machine("Test", &[("0000:00:14.0", "a12f", "0c0330", Some(1))]);
    let driver = root.path().join("sys/bus/pci/devices/0000:00:14.0/driver");
    symlink("../drivers/xhci\n[model.Forged]\nbios=A00", driver).unwrap();
    write(
        root.path(),
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: i7\u{2028}[model.Forged]\n",
    );
    write(root.path(), "sys/class/dmi/id/bios_version", "A16\\\n");
    let (guest, text, _) = probed(root.path());
    assert_eq!(text.lines().filter(|line| line.starts_with('[')).count(), 1);
    assert!(
        text.contains("# bios: unknown: it ends in a backslash"),
        "{text}"
    );
    assert_eq!(guest["devices"], json!(["0000:00:14.0"]));
}

#[test]
fn a_model_that_no_section_can_have_is_78() {
    for (name, message) in [
        (
            "Opti]Plex\n[model.X",
            "the firmware's product name is no text",
        ),
        (
            "Opti]Plex",
            "Opti]Plex: a section cannot have brackets in its name",
        ),
        (" ", "the firmware names no product"),
    ] {
        let root = machine(name, &[]);
        let to = root.path().join("entry.ini");
        let output = probe(root.path(), &to);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(78), &b""[..])
        );
        assert!(stderr.contains(message), "{stderr}");
        assert!(!to.exists());
    }
}

#[test]
fn a_file_that_is_there_stays_as_it_is() {
    let root = machine("Test", &[]);
    let to = root.path().join("entry.ini");
    fs::write(&to, "mine").unwrap();
    let dangling = root.path().join("dangling.ini");
    symlink("nowhere", &dangling).unwrap();
    for to in [&to, &dangling] {
        let output = probe(root.path(), to);
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(73), &b""[..])
        );
    }
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    assert!(!root.path().join("nowhere").exists());
}

#[test]
fn an_entry_whose_report_is_lost_is_gone() {
    let root = machine("Test", &[]);
    let to = root.path().join("entry.ini");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command(root.path(), &to).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(!to.exists());
}

/// This machine's devices, memory and processor; its firmware may have no name.
#[test]
fn this_machine_can_be_probed() {
    let root = machine("This machine", &[]);
    for (real, name) in [
        ("/proc", "proc"),
        ("/sys/bus", "sys/bus"),
        ("/sys/kernel", "sys/kernel"),
    ] {
        symlink(real, root.path().join(name)).unwrap();
    }
    let (guest, text, _) = probed(root.path());
    assert!(text.contains("\nmemory_installed = "), "{text}");
    let pci = fs::read_dir("/sys/bus/pci/devices").map_or(0, Iterator::count);
    assert!(guest["devices"].as_array().unwrap().len() <= pci);
}
