//! Changed headers of images that qemu-img made: each is read or refused (65), within the bounds of the file.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use jsonpipe::Exit;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use qcow2::{Follow, Image, blank_overlay};

/// The options of `qemu-img create` of images that differ in their headers.
const KINDS: [&[&str]; 6] = [
    &["-o", "compat=0.10"],
    &["-o", "compat=1.1,lazy_refcounts=on,refcount_bits=1"],
    &["-o", "compression_type=zstd,cluster_size=4k"],
    &["-o", "extended_l2=on,cluster_size=128k"],
    &["-u", "-b", "../../backing/windows/7.qcow2", "-F", "qcow2"],
    &["-o", "data_file=elsewhere.raw"],
];

fn make(directory: &Path, number: usize, options: &[&str]) -> Vec<u8> {
    let path = directory.join(number.to_string());
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2"]).args(options);
    let made = create.current_dir(directory).arg(&path).arg("64M").status();
    assert!(
        made.expect("qemu-img, from qemu-utils, is needed")
            .success()
    );
    fs::read(path).unwrap()
}

fn ours() -> Vec<u8> {
    let layout = blank_overlay(
        64 << 20,
        "../../backing/windows/7.qcow2",
        br#"{"schema":2}"#,
    );
    let mut bytes = vec![0; layout.length as usize];
    for (offset, piece) in layout.pieces {
        bytes[offset as usize..][..piece.len()].copy_from_slice(&piece);
    }
    bytes
}

/// A change of one to eight bytes to a number as a header has them, or of any of its bits.
fn change() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(1 << 63),
        Just(u64::from(u32::MAX)),
        Just(0x1_0000),
        Just(64 << 20),
        any::<u64>(),
    ];
    // The header, and the extensions and names after it.
    let place = prop_oneof![0..112usize, 0..700usize];
    (place, numbers, 1..=8usize)
        .prop_map(|(at, number, length)| (at, number.to_be_bytes()[8 - length..].to_vec()))
}

#[test]
fn any_change_of_a_header_is_read_or_refused() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut images: Vec<Vec<u8>> = (0..)
        .zip(KINDS)
        .map(|(number, options)| make(directory.path(), number, options))
        .collect();
    images.push(ours());
    for (number, good) in images.iter().enumerate() {
        let path = directory.path().join("changed");
        fs::write(&path, good).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let (read, refused) = (Cell::new(0), Cell::new(0));
        let config = Config {
            cases: 400,
            rng_seed: RngSeed::Fixed(number as u64),
            failure_persistence: None,
            ..Config::default()
        };
        let changes = proptest::collection::vec(change(), 1..5);
        let checked = TestRunner::new(config).run(&changes, |changes| {
            let mut start = good[..4096].to_vec();
            for (at, bytes) in &changes {
                start[*at..*at + bytes.len()].copy_from_slice(bytes);
            }
            file.write_all_at(&start, 0).unwrap();
            match Image::open(&path, Follow::Nothing) {
                Ok(image) => {
                    read.set(read.get() + 1);
                    prop_assert!(image.tables_digest().is_ok());
                    let _ = image.check_is_base();
                }
                Err(error) => {
                    refused.set(refused.get() + 1);
                    prop_assert_eq!(Exit::of(&error), Exit::Data, "{:#}", error);
                }
            }
            Ok(())
        });
        checked.unwrap();
        assert!(
            refused.get() > 100,
            "image {number}: {read:?} read, {refused:?} refused"
        );
    }
}

#[test]
fn tables_are_digested_once() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), 0, &[]);
    let path = directory.path().join("0");
    let image = Image::open(&path, Follow::Nothing).unwrap();
    let digest = image.tables_digest().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(image.tables_digest().unwrap(), digest);
}
