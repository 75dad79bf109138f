//! `abflip layout` on block devices, and killed at any of its calls that change a disk.
//!
//! `LABTOOLS_SABOTAGE=header-last`, in a debug build, writes the header of the table last. Then
//! `killed_at_any_change_it_does_the_whole_again` must fail.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsonpipe::testkit::Ended;
use jsonpipe::testkit::stepped::Stepped;
use nix::libc::{self, O_EXCL, c_long};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::Loop;
use crate::layout::{Bare, DOCUMENT, MIB, is_blank, judge, replacing};
use crate::machine::{BINARY, bios, make_disk, program};

/// A loop device in the place of a machine's disk.
fn attach(machine: &Bare, name: &str, port: &str, rotating: bool, sector: u64) -> (Loop, PathBuf) {
    let path = machine.plug(name, port, rotating, 128 * MIB);
    let image = machine.path(name);
    fs::rename(&path, &image).unwrap();
    let device = Loop::of_image(&image, sector);
    symlink(&device.0, &path).unwrap();
    (device, image)
}

#[test]
fn on_block_devices_others_read_what_the_document_says() {
    for sector in [512, 4096] {
        let machine = Bare::new().uefi();
        let disks = [
            attach(&machine, "sda", "ata1", true, sector),
            attach(&machine, "sdb", "ata2", false, sector),
        ];
        let section = machine.layout(&[], DOCUMENT);
        let path = |of: &Value| of["path"].as_str().unwrap().to_owned();
        let used: Vec<_> = section["disks"]
            .as_array()
            .unwrap()
            .iter()
            .map(path)
            .collect();
        assert_eq!(used, ["/dev/sdb", "/dev/sda"]);
        assert_eq!(section["disks"][0]["sector_bytes"], sector);
        for (device, _) in &disks {
            judge(Path::new(&device.0));
        }
        for partition in section["partitions"].as_array().unwrap() {
            let (device, image) = &disks[usize::from(partition["disk"] == "/dev/sdb")];
            check_partition(&machine, partition, &device.0, image, sector);
        }
        // Again, and it is the same.
        let again = machine.layout(&[], DOCUMENT);
        assert_eq!(again["partitions"], section["partitions"]);
    }
}

/// A partition as libblkid and its own fsck read it.
fn check_partition(machine: &Bare, of: &Value, device: &str, image: &Path, sector: u64) {
    let name = of["name"].as_str().unwrap();
    let start = of["first_sector"].as_u64().unwrap() * sector;
    let size = of["size_bytes"].as_u64().unwrap();
    let (_, told) = program(
        "partx",
        "util-linux",
        &["--pairs", "-o", "NR,NAME,UUID", device],
        "",
    );
    assert!(
        told.contains(&format!(
            "NR=\"{}\" NAME=\"{name}\" UUID={}",
            of["number"], of["partuuid"]
        )),
        "{told}"
    );
    let bounds = ["-O", &start.to_string(), "-S", &size.to_string()];
    let (_, told) = program(
        "blkid",
        "util-linux",
        &[&["-p", "-o", "export"], &bounds[..], &[device]].concat(),
        "",
    );
    let Some(filesystem) = of["filesystem"].as_str() else {
        assert!(!told.contains("TYPE="), "{name}: {told}");
        return;
    };
    for (key, value) in [("TYPE", filesystem), ("UUID", of["uuid"].as_str().unwrap())] {
        assert!(
            told.lines().any(|line| line == format!("{key}={value}")),
            "{name}: {told}"
        );
    }
    let mut bytes = vec![0; size as usize];
    File::open(image)
        .unwrap()
        .read_exact_at(&mut bytes, start)
        .unwrap();
    let copy = machine.path("partition");
    fs::write(&copy, bytes).unwrap();
    let copy = copy.to_str().unwrap();
    let (ok, said) = match filesystem {
        "ext4" => program("e2fsck", "e2fsprogs", &["-fn", copy], ""),
        _ => program("fsck.fat", "dosfstools", &["-n", copy], ""),
    };
    assert!(ok, "{name}: {said}");
}

#[test]
fn a_disk_in_use_is_left_alone() {
    let machine = Bare::new();
    let (device, _) = attach(&machine, "sda", "ata1", false, 512);
    // As a mount of a partition does, or swap, or a volume.
    let claim = OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(&device.0)
        .unwrap();
    machine
        .run(&[], DOCUMENT)
        .refused(78, "finding a disk to partition: /dev/sda is in use");
    let named = machine.run(&["--disk", &device.0], DOCUMENT);
    named.refused(
        75,
        &format!("refusing to partition {}: it is in use", device.0),
    );
    drop(claim);
    machine.layout(&[], DOCUMENT);
}

#[test]
fn a_partition_is_no_disk() {
    let machine = Bare::new();
    symlink("/sys/dev", machine.path("sys/dev")).unwrap();
    let (device, image) = attach(&machine, "sda", "ata1", false, 512);
    // A loop device keeps partitions when it is detached.
    let delete = || program("delpart", "util-linux", &[&device.0, "1"], "");
    delete();
    let bounds = ["1", "2048", "200000"];
    let (ok, said) = program(
        "addpart",
        "util-linux",
        &[&[&*device.0], &bounds[..]].concat(),
        "",
    );
    assert!(ok, "{said}");
    let partition = format!("{}p1", device.0);
    let refused = machine.run(&["--disk", &partition], DOCUMENT);
    delete();
    let words = format!("refusing to partition {partition}: it is a partition");
    refused.refused(65, &words);
    assert!(is_blank(&image));
}

