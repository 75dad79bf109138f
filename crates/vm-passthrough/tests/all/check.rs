//! `check` on machines that are directories, and on the real one, of which it only reads.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsonpipe::testkit::{Ended, traced};
use serde_json::{Value, json};
use tempfile::TempDir;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vm-passthrough")
}

/// A check, with a standard input that nobody writes to: reading it would never end.
fn check(root: &Path, arguments: &[&str]) -> Ended {
    let (stdin, _writer) = std::io::pipe().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"))
        .arg("check")
        .args(arguments)
        .arg("--root")
        .arg(root)
        .arg("--config")
        .arg(testdata().join("config"))
        .stdin(Stdio::from(stdin))
        .output()
        .unwrap();
    Ended::of(output)
}

#[test]
fn check_finds_nothing_on_the_models_as_they_are_delivered() {
    for model in ["7010", "9020", "7040"] {
        let root = testdata().join(format!("optiplex-{model}/machine"));
        let ended = check(&root, &[]);
        assert_eq!((ended.status, &*ended.stderr), (0, ""), "{model}");
        let guest = ended.section("guest");
        assert_eq!(guest["model"], json!(format!("OptiPlex {model}")));
        assert_eq!(
            (&guest["schema"], &guest["changed"]),
            (&json!(1), &json!(false))
        );
        assert_eq!(guest["blockers"], json!([]), "{model}");
    }
}

#[test]
fn check_names_a_blocker_on_both_outputs() {
    let ended = check(&testdata().join("network-in-group"), &[]);
    assert_eq!(ended.status, 1);
    let blocker = &ended.section("guest")["blockers"][0];
    assert_eq!(blocker["kind"], "group_sibling");
    assert_eq!(blocker["device"], "0000:00:1f.6");
    assert_eq!(blocker["driver"], "e1000e");
    let (what, way_out) = (&blocker["what"], &blocker["way_out"]);
    let line = format!(
        "vm-passthrough: PCI device 0000:00:1f.6: {}; {}\n",
        what.as_str().unwrap(),
        way_out.as_str().unwrap()
    );
    assert_eq!(ended.stderr, line);
}

#[test]
fn check_prints_warnings_only_with_v() {
    let root = testdata().join("optiplex-7040/machine");
    let ended = check(&root, &["-v"]);
    assert!(
        ended
            .stderr
            .starts_with("vm-passthrough: no /dev/kvm: the guest is emulated"),
        "{}",
        ended.stderr
    );
}

#[test]
fn check_names_a_qemu_that_is_not_there() {
    let config = tempfile::tempdir().unwrap();
    fs::write(
        config.path().join("vm-passthrough.ini"),
        "[qemu]\nuser=64055\nbinary=/nowhere/qemu\n",
    )
    .unwrap();
    fs::write(
        config.path().join("profiles.ini"),
        "[profile.linux]\ncores=1\nmemory=64M\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"))
        .args(["check", "--root", "/nowhere", "--config"])
        .arg(config.path())
        .output()
        .unwrap();
    let ended = Ended::of(output);
    assert_eq!(ended.status, 1);
    let guest = ended.section("guest");
    assert_eq!(guest["blockers"][0]["kind"], "qemu_missing");
    assert_eq!(guest["blockers"][0]["setting"], "qemu.binary");
}

