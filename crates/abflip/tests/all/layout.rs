//! `abflip layout` on machines that are directories, whose disks are image files.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsonpipe::testkit::{Ended, feed};
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::{BINARY, make_disk, program};

pub const MIB: u64 = 1 << 20;

/// A document whose partitions fit a disk of 50 MiB, and of 64 MiB more with UEFI.
pub const DOCUMENT: &str = r#"{
"partitioning":{"system_guid":"d15c0000-0000-4000-8000-000000000001","user_guid":"d15c0000-0000-4000-8000-000000000002"},
"partition.root_a":{"size":"8M","partuuid":"aaaaaaaa-0000-4000-8000-000000000001"},
"partition.root_b":{"size":"8M","partuuid":"bbbbbbbb-0000-4000-8000-000000000001"},
"partition.esp_a":{"size":"32M","partuuid":"aaaaaaaa-0000-4000-8000-000000000002","uuid":"AAAA-0002"},
"partition.esp_b":{"size":"32M","partuuid":"bbbbbbbb-0000-4000-8000-000000000002","uuid":"BBBB-0002"},
"partition.persistent":{"size":"8M","partuuid":"cccccccc-0000-4000-8000-000000000003","uuid":"cccccccc-0000-4000-8000-0000000000f3"},
"partition.log":{"size":"8M","partuuid":"cccccccc-0000-4000-8000-000000000004","uuid":"cccccccc-0000-4000-8000-0000000000f4"},
"partition.backing":{"size":"rest","at_least":"8M","partuuid":"cccccccc-0000-4000-8000-000000000005","uuid":"cccccccc-0000-4000-8000-0000000000f5"},
"partition.user":{"size":"rest","at_least":"8M","partuuid":"cccccccc-0000-4000-8000-000000000006","uuid":"cccccccc-0000-4000-8000-0000000000f6"},
"partition.pool":{"size":"rest","at_least":"16M","partuuid":"cccccccc-0000-4000-8000-000000000007"}
}"#;

/// The same with another value of a key.
pub fn with(key: &str, value: impl Into<Value>) -> String {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let (section, key) = key.rsplit_once('.').unwrap();
    document[section][key] = value.into();
    document.to_string()
}

pub fn replacing() -> String {
    with("partitioning.replace", true)
}

/// A machine without a disk.
pub struct Bare(TempDir);