#[test]
fn a_foreign_file_system_on_a_block_device_is_untouched() {
    let machine = Bare::new();
    let (device, image) = attach(&machine, "sda", "ata1", false, 512);
    let (ok, said) = program("mke2fs", "e2fsprogs", &["-q", "-F", &device.0], "");
    assert!(ok, "{said}");
    File::open(&device.0).unwrap().sync_all().unwrap();
    let before = fs::read(&image).unwrap();
    assert_eq!(machine.run(&[], DOCUMENT).status, 1);
    assert!(fs::read(&image).unwrap() == before);
}

/// The disks are a SATA one that rotates, and an NVMe one.
#[test]
fn a_real_kernel_tells_the_disks_apart_and_finds_the_partitions() {
    let script = format!(
        "PATH=/bin; busybox printf %s '{}' >/run/document; \
         abflip layout </run/document && \
         busybox mount -t ext4 /dev/sda1 /tmp && busybox ls -d /tmp/lost+found && \
         abflip layout --dry-run </run/document",
        DOCUMENT.replace('\n', " ")
    );
    let hardware = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/lab/hardware");
    let ended = Command::new(hardware)
        .args([
            "--with",
            BINARY,
            "--with",
            "/sbin/mke2fs",
            "/bin/dash",
            "-c",
            &script,
        ])
        .output()
        .map(Ended::of)
        .unwrap();
    assert_eq!(ended.status, 0, "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let section = |line: &str| serde_json::from_str::<Value>(line).unwrap()["partitioning"].take();
    let made = section(lines[0]);
    let device = |of: &Value| of["device"].as_str().unwrap().to_owned();
    let devices: Vec<_> = made["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(device)
        .collect();
    assert_eq!(
        devices,
        [1, 2, 3, 4, 5]
            .map(|number| format!("/dev/nvme0n1p{number}"))
            .into_iter()
            .chain(["/dev/sda1".to_owned()])
            .collect::<Vec<_>>()
    );
    assert_eq!(lines[1], "/tmp/lost+found");
    // The other one is mounted now.
    let foreseen = section(lines[2]);
    assert_eq!(foreseen["disks"].as_array().unwrap().len(), 1, "{foreseen}");
    assert_eq!(foreseen["disks"][0]["path"], "/dev/nvme0n1");
    assert_eq!(foreseen["disks"][0]["held"], "layout");
}

/// Calls that can change a disk, or start a program that does.
const CHANGES: [c_long; 6] = [
    libc::SYS_pwritev2,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_vfork,
];

/// What is on both ends of a disk, where its table is.
fn ends(disk: &Path) -> (Vec<u8>, Vec<u8>) {
    let file = File::open(disk).unwrap();
    let read = |at| {
        let mut bytes = vec![0; MIB as usize];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    (read(0), read(127 * MIB))
}

#[test]
fn killed_at_any_change_it_does_the_whole_again() {
    let machine = Bare::new();
    let disk = machine.plug("sda", "ata1", false, 128 * MIB);
    let input = machine.path("input");
    fs::write(&input, replacing()).unwrap();
    // Another's table, whose backup is elsewhere: no part of it may be taken for ours, or remain.
    let spoil = || {
        fs::remove_file(&disk).unwrap();
        make_disk(&disk, 512, &bios());
        File::options()
            .write(true)
            .open(&disk)
            .unwrap()
            .set_len(128 * MIB)
            .unwrap();
    };
    spoil();
    let foreign = ends(&disk);
    let made = machine.layout(&[], &replacing());
    let whole = ends(&disk);
    let mut killed = 0;
    loop {
        spoil();
        let mut command = machine.command(&[]);
        command
            .stdin(File::open(&input).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !killed_before(Stepped::start(&mut command), killed) {
            break;
        }
        // Without replace=true it goes on as soon as anything was written.
        let ended = machine.run(&[], DOCUMENT);
        if ended.status == 1 {
            assert!(
                ends(&disk) == foreign,
                "it is not known for ours after a kill, change {killed}"
            );
        } else {
            let section = ended.section("partitioning");
            assert_eq!(section["partitions"], made["partitions"], "change {killed}");
            assert!(ends(&disk) == whole, "change {killed}");
        }
        killed += 1;
    }
    assert!(killed > 20, "{killed} changes");
    assert!(ends(&disk) == whole);
}

/// Kills it before its `nth` change, from 0; returns false when it made fewer.
fn killed_before(mut run: Stepped, nth: u32) -> bool {
    let mut left = nth;
    loop {
        if CHANGES.contains(&run.next_call().number) {
            if left == 0 {
                run.end_by(Signal::SIGKILL);
                return true;
            }
            left -= 1;
        }
        if !run.steps(1) {
            return false;
        }
    }
}
