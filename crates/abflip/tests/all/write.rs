//! `abflip write` on the image of a disk: what arrives, what is refused, and what is left of what
//! was cut off.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use manifest::Description;

use crate::machine;
use crate::update::{self, B, B_AT, Content, Image, MIB, Machine, SLOT_BYTES, ended, sign};

/// Larger than two pieces, and no whole number of anything.
const ODD_BYTES: u64 = 9 * MIB + 12_345;

fn is_complete(machine: &Machine, before: &Content, image: &Image) {
    let after = machine.content();
    assert!(after.is_same_outside(before));
    assert!(after.slot_b()[..image.bytes.len()] == image.in_slot_b());
    assert_eq!(machine.recorded("b"), Some(image.host.version));
    let status = machine.run(&["status", "--digest"]);
    assert_eq!(
        (status.status, &status.section("slots")["b"]["intact"]),
        (0, &true.into()),
        "{status:?}"
    );
}

/// Nothing that could be booted, and no record.
fn is_cleared(machine: &Machine, before: &Content) {
    let after = machine.content();
    assert!(after.is_same_outside(before));
    assert!(after.slot_b()[..MIB as usize].iter().all(|byte| *byte == 0));
    assert_eq!(machine.recorded("b"), None);
    assert!(
        machine
            .run(&["flip", "--active", "b"])
            .stderr
            .contains("no verified write of slot b is recorded")
    );
}

#[test]
fn an_image_of_any_length_arrives_raw_and_compressed() {
    for size_bytes in [8192, MIB - 1, MIB, MIB + 1, 4 * MIB, ODD_BYTES, SLOT_BYTES] {
        let image = Image::new(size_bytes);
        for bytes in [image.bytes.clone(), image.compressed()] {
            let machine = Machine::new();
            let before = machine.content();
            let from = machine.file("image", &bytes);
            let ended = machine.write(&image, &from, &[]);
            assert_eq!(
                (ended.status, ended.stderr.as_str()),
                (0, ""),
                "{size_bytes}"
            );
            let slots = ended.section("slots");
            assert_eq!(slots["changed"], true);
            assert_eq!(slots["b"]["version"], 8);
            assert_eq!(slots["b"]["sha256"], image.host.sha256.to_string());
            assert_eq!(slots["next"], "a");
            is_complete(&machine, &before, &image);
            if size_bytes > MIB {
                let after = machine.content();
                let rest = &after.slot_b()[(size_bytes as usize).next_multiple_of(4096)..];
                assert!(
                    rest.iter().all(|byte| *byte == b'b'),
                    "{size_bytes}: what lies behind the image"
                );
            }
        }
    }
}