impl Bare {
    pub fn new() -> Bare {
        let machine = Bare(tempfile::tempdir().unwrap());
        for directory in ["sys/block", "dev", "run"] {
            fs::create_dir_all(machine.path(directory)).unwrap();
        }
        machine
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn uefi(self) -> Bare {
        fs::create_dir_all(self.path("sys/firmware/efi")).unwrap();
        self
    }

    /// A blank disk at this port, with sysfs of it.
    pub fn plug(&self, name: &str, port: &str, rotating: bool, bytes: u64) -> PathBuf {
        plug(self.0.path(), name, port, rotating, bytes)
    }

    /// Sets a flag of sysfs.
    pub fn set(&self, name: &str, flag: &str, value: &str) {
        let path = self.path(&format!("sys/block/{name}/{flag}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("layout").args(arguments);
        command.arg("--root").arg(self.0.path());
        command
    }

    pub fn run(&self, arguments: &[&str], document: &str) -> Ended {
        feed(self.command(arguments), document)
    }

    /// A run with a fake mke2fs, a script.
    fn with_mke2fs(&self, script: &str) -> Command {
        let programs = self.path("programs");
        fs::create_dir_all(&programs).unwrap();
        let mke2fs = programs.join("mke2fs");
        fs::write(&mke2fs, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(mke2fs, PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = self.command(&[]);
        let others = "/usr/sbin:/usr/bin:/sbin:/bin";
        command.env("PATH", format!("{}:{others}", programs.display()));
        command
    }

    /// The section of a run that must end with 0.
    pub fn layout(&self, arguments: &[&str], document: &str) -> Value {
        let ended = self.run(arguments, document);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        ended.section("partitioning")
    }
}

pub fn plug(root: &Path, name: &str, port: &str, rotating: bool, bytes: u64) -> PathBuf {
    let place = root.join(format!("sys/devices/{port}/{name}"));
    for directory in ["device", "queue"] {
        fs::create_dir_all(place.join(directory)).unwrap();
    }
    fs::write(place.join("uevent"), format!("MAJOR=8\nDEVNAME={name}\n")).unwrap();
    fs::write(
        place.join("queue/rotational"),
        if rotating { "1\n" } else { "0\n" },
    )
    .unwrap();
    symlink(&place, root.join("sys/block").join(name)).unwrap();
    let disk = root.join("dev").join(name);
    File::create(&disk).unwrap().set_len(bytes).unwrap();
    disk
}

/// The names, disks and numbers of the partitions.
fn places(section: &Value) -> Vec<String> {
    let partitions = section["partitions"].as_array().unwrap();
    partitions
        .iter()
        .map(|of| {
            let name = |key: &str| of[key].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {}",
                name("disk"),
                of["number"],
                name("name"),
                name("mount_point")
            )
        })
        .collect()
}

#[test]
fn ssd_and_hdd_are_partitioned_as_in_figure_24() {
    // Whatever they are called.
    for (ssd, hdd) in [("sdb", "sda"), ("sda", "sdb")] {
        let machine = Bare::new();
        machine.plug(ssd, "ata2", false, 240 * MIB);
        machine.plug(hdd, "ata1", true, 1000 * MIB);
        let foreseen = machine.layout(&["--dry-run"], DOCUMENT);
        assert_eq!(
            places(&foreseen),
            [
                format!("/dev/{ssd} 1 root_a -"),
                format!("/dev/{ssd} 2 root_b -"),
                format!("/dev/{ssd} 3 persistent /persistent"),
                format!("/dev/{ssd} 4 log /var/log"),
                format!("/dev/{ssd} 5 backing /qcow2/backing"),
                format!("/dev/{hdd} 1 user /qcow2/user"),
            ]
        );
        for disk in [ssd, hdd] {
            assert!(is_blank(&machine.path("dev").join(disk)), "a dry run wrote");
        }
        let made = machine.layout(&[], DOCUMENT);
        assert_eq!(made, foreseen);
        assert_eq!(made["changed"], true);
        for disk in [ssd, hdd] {
            judge(&machine.path("dev").join(disk));
        }
    }
}

/// Whether nothing was ever written to the image.
pub fn is_blank(disk: &Path) -> bool {
    fs::metadata(disk).unwrap().blocks() == 0
}

/// The table as sgdisk and sfdisk judge it.
pub fn judge(disk: &Path) {
    let disk = disk.to_str().unwrap();
    let (ok, said) = program("sgdisk", "gdisk", &["-v", disk], "");
    assert!(ok && said.contains("No problems found"), "{said}");
    let (ok, said) = program("sfdisk", "fdisk", &["--verify", disk], "");
    assert!(ok && said.contains("No errors detected"), "{said}");
}

#[test]
fn slots_finds_the_slots_of_every_layout() {
    let ini = Bare::new().run(&["--slots"], DOCUMENT);
    assert_eq!((ini.status, ini.stderr.as_str()), (0, ""), "{ini:?}");
    for machine in [Bare::new(), Bare::new().uefi()] {
        let disk = machine.plug("sda", "ata1", false, 192 * MIB);
        machine.layout(&[], DOCUMENT);
        fs::create_dir_all(machine.path("etc/labtools")).unwrap();
        fs::write(machine.path("etc/labtools/abflip.ini"), &ini.stdout).unwrap();
        let mut status = Command::new(BINARY);
        status.arg("status").arg("--disk").arg(&disk);
        status.arg("--root").arg(machine.path(""));
        let slots = feed(status, "").section("slots");
        assert_eq!(slots["next"], "b", "{slots}");
        for slot in ["a", "b"] {
            let uuid = format!("{}-0000-4000-8000-000000000001", slot.repeat(8));
            assert_eq!(slots[slot]["partuuid"], uuid, "{slots}");
        }
    }
}

#[test]
fn fstab_is_the_same_for_every_layout() {
    let document = DOCUMENT;
    let one = Bare::new();
    one.plug("sda", "ata1", false, 128 * MIB);
    let two = Bare::new().uefi();
    two.plug("sda", "ata1", false, 128 * MIB);
    two.plug("sdb", "ata2", true, 128 * MIB);
    let mut fstabs = Vec::new();
    for machine in [&one, &two, &Bare::new()] {
        let ended = machine.run(&["--fstab"], document);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
        fstabs.push(ended.stdout);
    }
    assert!(fstabs.iter().all(|fstab| *fstab == fstabs[0]));
    let made = [&one, &two].map(|machine| machine.layout(&[], document));
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = fstabs[0]
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(fields)
        .collect();
    for section in made {
        let mounted: Vec<_> = section["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|of| of["mount_point"].is_string())
            .collect();
        assert_eq!(mounted.len(), lines.len());
        for (of, line) in mounted.iter().zip(&lines) {
            assert_eq!(format!("UUID={}", of["uuid"].as_str().unwrap()), line[0]);
            assert_eq!(
                (of["mount_point"].as_str(), of["filesystem"].as_str()),
                (Some(&*line[1]), Some(&*line[2]))
            );
        }
    }
    let options = |place: &str| lines.iter().find(|line| line[1] == place).unwrap()[3].clone();
    assert!(options("/persistent").starts_with("ro,") && options("/var/log").starts_with("rw,"));
    let keeps_booting = |line: &Vec<String>| line[3].split(',').any(|option| option == "nofail");
    assert!(lines.iter().all(keeps_booting), "{}", fstabs[0]);
    // findmnt is a second reader of it.
    let file = one.path("fstab");
    fs::write(&file, &fstabs[0]).unwrap();
    let (_, said) = program(
        "findmnt",
        "mount",
        &[
            "--fstab",
            "--tab-file",
            file.to_str().unwrap(),
            "-rno",
            "SOURCE,TARGET",
        ],
        "",
    );
    assert_eq!(said.lines().count(), lines.len(), "{said}");
}

#[test]
fn disks_that_are_not_the_machines_own_are_left_out() {
    for (what, flag, value) in [
        ("removable", "removable", "1\n"),
        ("removable", "device/type", "SD\n"),
        ("read-only", "ro", "1\n"),
        ("empty", "size", "0\n"),
    ] {
        let machine = Bare::new();
        machine.plug("sda", "ata1", false, 128 * MIB);
        machine.set("sda", flag, value);
        let words = format!("finding a disk to partition: /dev/sda is {what}");
        machine.run(&["--dry-run"], DOCUMENT).refused(78, &words);
        // Another one is still found.
        machine.plug("sdb", "ata2", false, 128 * MIB);
        let section = machine.layout(&["--dry-run"], DOCUMENT);
        assert_eq!(section["disks"][0]["path"], "/dev/sdb");
    }
    let machine = Bare::new();
    // A path to an NVMe disk: one without a name, and one as Linux 6.1 shows it.
    machine.plug("nvme0c0n1", "nvme0", false, 320 * MIB);
    machine.set("nvme0c0n1", "uevent", "DEVTYPE=disk\n");
    machine.plug("nvme0c1n1", "nvme0", false, 320 * MIB);
    machine.set("nvme0c1n1", "hidden", "1\n");
    machine
        .run(&[], DOCUMENT)
        .refused(78, "finding a disk to partition: the machine shows none");
    machine.plug("sda", "pci0000:00/usb2/2-1", false, 128 * MIB);
    machine
        .run(&[], DOCUMENT)
        .refused(78, "finding a disk to partition: /dev/sda is on the USB");
    // A loop device, or a volume, has no hardware.
    let virtual_disk = machine.plug("loop0", "virtual", false, 128 * MIB);
    fs::remove_dir(machine.path("sys/block/loop0/device")).unwrap();
    assert_eq!(machine.run(&[], DOCUMENT).status, 78);
    assert!(is_blank(&virtual_disk));
}

#[test]
fn a_disk_that_is_too_small_is_told_how_many_bytes_are_missing() {
    let machine = Bare::new();
    // The partitions of DOCUMENT, and a MiB for each copy of the table.
    let needed = (2 * 8 + 2 * 8 + 2 * 8 + 2) * MIB;
    let disk = machine.plug("sda", "ata1", false, needed - 512);
    let words = "placing the partitions: /dev/sda is 512 bytes too small";
    machine.run(&[], DOCUMENT).refused(73, words);
    assert!(is_blank(&disk));
    File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(needed)
        .unwrap();
    machine.layout(&[], DOCUMENT);
    judge(&disk);
}

/// Puts something on a disk.
type Put = Box<dyn Fn(&Path)>;

/// Things that a disk may hold, and a word for each.
fn foreign() -> Vec<(&'static str, Put)> {
    let poke = |at: u64, bytes: &'static [u8]| -> Put {
        Box::new(move |disk: &Path| {
            File::options()
                .write(true)
                .open(disk)
                .unwrap()
                .write_all_at(bytes, at)
                .unwrap();
        })
    };
    let gpt = |disk: &Path| {
        make_disk(disk, 512, &crate::machine::bios());
    };
    let ours_and_one_more = |disk: &Path| {
        let machine = Bare::new();
        machine.layout(&["--disk", disk.to_str().unwrap()], DOCUMENT);
        let disk = disk.to_str().unwrap();
        let (ok, said) = program(
            "sgdisk",
            "gdisk",
            &["-d", "6", "-n", "6:0:0", "-c", "6:games", disk],
            "",
        );
        assert!(ok, "{said}");
    };
    vec![
        ("partition 1 (rootA) is not of this layout", Box::new(gpt)),
        (
            "partition 6 (games) is not of this layout",
            Box::new(ours_and_one_more),
        ),
        ("there is something at byte 1080", poke(1080, &[0x53, 0xef])), // ext4
        (
            "there is something at byte 446",
            poke(446, &[0x80, 1, 1, 0, 7]),
        ), // a partition of an MBR
        (
            "there is something at byte 134217727",
            poke(128 * MIB - 1, b"x"),
        ), // a RAID, say
    ]
}

#[test]
fn a_foreign_disk_is_untouched_unless_the_document_gives_it_up() {
    for (what, put) in foreign() {
        let machine = Bare::new();
        let disk = machine.plug("sda", "ata1", false, 128 * MIB);
        put(&disk);
        File::options()
            .write(true)
            .open(&disk)
            .unwrap()
            .set_len(128 * MIB)
            .unwrap();
        let before = fs::read(&disk).unwrap();
        for arguments in [&["--dry-run"][..], &[]] {
            let ended = machine.run(arguments, DOCUMENT);
            assert_eq!(ended.status, 1, "{ended:?}");
            let section = ended.section("partitioning");
            let reason = section["reason"].as_str().unwrap();
            assert!(
                reason.contains("/dev/sda") && reason.contains(what),
                "{reason}"
            );
            assert!(ended.stderr.contains(reason), "{ended:?}");
            assert_eq!(
                (&section["changed"], &section["disks"][0]["held"]),
                (&false.into(), &"foreign".into())
            );
            assert!(
                fs::read(&disk).unwrap() == before,
                "{what}: a refused disk was written to"
            );
        }
        let foreseen = machine.layout(&["--dry-run"], &replacing());
        assert!(fs::read(&disk).unwrap() == before);
        assert_eq!(machine.layout(&[], &replacing()), foreseen);
        judge(&disk);
        // It is a layout's from now on.
        assert_eq!(
            machine.layout(&["--dry-run"], DOCUMENT)["disks"][0]["held"],
            "layout"
        );
    }
}

#[test]
fn one_foreign_disk_of_two_keeps_both() {
    let machine = Bare::new();
    let ssd = machine.plug("sda", "ata1", false, 128 * MIB);
    let hdd = machine.plug("sdb", "ata2", true, 128 * MIB);
    File::options()
        .write(true)
        .open(&hdd)
        .unwrap()
        .write_all_at(b"x", 0)
        .unwrap();
    let ended = machine.run(&[], DOCUMENT);
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("refusing to partition /dev/sdb"),
        "{ended:?}"
    );
    assert!(is_blank(&ssd));
}

#[test]
fn what_a_partition_held_before_is_gone() {
    // An earlier root at the place of a root, to which layout brings no file system.
    let machine = Bare::new();
    let disk = machine.plug("sda", "ata1", false, 128 * MIB);
    let file = File::options().write(true).open(&disk).unwrap();
    for at in [MIB + 1080, 9 * MIB - 4096, 9 * MIB, 17 * MIB - 1] {
        file.write_all_at(b"\x53\xef", at).unwrap();
    }
    machine.layout(&[], DOCUMENT);
    let bytes = fs::read(&disk).unwrap();
    let roots = MIB as usize..17 * MIB as usize;
    assert!(bytes[roots].iter().all(|byte| *byte == 0));
}

#[test]
fn first_image_goes_to_slot_a_and_only_a_flip_makes_it_boot() {
    for (machine, firmware) in [(Bare::new(), "bios"), (Bare::new().uefi(), "uefi")] {
        let disk = machine.plug("sda", "ata1", false, 128 * MIB);
        machine.layout(&[], DOCUMENT);
        assert_eq!(
            &fs::read(&disk).unwrap()[..446],
            [0; 446],
            "it has boot code"
        );
        fs::create_dir_all(machine.path("etc/labtools")).unwrap();
        let esps = "esp_a=aaaaaaaa-0000-4000-8000-000000000002\nesp_b=bbbbbbbb-0000-4000-8000-000000000002\n";
        let ini = format!(
            "[slots]\nfirmware={firmware}\na=aaaaaaaa-0000-4000-8000-000000000001\nb=bbbbbbbb-0000-4000-8000-000000000001\n{}",
            if firmware == "uefi" { esps } else { "" }
        );
        fs::write(machine.path("etc/labtools/abflip.ini"), ini).unwrap();
        let mut status = Command::new(BINARY);
        status
            .args(["status", "--disk", disk.to_str().unwrap(), "--root"])
            .arg(machine.path(""));
        let ended = feed(status, "");
        assert_eq!(ended.status, 0, "{ended:?}");
        let slots = ended.section("slots");
        assert_eq!(
            (
                &slots["next"],
                &slots["a"]["partition"],
                &slots["b"]["partition"]
            ),
            (&"b".into(), &1.into(), &2.into())
        );
        assert_eq!(slots["table"]["agree"], true);
    }
}

#[test]
fn a_pool_has_a_partition_and_no_file_system() {
    let machine = Bare::new();
    machine.plug("sda", "ata1", false, 128 * MIB);
    machine.plug("sdb", "ata2", true, 128 * MIB);
    let document = with("partitioning.store", "zfs");
    let section = machine.layout(&[], &document);
    assert_eq!(section["disks"].as_array().unwrap().len(), 1);
    let pool = &section["partitions"][4];
    assert_eq!(
        (&pool["name"], &pool["filesystem"]),
        (&"pool".into(), &Value::Null)
    );
    let (_, said) = program(
        "sgdisk",
        "gdisk",
        &["-i", "5", machine.path("dev/sda").to_str().unwrap()],
        "",
    );
    assert!(
        said.contains("6A898CC3-1DD2-11B2-99A6-080020736631"),
        "{said}"
    );
    let fstab = machine.run(&["--fstab"], &document).stdout;
    assert!(
        fstab.contains("/persistent") && !fstab.contains("/qcow2"),
        "{fstab}"
    );
}

#[test]
fn impossible_values_are_refused_before_a_disk_is_looked_at() {
    let machine = Bare::new(); // without a disk: 78, otherwise
    let a = "aaaaaaaa-0000-4000-8000-000000000001";
    let size = "expected a size such as 512M, 4G or 1T, or rest";
    for (key, value, words) in [
        ("partition.root_a.size", "32", size),
        ("partition.root_a.size", "-32M", size),
        ("partition.root_a.size", "32m", size),
        ("partition.root_a.size", "99999999999999999999T", size),
        ("partition.root_a.size", "65537T", size),
        (
            "partition.root_a.size",
            "rest",
            "missing; size=rest needs it",
        ),
        ("partition.root_a.at_least", "32M", "only with size=rest"),
        ("partition.root_b.size", "33M", "not that of root_a"),
        (
            "partition.root_a.uuid",
            a,
            "none; layout makes no file system there",
        ),
        (
            "partition.root_a.partuuid",
            "$(reboot)",
            "UUID parsing failed",
        ),
        ("partition.log.size", "7M", "less than 8M"),
        ("partition.esp_b.size", "31M", "less than 32M"),
        (
            "partition.esp_b.uuid",
            "bbbb-0002",
            "expected a volume ID such as 1234-ABCD",
        ),
        (
            "partition.esp_b.uuid",
            "AAAA-0002",
            "that of partition.esp_a.uuid",
        ),
        ("partition.log.uuid", "-t btrfs", "expected a UUID"),
        (
            "partition.log.uuid",
            "00000000-0000-0000-0000-000000000000",
            "all zeros",
        ),
        (
            "partition.log.partuuid",
            a,
            "that of partition.root_a.partuuid",
        ),
        (
            "partitioning.user_guid",
            a,
            "that of partitioning.user_guid",
        ),
        ("partitioning.store", "btrfs", "expected one of qcow2, zfs"),
        ("partitioning.replace", "perhaps", "expected true or false"),
    ] {
        let ended = machine.run(&[], &with(key, value));
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (65, ""),
            "{key}: {ended:?}"
        );
        assert!(ended.stderr.contains(words), "{key}={value}: {ended:?}");
    }
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap();
    document.as_object_mut().unwrap().remove("partition.user");
    machine
        .run(&[], &document.to_string())
        .refused(65, "partition.user: missing");
}

#[test]
fn a_missing_program_is_named_before_anything_is_written() {
    let machine = Bare::new();
    let disk = machine.plug("sda", "ata1", false, 128 * MIB);
    let mut command = machine.command(&[]);
    command.env("PATH", "/nowhere");
    feed(command, DOCUMENT).refused(69, "starting mke2fs: no such program; install e2fsprogs");
    assert!(is_blank(&disk));
}

/// A fake mke2fs: the real one does not fail on a disk that works.
#[test]
fn a_file_system_that_cannot_be_made_is_told_and_the_next_run_makes_it() {
    let machine = Bare::new();
    machine.plug("sda", "ata1", false, 128 * MIB);
    let script = "[ \"$1\" = -V ] || { echo no luck >&2; exit 3; }";
    let command = machine.with_mke2fs(script);
    let ended = feed(command, DOCUMENT);
    assert_eq!(ended.status, 1, "{ended:?}");
    let section = ended.section("partitioning");
    let reason = section["reason"].as_str().unwrap();
    assert!(
        reason.contains("partition persistent of ") && reason.contains("no luck"),
        "{reason}"
    );
    assert_eq!(section["changed"], true);
    assert_eq!(machine.layout(&[], DOCUMENT)["disks"][0]["held"], "layout");
}

/// A fake mke2fs, which is at work when its abflip is killed.
#[test]
fn a_program_that_outlives_its_run_ends_before_the_next_begins() {
    let machine = Bare::new();
    machine.plug("sda", "ata1", false, 128 * MIB);
    let (log, gate) = (machine.path("log"), machine.path("gate"));
    for path in [&log, &gate] {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    // Open for both, so that no open waits.
    let open = |path| File::options().read(true).write(true).open(path).unwrap();
    let (mut log_file, mut gate_file) = (BufReader::new(open(&log)), open(&gate));
    let script = format!(
        "[ \"$1\" = -V ] && exit; echo begins >'{}'; read -r line <'{}'; echo ends >'{0}'",
        log.display(),
        gate.display()
    );
    let mut said = || {
        let mut line = String::new();
        log_file.read_line(&mut line).unwrap();
        line
    };
    let document = machine.path("document");
    fs::write(&document, DOCUMENT).unwrap();
    let start = || {
        let mut command = machine.with_mke2fs(&script);
        command.stdin(File::open(&document).unwrap());
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut first = start();
    assert_eq!(said(), "begins\n");
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = start();
    // Until it waits for the lock; it would poll the output of a mke2fs.
    let is_in = |call: i64| {
        let path = format!("/proc/{}/syscall", second.id());
        let now = fs::read_to_string(path).unwrap_or_default();
        assert!(!now.is_empty(), "it has ended");
        now.starts_with(&format!("{call} "))
    };
    while !is_in(nix::libc::SYS_flock) {
        assert!(!is_in(nix::libc::SYS_poll), "it does not wait");
    }
    gate_file.write_all(b"\n").unwrap();
    assert_eq!(said(), "ends\n");
    for _ in 0..4 {
        assert_eq!(said(), "begins\n");
        gate_file.write_all(b"\n").unwrap();
        assert_eq!(said(), "ends\n");
    }
    assert!(second.wait().unwrap().success());
}