/// A check of a machine with another configuration.
fn check_configured(machine: &str, files: &[(&str, &str)]) -> Ended {
    let config = tempfile::tempdir().unwrap();
    for name in ["models.ini", "profiles.ini", "vm-passthrough.ini"] {
        fs::copy(
            testdata().join("config").join(name),
            config.path().join(name),
        )
        .unwrap();
    }
    for (name, text) in files {
        fs::write(config.path().join(name), text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"))
        .args(["check", "--root"])
        .arg(testdata().join(machine))
        .arg("--config")
        .arg(config.path())
        .output()
        .unwrap();
    Ended::of(output)
}

fn kinds(ended: &Ended) -> Vec<String> {
    let guest = ended.section("guest");
    let blockers = guest["blockers"].as_array().unwrap().iter();
    blockers
        .map(|blocker| blocker["kind"].as_str().unwrap().to_owned())
        .collect()
}

/// The entry of this kind in a list.
fn entry(ended: &Ended, list: &str, kind: &str) -> Option<Value> {
    let guest = ended.section("guest");
    let mut entries = guest[list].as_array().unwrap().iter();
    entries.find(|entry| entry["kind"] == kind).cloned()
}

/// A 7040 whose audio has `driver`, with this journal. Its network is its own: no guest of another
/// test runs there. QEMU, which cannot change its user there, is not what this looks at.
fn check_left(driver: &str, journal: Option<&str>) -> (TempDir, Ended) {
    let root = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(testdata().join("optiplex-7040/machine/."))
        .arg(root.path())
        .status();
    assert!(copied.unwrap().success());
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/sys/kernel/random/boot_id", "this-boot\n");
    if let Some(journal) = journal {
        write("run/labtools/guest.journal", journal);
    }
    let device = root.path().join("sys/bus/pci/devices/0000:00:1f.3");
    let link = device.join("driver");
    let _ = fs::remove_file(&link);
    symlink(format!("../../drivers/{driver}"), link).unwrap();
    write(
        "sys/bus/pci/devices/0000:00:1f.3/driver_override",
        "vfio-pci\n",
    );
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net"])
        .arg(env!("CARGO_BIN_EXE_vm-passthrough"))
        .args(["check", "--root"])
        .arg(root.path())
        .arg("--config")
        .arg(testdata().join("config"))
        .output();
    (root, Ended::of(output.unwrap()))
}

fn journal(driver: &str) -> String {
    json!({"schema": 1, "boot_id": "this-boot",
        "devices": [{"device": "0000:00:1f.3", "driver": driver, "driver_override": null}],
        "parked": [], "groups": [], "console": {"consoles": [], "framebuffers": []}, "huge_pages": null})
    .to_string()
}

#[test]
fn check_after_a_killed_run_warns_and_leaves_the_journal() {
    let (root, ended) = check_left("vfio-pci", Some(&journal("snd_hda_intel")));
    assert_eq!(entry(&ended, "blockers", "not_given_back"), None);
    let warning = entry(&ended, "warnings", "not_given_back").unwrap();
    assert_eq!(
        warning["what"],
        "a run was killed, or could not give everything back: 0000:00:1f.3: vfio-pci instead of snd_hda_intel"
    );
    let way_out = warning["way_out"].as_str().unwrap();
    assert!(
        way_out.starts_with("run vm-passthrough restore"),
        "{way_out}"
    );
    assert!(root.path().join("run/labtools/guest.journal").exists());
}

#[test]
fn check_names_a_device_that_the_host_got_back_without_a_restore() {
    let (_root, ended) = check_left("snd_hda_intel", Some(&journal("snd_soc_skl")));
    assert_eq!(ended.status, 1);
    let blocker = entry(&ended, "blockers", "reclaimed").unwrap();
    assert_eq!(blocker["device"], "0000:00:1f.3");
    assert_eq!(blocker["driver"], "snd_hda_intel");
}

#[test]
fn check_names_a_journal_that_cannot_be_followed() {
    let (_root, ended) = check_left("snd_hda_intel", Some("{"));
    assert_eq!(ended.status, 1);
    let blocker = entry(&ended, "blockers", "not_given_back").unwrap();
    let way_out = blocker["way_out"].as_str().unwrap();
    assert!(way_out.starts_with("restart the machine"), "{way_out}");
}

#[test]
fn check_warns_of_a_device_on_vfio_without_a_guest_and_a_journal() {
    let (_root, ended) = check_left("vfio-pci", None);
    let warning = entry(&ended, "warnings", "stray").unwrap();
    let way_out = warning["way_out"].as_str().unwrap();
    assert!(
        way_out.contains("vm-passthrough restore 0000:00:1f.3"),
        "{way_out}"
    );
    let (_root, ended) = check_left("snd_hda_intel", None);
    assert_eq!(entry(&ended, "warnings", "stray"), None);
}

#[test]
fn check_names_a_user_of_qemu_that_is_not_there_with_all_other_blockers() {
    for user in ["no-such-user", "root"] {
        let settings = format!("[qemu]\nuser={user}\n");
        let ended = check_configured("network-in-group", &[("vm-passthrough.ini", &settings)]);
        assert_eq!(ended.status, 1);
        assert_eq!(kinds(&ended), ["group_sibling", "qemu_user"]);
        let warnings = &ended.section("guest")["warnings"];
        assert_eq!(warnings[0]["kind"], "not_looked_at", "{warnings}");
        let blocker = &ended.section("guest")["blockers"][1];
        assert_eq!(blocker["setting"], "qemu.user");
        assert!(!blocker["way_out"].as_str().unwrap().is_empty());
    }
}

#[test]
fn check_names_two_devices_of_one_slot() {
    let models = "[model.OptiPlex 7040]\ndevices=00:1f.3 8086:a170, 00:1f.6 8086:15b7\n";
    let ended = check_configured("network-in-group", &[("models.ini", models)]);
    assert!(
        kinds(&ended).contains(&"slot_taken".to_owned()),
        "{}",
        ended.stderr
    );
}

/// What keeps only some guests from starting is named for each of them.
#[test]
fn check_names_what_a_profile_lacks() {
    let plain = "[profile.linux]\ncores=1\n";
    let campus = "[net.lab]\ncidr=192.0.2.0/24\ncampus=c\nbuilding=b\nroom=101\n";
    for (profiles, campus, kind, what) in [
        ("", None, "profile_missing", "no section [profile.OSTYPE]"),
        (
            "[profile.linux]\ncores=1\nrdp=true\n",
            None,
            "management_address",
            "[profile.linux] has rdp=true",
        ),
        (
            "[profile.linux]\ncores=1\nsegment=true\n",
            None,
            "segment_missing",
            "campus.ini: no such file",
        ),
        (
            "[profile.linux]\ncores=1\nsegment=true\n",
            Some("[net.lab]\ncidr=many\n"),
            "segment_missing",
            "net.lab.campus: missing",
        ),
        (plain, None, "", ""),
        (
            "[profile.linux]\ncores=1\nsegment=true\n",
            Some(campus),
            "",
            "",
        ),
    ] {
        let mut files = vec![
            ("profiles.ini", profiles),
            ("vm-passthrough.ini", "[qemu]\nuser=64055\n"),
        ];
        files.extend(campus.map(|text| ("campus.ini", text)));
        let ended = check_configured("optiplex-7040/machine", &files);
        let guest = ended.section("guest");
        let found: Vec<_> = guest["blockers"].as_array().unwrap().clone();
        if kind.is_empty() {
            assert_eq!(found, [] as [Value; 0], "{profiles}");
            let is_open = guest["warnings"]
                .to_string()
                .contains("no address in a room");
            assert_eq!(is_open, campus.is_some(), "{guest}");
            continue;
        }
        assert_eq!(found[0]["kind"], kind, "{profiles}");
        let text = found[0]["what"].as_str().unwrap();
        assert!(text.contains(what), "{text}");
        assert_ne!(found[0]["way_out"], "");
    }
}

#[test]
fn check_names_memory_that_is_unknown() {
    let config = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(config.path().join(name), text).unwrap();
    write("vm-passthrough.ini", "[qemu]\nuser=64055\n");
    for (memory, kinds_found) in [("", &["memory_unknown"][..]), ("memory=64M\n", &[])] {
        write(
            "profiles.ini",
            &format!("[profile.linux]\ncores=1\n{memory}"),
        );
        let output = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"))
            .args(["check", "--root", "/nowhere", "--config"])
            .arg(config.path())
            .output()
            .unwrap();
        assert_eq!(kinds(&Ended::of(output)), kinds_found, "{memory}");
    }
}

/// The tables of this machine, under a name that models.ini lists with all its devices.
fn this_machine() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let class = root.path().join("sys/class");
    fs::create_dir_all(class.join("dmi/id")).unwrap();
    fs::write(class.join("dmi/id/product_name"), "This\n").unwrap();
    for directory in [
        "proc",
        "dev",
        "lib",
        "sys/bus",
        "sys/kernel",
        "sys/module",
        "sys/firmware",
    ] {
        symlink(Path::new("/").join(directory), root.path().join(directory)).unwrap();
    }
    for entry in fs::read_dir("/sys/class").unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "dmi" {
            symlink(entry.path(), class.join(entry.file_name())).unwrap();
        }
    }
    let common = jsonpipe::testkit::common("/");
    let devices: Vec<String> = pci::all(&common)
        .unwrap()
        .iter()
        .map(|device| format!("{} {}", device.address, device.id))
        .collect();
    let config = root.path().join("etc/labtools");
    fs::create_dir_all(&config).unwrap();
    fs::write(
        config.join("models.ini"),
        format!("[model.This]\ndevices={}\n", devices.join(",")),
    )
    .unwrap();
    fs::write(config.join("vm-passthrough.ini"), "[qemu]\nuser=64055\n").unwrap();
    root
}

