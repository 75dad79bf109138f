//! The changes of an overlay that QEMU wrote, put into another overlay, with qemu-img as the judge;
//! and tables that QEMU would not write.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jsonpipe::Exit;
use qcow2::{CLUSTER_BYTES, Extent, Fill, Follow, Image, blank_overlay, full_bytes};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn qemu(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}, from the package qemu-utils, is needed by this test: {error}")
        });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && !said.contains("failed"),
        "{program} {arguments:?}: {said}{output:?}"
    );
    said
}

/// A base with some data, and an overlay of ours on it, into which qemu-io wrote.
fn overlay(disk: &str, commands: &[&str]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    qemu(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "base", disk],
        at,
    );
    qemu("qemu-io", &["-c", "write -q -P 0x55 0 3M", "base"], at);
    let base = Image::open(&at.join("base"), Follow::Nothing).unwrap();
    let path = at.join("overlay");
    let layout = blank_overlay(base.header.virtual_bytes, "base", b"{}");
    layout.write_to(&File::create(&path).unwrap()).unwrap();
    let mut arguments = vec!["-f", "qcow2", "overlay"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    qemu("qemu-io", &arguments, at);
    (directory, path)
}

fn changes(path: &Path) -> anyhow::Result<Vec<Extent>> {
    let mut found = Vec::new();
    Image::open(path, Follow::Nothing)?.for_each_change(|extent| {
        found.push(extent);
        Ok(())
    })?;
    Ok(found)
}

/// Puts the changes of an overlay into a new one; its path.
fn filled(directory: &Path, from: &Path) -> PathBuf {
    let image = Image::open(from, Follow::Nothing).unwrap();
    let path = directory.join("filled");
    let file = File::create_new(&path).unwrap();
    let layout = blank_overlay(image.header.virtual_bytes, "base", b"{}");
    layout.write_to(&file).unwrap();
    let mut fill = Fill::new(&file, &layout, image.header.virtual_bytes);
    for Extent {
        offset,
        bytes,
        place,
    } in changes(from).unwrap()
    {
        match place {
            None => fill.zeros(offset, bytes).unwrap(),
            Some(place) => {
                let mut content = vec![0; bytes as usize];
                image.read_content(place, &mut content).unwrap();
                fill.data(offset, &content).unwrap();
            }
        }
    }
    fill.finish().unwrap();
    path
}

#[test]
fn what_qemu_wrote_is_found_and_written_again() {
    // Two L2 tables, zeros with and without a cluster, and a disk that ends within a cluster.
    let (directory, path) = overlay(
        "1050112K",
        &[
            "write -q -P 0x11 100k 5k",
            "write -q -P 0x22 1M 2M",
            "write -q -z 2M 64k",
            "write -q -z -u 30M 10M",
            "write -q -P 0x33 511M 2M",
            "write -q -P 0x44 1050000k 112k",
        ],
    );
    let found = changes(&path).unwrap();
    let of_data: u64 = found
        .iter()
        .filter(|of| of.place.is_some())
        .map(|of| of.bytes)
        .sum();
    let of_zeros: u64 = found
        .iter()
        .filter(|of| of.place.is_none())
        .map(|of| of.bytes)
        .sum();
    assert_eq!(of_zeros, 10 * MIB + CLUSTER_BYTES);
    // 100 to 105 KiB lie in one cluster, and the last 112 KiB touch the last three.
    let last = 1_050_112 * 1024 - 1_050_000 * 1024 / CLUSTER_BYTES * CLUSTER_BYTES;
    assert_eq!(of_data, 4 * MIB + last, "{found:?}");
    assert_eq!(found.last().unwrap().offset % CLUSTER_BYTES, 0);

    let again = filled(directory.path(), &path);
    qemu("qemu-img", &["check", "-q", "filled"], directory.path());
    qemu(
        "qemu-img",
        &["compare", "-q", "overlay", "filled"],
        directory.path(),
    );
    let image = Image::open(&again, Follow::Nothing).unwrap();
    assert!(image.header.is_laid_out_as_ours());
    // QEMU goes on with it.
    let read_back = [
        "-c",
        "write -q -P 0x66 600M 1M",
        "-c",
        "read -q -P 0x33 511M 2M",
        "filled",
    ];
    qemu("qemu-io", &read_back, directory.path());
    qemu("qemu-img", &["check", "-q", "filled"], directory.path());
}

#[test]
fn a_full_disk_takes_the_room_of_full_bytes_and_a_blank_one_none() {
    // Over 2 GiB there is a second refcount block.
    for disk in [512, 3 * MIB, 512 * MIB, 2049 * MIB] {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("filled")).unwrap();
        let layout = blank_overlay(disk, "base", b"{}");
        layout.write_to(&file).unwrap();
        let mut fill = Fill::new(&file, &layout, disk);
        for offset in (0..disk).step_by(MIB as usize) {
            fill.data(offset, &vec![7; (disk - offset).min(MIB) as usize])
                .unwrap();
        }
        fill.finish().unwrap();
        assert_eq!(file.metadata().unwrap().len(), full_bytes(disk));
        let base = ["create", "-q", "-f", "qcow2", "base", &disk.to_string()];
        qemu("qemu-img", &base, directory.path());
        qemu("qemu-img", &["check", "-q", "filled"], directory.path());
    }
    let (directory, path) = overlay("8M", &["length"]);
    assert_eq!(changes(&path).unwrap(), []);
    let again = filled(directory.path(), &path);
    assert_eq!(std::fs::read(again).unwrap(), std::fs::read(path).unwrap());
}

#[test]
fn a_fill_goes_forward_and_stays_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("filled")).unwrap();
    let layout = blank_overlay(MIB, "base", b"{}");
    layout.write_to(&file).unwrap();
    let mut fill = Fill::new(&file, &layout, MIB);
    fill.data(2 * CLUSTER_BYTES, b"x").unwrap();
    for offset in [0, 2 * CLUSTER_BYTES, 512, 512 * MIB] {
        assert!(fill.data(offset, b"x").is_err(), "{offset}");
        assert!(fill.zeros(offset, 1).is_err(), "{offset}");
    }
}

#[test]
fn tables_that_qemu_would_not_write_are_refused() {
    let (_directory, path) = overlay("1G", &["write -q -P 0x11 64k 64k"]);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let copied = 1 << 63;
    let table = number(3 * CLUSTER_BYTES) & !copied;
    let (at, entry) = (table + 8, number(table + 8));
    let end = file
        .metadata()
        .unwrap()
        .len()
        .next_multiple_of(CLUSTER_BYTES);
    for (bad, message) in [
        (entry | 1 << 62, "compressed clusters"),
        (entry | 1 << 56, "the L2 entry of 0x10000 is"),
        (entry | 2, "the L2 entry of 0x10000 is"),
        (entry + 512, "the L2 entry of 0x10000 is"),
        (end | copied, "the L2 entry of 0x10000 is"),
        (u64::MAX, "compressed clusters"),
        (0x00ff_ffff_ffff_0000, "the L2 entry of 0x10000 is"),
    ] {
        file.write_all_at(&bad.to_be_bytes(), at).unwrap();
        let error = changes(&path).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Data);
        assert!(error.to_string().contains(message), "{bad:#x}: {error}");
    }
    // The same cluster for all of the table is odd, and bounded by the disk.
    file.write_all_at(&entry.to_be_bytes().repeat(8192), table)
        .unwrap();
    let all: u64 = changes(&path)
        .unwrap()
        .iter()
        .map(|extent| extent.bytes)
        .sum();
    assert_eq!(all, 512 * MIB);
}