#[test]
fn frames_that_hold_nothing_are_passed_over() {
    // As pzstd begins, and as what can be read from anywhere ends (RFC 8878, section 3.1.2).
    let skippable =
        |kind: u8| [&[0x50 | kind, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"table"].concat();
    let image = Image::new(ODD_BYTES);
    let (half, rest) = image.bytes.split_at(5 * MIB as usize);
    let frame = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let pzstd = [skippable(0), frame(half), skippable(0), frame(rest)].concat();
    let seekable = [frame(half), frame(rest), skippable(14)].concat();
    for bytes in [pzstd, seekable] {
        let machine = Machine::new();
        let before = machine.content();
        let ended = machine.write(&image, &machine.file("image", &bytes), &[]);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
        is_complete(&machine, &before, &image);
    }
    // Nothing else in it; and what others compress.
    let machine = Machine::new();
    assert_eq!(
        machine
            .write(&image, &machine.file("image", &image.bytes), &[])
            .status,
        0
    );
    let before = machine.content();
    for (bytes, words) in [
        (skippable(3), "decompressing "),
        (
            b"\x1f\x8b\x08\0".to_vec(),
            "it is compressed by gzip; compress it with zstd",
        ),
        (b"\xfd7zXZ\0".to_vec(), "it is compressed by xz"),
        (b"BZh9".to_vec(), "it is compressed by bzip2"),
        (b"\x04\x22\x4d\x18".to_vec(), "it is compressed by lz4"),
    ] {
        let ended = machine.write(&image.version(9), &machine.file("other", &bytes), &[]);
        assert_eq!(
            (ended.status, ended.stdout.is_empty()),
            (65, true),
            "{words}: {ended:?}"
        );
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        assert!(
            machine.content() == before && machine.recorded("b") == Some(8),
            "{words}"
        );
    }
}

#[test]
fn secrets_of_a_url_stay_hidden() {
    let (machine, image) = (Machine::new(), Image::new(8192));
    for (from, status) in [
        ("https://user:SECRET@127.0.0.1:1/i.zst?token=SECRET", 69),
        ("https://user:SECRET@127.0.0.1:1?SECRET#SECRET", 69),
        ("https://user:SECRET@", 69),
        ("https://user:SECRET@127.0.0.1:x/", 69),
        ("https://user:SECRET@127.0.0.1/ /", 69),
        ("http://user:SECRET@127.0.0.1:1/i.zst?token=SECRET", 2),
        ("https:/user:SECRET@", 2),
    ] {
        let ended = machine.write(&image, from, &["-v"]);
        assert_eq!(ended.status, status, "{ended:?}");
        assert!(
            !ended.stderr.contains("SECRET")
                && ended.stderr.contains("127.0.0.1") | from.ends_with('@'),
            "{ended:?}"
        );
    }
}

#[test]
fn it_comes_through_a_fifo_and_a_descriptor() {
    let image = Image::new(ODD_BYTES);
    let machine = Machine::new();
    let before = machine.content();
    let fifo = machine.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (compressed, path) = (image.compressed(), fifo.clone());
    let feeding = thread::spawn(move || fs::write(path, compressed).unwrap());
    assert_eq!(machine.write(&image, fifo.to_str().unwrap(), &[]).status, 0);
    feeding.join().unwrap();
    is_complete(&machine, &before, &image);

    let machine = Machine::new();
    machine.file("image", &image.bytes);
    image.describe(&machine);
    let command = machine.command(&["write", "--manifest", "lab.manifest", "--from", "/dev/fd/5"]);
    let mut bash = Command::new("bash");
    bash.args(["-c", "exec \"$@\" 5< <(cat image)", "bash"])
        .arg(command.get_program())
        .args(command.get_args());
    let ended = ended(bash.current_dir(machine.path("")));
    assert_eq!(ended.status, 0, "{ended:?}");
    is_complete(&machine, &before, &image);
}

#[test]
fn written_slot_boots_and_is_not_written_again() {
    let (machine, image) = (Machine::new(), Image::new(ODD_BYTES));
    let from = machine.file("image", &image.bytes);
    let plan = machine.write(&image, &from, &["--dry-run"]);
    assert_eq!(
        (plan.status, &plan.section("slots")["changed"]),
        (0, &true.into())
    );
    assert_eq!(machine.recorded("b"), None);
    assert_eq!(machine.write(&image, &from, &[]).status, 0);

    // Nothing is read from the source any more.
    let again = machine.write(&image, "/nowhere", &[]);
    assert_eq!(
        (again.status, &again.section("slots")["changed"]),
        (0, &false.into()),
        "{again:?}"
    );
    // The slot's own fields count, too; what is booted once does not.
    let disk = File::options().write(true).open(machine.disk()).unwrap();
    disk.write_all_at(b"x", B_AT + 5120).unwrap();
    assert_eq!(
        machine.write(&image, "/nowhere", &[]).section("slots")["changed"],
        false
    );
    disk.write_all_at(b"x", B_AT + 1144).unwrap();
    assert_eq!(
        machine.write(&image, &from, &[]).section("slots")["changed"],
        true
    );

    assert_eq!(
        machine.run(&["flip", "--active", "b"]).section("slots")["next"],
        "b"
    );
    // Now a is the one that is written.
    let before = machine.content();
    let ended = machine.write(&image.version(9), &from, &[]);
    assert_eq!(
        (
            ended.status,
            &ended.section("slots")["a"]["version"],
            &ended.section("slots")["b"]["version"]
        ),
        (0, &9.into(), &8.into())
    );
    assert!(machine.content().slot_b() == before.slot_b());
}

#[test]
fn a_flipped_bit_on_the_medium_is_found() {
    let (machine, image) = (Machine::new(), Image::new(ODD_BYTES));
    let from = machine.file("image", &image.bytes);
    assert_eq!(machine.write(&image, &from, &[]).status, 0);
    let bytes = machine.content();
    for at in [0, 1000, 2 * MIB, 5 * MIB, ODD_BYTES - 1] {
        let place = B_AT + at;
        let disk = File::options().write(true).open(machine.disk()).unwrap();
        disk.write_all_at(&[bytes.0[place as usize] ^ 0x10], place)
            .unwrap();
        let status = machine.run(&["status", "--digest"]);
        assert_eq!(
            (status.status, &status.section("slots")["b"]["intact"]),
            (1, &false.into()),
            "{at}"
        );
        disk.write_all_at(&[bytes.0[place as usize]], place)
            .unwrap();
    }
    assert_eq!(machine.run(&["status", "--digest"]).status, 0);
    // And mended by writing it again.
    let disk = File::options().write(true).open(machine.disk()).unwrap();
    disk.write_all_at(b"?", B_AT + 5 * MIB).unwrap();
    assert_eq!(
        machine.write(&image, &from, &[]).section("slots")["changed"],
        true
    );
    is_complete(&machine, &bytes, &image);
}

#[test]
fn write_refuses_before_it_writes() {
    let image = Image::new(ODD_BYTES);
    let fits = |size_bytes: u64| manifest::Host {
        size_bytes,
        ..image.host.clone()
    };
    let of_model = |model: &str| manifest::Host {
        models: vec![model.into()],
        ..image.host.clone()
    };
    let text = String::from_utf8(image.host.to_bytes().unwrap()).unwrap();
    let bytes = |host: manifest::Host| host.to_bytes().unwrap();
    let overlapping = text.replace("1144", "1143").into_bytes();
    let outside = text
        .replace("5120", &(ODD_BYTES - 1023).to_string())
        .into_bytes();
    let of_base = text.replace("\"host\"", "\"base\"").into_bytes();
    // As publish-zfs-root makes it, whose keys are the same.
    let mut of_zfs_host: serde_json::Value = serde_json::from_str(&text).unwrap();
    of_zfs_host["kind"] = "zfs_host".into();
    of_zfs_host.as_object_mut().unwrap().remove("slot_fields");
    let of_zfs_host = of_zfs_host.to_string().into_bytes();
    let cases: [(Vec<u8>, &str, &str, i32, &str); 12] = [
        (
            text.clone().into_bytes(),
            "stranger",
            "image",
            65,
            "verifying the manifest: not signed by any of host-1.pub",
        ),
        (
            bytes(fits(SLOT_BYTES + 1)),
            "host-1",
            "image",
            73,
            "it is 14680065 bytes long, and partition 2 of ",
        ),
        (
            bytes(of_model("Latitude")),
            "host-1",
            "image",
            65,
            "refusing to write lab: this machine is a OptiPlex 7010, the image is for Latitude",
        ),
        (
            overlapping,
            "host-1",
            "image",
            65,
            "slot_fields: the one at 1143 begins within another",
        ),
        (outside, "host-1", "image", 65, "is not in the image"),
        (
            of_base,
            "host-1",
            "image",
            65,
            "kind: it describes a base, not a host",
        ),
        (
            of_zfs_host,
            "host-1",
            "image",
            65,
            "kind: it describes a zfs_host, not a host",
        ),
        (text.clone().into_bytes(), "host-1", "none", 66, "opening "),
        (
            text.clone().into_bytes(),
            "host-1",
            "empty",
            65,
            "it is empty",
        ),
        (
            text.clone().into_bytes(),
            "host-1",
            "http://server.example/image",
            2,
            "a path or a URL with https:// is needed",
        ),
        (
            text.clone().into_bytes(),
            "host-1",
            "large-window",
            65,
            "compress it with zstd -19 at most",
        ),
        (
            text.into_bytes(),
            "host-1",
            "https://127.0.0.1:1/image",
            69,
            "fetching https://127.0.0.1:1/image: ",
        ),
    ];
    for (manifest, signed_by, from, status, message) in cases {
        let machine = Machine::new();
        machine.file("image", &image.bytes);
        machine.file("empty", b"");
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(24).unwrap();
        std::io::Write::write_all(&mut encoder, &image.bytes).unwrap();
        machine.file("large-window", &encoder.finish().unwrap());
        let from = if from.contains("://") {
            from.to_owned()
        } else {
            machine.path(from).to_str().unwrap().to_owned()
        };
        // What was there before stays, and can be flipped to.
        assert_eq!(
            machine
                .write(&image, machine.path("image").to_str().unwrap(), &[])
                .status,
            0
        );
        let before = machine.content();
        let manifest = sign(&machine, &manifest, signed_by);
        // An image that is there is not fetched again.
        let manifest_text = fs::read_to_string(&manifest)
            .unwrap()
            .replace("\"version\":8", "\"version\":9");
        let manifest = sign(&machine, manifest_text.as_bytes(), signed_by);
        let ended = machine.run(&[
            "write",
            "--manifest",
            manifest.to_str().unwrap(),
            "--from",
            &from,
        ]);
        assert_eq!(
            (ended.status, ended.stdout.is_empty()),
            (status, true),
            "{message}: {ended:?}"
        );
        assert!(
            ended.stderr.contains(message),
            "{message}: {}",
            ended.stderr
        );
        assert!(machine.content() == before, "{message}");
        assert_eq!(machine.recorded("b"), Some(8), "{message}");
    }
}

#[test]
fn a_slot_that_shares_sectors_with_the_other_one_is_not_written_to() {
    let (machine, image) = (Machine::new(), Image::new(ODD_BYTES));
    let from = machine.file("image", &image.bytes);
    machine::move_partition(
        &machine.disk(),
        512,
        2,
        (update::A_AT + MIB) / 512,
        (update::A_AT + 2 * MIB) / 512,
    );
    let before = machine.content();
    let ended = machine.write(&image, &from, &[]);
    assert_eq!(
        (ended.status, ended.stdout.is_empty()),
        (78, true),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("partitions 1 and 2 overlap; partition it anew"),
        "{}",
        ended.stderr
    );
    assert!(machine.content() == before);
}

#[test]
fn something_older_than_what_boots_is_taken_only_when_told() {
    let (machine, image) = (Machine::new(), Image::new(ODD_BYTES));
    let from = machine.file("image", &image.bytes);
    assert_eq!(machine.write(&image, &from, &[]).status, 0);
    assert_eq!(machine.run(&["flip", "--active", "b"]).status, 0);
    let refused = machine.write(&image.version(7), &from, &[]);
    assert_eq!(refused.status, 65);
    let message =
        "refusing to write version 7 of lab: 8 is in slot b; to go back, use --allow-downgrade";
    assert!(refused.stderr.contains(message), "{}", refused.stderr);
    assert_eq!(
        machine
            .write(&image.version(8), &from, &[])
            .section("slots")["a"]["version"],
        8
    );
    assert_eq!(
        machine
            .write(&image.version(7), &from, &["--allow-downgrade"])
            .section("slots")["a"]["version"],
        7
    );
}

#[test]
fn interrupted_write_leaves_an_empty_slot() {
    let image = Image::new(ODD_BYTES);
    let (raw, compressed) = (image.bytes.clone(), image.compressed());
    let with = |bytes: &[u8], more: &[u8]| [bytes, more].concat();
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let short = format!("it ends after {} of {ODD_BYTES} bytes", ODD_BYTES - 1);
    let long = format!("it is longer than {ODD_BYTES} bytes");
    let cases: [(Vec<u8>, &str); 11] = [
        (raw[..raw.len() - 1].to_vec(), &short),
        (raw[..100].to_vec(), "it ends after 100 of "),
        (with(&raw, &[0]), &long),
        (
            flipped(&raw, 3),
            "comparing the image with the manifest: its digest is ",
        ),
        (
            flipped(&raw, 8 * MIB as usize),
            "comparing the image with the manifest: its digest is ",
        ),
        (
            compressed[..compressed.len() - 1].to_vec(),
            "reading the image: ",
        ),
        (
            compressed[..compressed.len() / 2].to_vec(),
            "reading the image: ",
        ),
        (
            with(&compressed, b"x"),
            "reading the image, behind its end: ",
        ),
        (
            with(&compressed, &zstd::encode_all(&b"x"[..], 3).unwrap()),
            &long,
        ),
        (flipped(&compressed, compressed.len() / 2), ""),
        // Small, and then without end: 1 TiB of zeros in what a machine has for 9 MiB.
        (
            with(&zstd::encode_all(&[0; 4096][..], 3).unwrap(), &bomb()),
            "its digest is ",
        ),
    ];
    for (bytes, message) in cases {
        let machine = Machine::new();
        let before = machine.content();
        assert_eq!(
            machine
                .write(&image, &machine.file("image", &image.bytes), &[])
                .status,
            0
        );
        // Over something that was there and could be flipped to.
        let from = machine.file("broken", &bytes);
        let ended = machine.write(&image.version(9), &from, &[]);
        assert_eq!(ended.status, 1, "{message}: {ended:?}");
        assert!(
            ended.stderr.contains(message),
            "{message}: {}",
            ended.stderr
        );
        assert!(
            ended
                .stderr
                .contains("slot b holds no image now, write it again"),
            "{}",
            ended.stderr
        );
        let slots = ended.section("slots");
        let missing = slots["missing"].as_array().unwrap();
        let reason = missing
            .iter()
            .find(|missing| missing["key"] == "b.version")
            .unwrap()["reason"]
            .as_str()
            .unwrap();
        assert!(reason.contains(message), "{reason}");
        assert_eq!(ended.section("slots")["b"].get("version"), None);
        is_cleared(&machine, &before);
        assert_eq!(
            machine
                .write(&image, machine.path("image").to_str().unwrap(), &[])
                .status,
            0
        );
        is_complete(&machine, &before, &image);
    }
}

/// Exactly as long as the image, without what is in it: all that a wrong stream can do is to be
/// wrong.
fn bomb() -> Vec<u8> {
    zstd::encode_all(std::io::Read::take(std::io::repeat(0), ODD_BYTES - 4096), 3).unwrap()
}

#[test]
fn write_reports_missing_direct_io() {
    let (machine, image) = (Machine::new(), Image::new(ODD_BYTES));
    // Of an odd length: it cannot be read past the cache.
    let disk = File::options().write(true).open(machine.disk()).unwrap();
    let length = disk.metadata().unwrap().len();
    disk.set_len(length + 100).unwrap();
    let before = machine.content();
    let ended = machine.write(&image, &machine.file("image", &image.bytes), &[]);
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("cannot be read past the cache; the cache is verified instead"),
        "{}",
        ended.stderr
    );
    is_complete(&machine, &before, &image);
}