/// The system calls of a check: nothing of sysfs is opened for writing, no file is made, and no
/// program starts but QEMU.
#[test]
fn check_only_reads_the_real_machine() {
    let root = this_machine();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"));
    command.args(["check", "--root"]).arg(root.path());
    let (ended, trace) = traced("%file,execve", &command);
    assert!([0, 1].contains(&ended.status), "{ended:?}");
    for path in ["/proc/meminfo", "/sys/class/iommu", "/sys/class/block"] {
        assert!(trace.contains(path), "{path} is not looked at");
    }
    const CHANGES: [&str; 9] = [
        "O_CREAT", "O_TRUNC", "mkdir", "mknod", "unlink", "rename", "link(", "chmod", "chown",
    ];
    for line in trace.lines() {
        let opens = line.contains("O_WRONLY") || line.contains("O_RDWR");
        assert!(!(opens && line.contains("/sys/")), "{line}");
        let is_qemu = line.contains("qemu"); // it writes its own files
        let changes = CHANGES.iter().any(|word| line.contains(word)) && !line.contains("readlink");
        assert!(is_qemu || !changes, "{line}");
        if line.contains("execve(") {
            assert!(is_qemu || line.contains("vm-passthrough"), "{line}");
        }
    }
}

/// Every word is on the page, so that people and scripts can look it up.
#[test]
fn check_has_every_kind_on_its_page() {
    let page = include_str!("../../../../man/vm-passthrough-check.8");
    let source = include_str!("../../../blockers/src/finding.rs");
    let kinds = source.split("pub enum Kind {").nth(1).unwrap();
    let kinds = kinds.split('}').next().unwrap();
    let mut count = 0;
    for kind in kinds
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
    {
        let mut word = String::new();
        for c in kind.chars() {
            if c.is_uppercase() && !word.is_empty() {
                word.push('_');
            }
            word.push(c.to_ascii_lowercase());
        }
        let is_there = page.lines().any(|line| {
            line.strip_prefix(".It Va ")
                .is_some_and(|words| words.split(" , ").any(|other| other == word))
        });
        assert!(is_there, "{word}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}