#[test]
fn a_record_of_another_disk_is_none() {
    let (machine, image) = (Machine::new(), Image::new(ODD_BYTES));
    let from = machine.file("image", &image.bytes);
    assert_eq!(machine.write(&image, &from, &[]).status, 0);
    let text = fs::read_to_string(machine.records()).unwrap();
    fs::write(machine.records(), text.replace("07070707", "08080808")).unwrap();
    assert_eq!(
        machine.write(&image, &from, &[]).section("slots")["changed"],
        true
    );
    assert!(
        Path::new(&from).exists() && fs::read_to_string(machine.records()).unwrap().contains(B)
    );
}

#[test]
fn two_at_once_one_is_told_to_come_later() {
    let (machine, image) = (Machine::new(), Image::new(ODD_BYTES));
    let from = machine.file("image", &image.bytes);
    let before = machine.content();
    // Without a word at the end of the FIFO one waits for its image.
    let fifo = machine.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let manifest = image.describe(&machine);
    let first = machine
        .command(&[
            "write",
            "--manifest",
            manifest.to_str().unwrap(),
            "--from",
            fifo.to_str().unwrap(),
        ])
        .spawn();
    let mut feeding = File::options().write(true).open(&fifo).unwrap(); // it has opened the other end, and the lock before
    for verb in ["flip", "try", "repair", "rollback"] {
        let ended = machine.run(&[verb]);
        assert_eq!(
            (ended.status, ended.stdout.is_empty()),
            (75, true),
            "{ended:?}"
        );
    }
    let second = machine.run(&[
        "write",
        "--manifest",
        manifest.to_str().unwrap(),
        "--from",
        &from,
    ]);
    assert_eq!(
        (second.status, second.stdout.is_empty()),
        (75, true),
        "{second:?}"
    );
    assert!(
        second
            .stderr
            .contains("another abflip is running; try again when it has ended"),
        "{second:?}"
    );
    std::io::Write::write_all(&mut feeding, &image.bytes).unwrap();
    drop(feeding);
    assert!(first.unwrap().wait_with_output().unwrap().status.success());
    is_complete(&machine, &before, &image);
}
