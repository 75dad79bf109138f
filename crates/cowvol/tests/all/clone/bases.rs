//! Which images and volumes `cowvol clone` takes, and where they may lie.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::clone::ALICES_TOKEN;
use crate::machine::{
    ALICE, BOB, Machine, base_path, faults, make_base, qemu_img, qemu_io, tree, write_bases_ini,
};

#[test]
fn images_of_qemu_img_are_bases() {
    let machine = Machine::bare();
    write_bases_ini(
        machine.root(),
        "[base.linux]\nname=Linux\nostype=linux\ngeneration=0\n",
    );
    let base = base_path(machine.root(), "linux", 0);
    for (index, options) in [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=2M",
        "refcount_bits=1",
        "refcount_bits=4",
        "refcount_bits=8",
        "refcount_bits=64",
        "lazy_refcounts=on",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "compression_type=zstd",
        "preallocation=metadata",
        "preallocation=falloc",
    ]
    .iter()
    .enumerate()
    {
        make_base(machine.root(), "linux", 0, &["-o", options, "40M"]);
        qemu_io(
            &base,
            &["write -q -P 0x11 1M 1M", "write -q -P 0x33 39M 1M"],
        );
        // Compressed clusters share a place, more of them than a few bits can count, and take none
        // that is given already.
        if !options.starts_with("refcount_bits") && !options.starts_with("preallocation") {
            qemu_io(&base, &["write -q -c -P 0x22 4M 2M"]);
        }
        assert_eq!(faults(&base), None, "{options}");
        let user = format!("user{index}");
        let ended = machine.clone(&user, None);
        assert_eq!(ended.status, 0, "{options}: {ended:?}");
        let overlay = machine.home(&user).join("linux@0.qcow2");
        assert_eq!(faults(&overlay), None, "{options}");
        qemu_img(&[
            "compare",
            "-q",
            base.to_str().unwrap(),
            overlay.to_str().unwrap(),
        ]);
    }
}

#[test]
fn a_disk_of_5_tib_takes_a_longer_table() {
    let machine = Machine::bare();
    write_bases_ini(
        machine.root(),
        "[base.big]\nname=Big\nostype=linux\ngeneration=1\n",
    );
    machine.reserves(0); // no disk has that room
    make_base(machine.root(), "big", 1, &["5T"]);
    let volume = machine.volume(ALICE, None);
    assert_eq!(volume["virtual_bytes"], 5u64 << 40);
    assert!(volume["held_bytes"].as_u64().unwrap() <= 65536, "{volume}");
    let overlay = machine.home(ALICE).join("big@1.qcow2");
    assert_eq!(faults(&overlay), None);
    qemu_io(
        &overlay,
        &["write -q -P 0x77 5497558073344 64k", "read -q -P 0 0 64k"],
    );
    assert_eq!(faults(&overlay), None);
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    qemu_io(&overlay, &["read -q -P 0x77 5497558073344 64k"]);
}

#[test]
fn qemu_agrees_about_what_the_overlay_is() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    let info: Value = serde_json::from_str(&qemu_img(&[
        "info",
        "--output=json",
        overlay.to_str().unwrap(),
    ]))
    .unwrap();
    assert_eq!(
        (
            &info["format"],
            &info["virtual-size"],
            &info["cluster-size"],
            &info["dirty-flag"]
        ),
        (
            &json!("qcow2"),
            &json!(32 << 20),
            &json!(65536),
            &json!(false)
        )
    );
    assert_eq!(info["backing-filename"], "../../backing/windows/7.qcow2");
    assert_eq!(info["backing-filename-format"], "qcow2");
    assert_eq!(info["format-specific"]["data"]["compat"], "1.1");
    assert_eq!(info["format-specific"]["data"]["corrupt"], false);
    // What we read from the base's header is what qemu-img reads.
    let base = base_path(machine.root(), "windows", 7);
    let info: Value = serde_json::from_str(&qemu_img(&[
        "info",
        "--output=json",
        base.to_str().unwrap(),
    ]))
    .unwrap();
    assert_eq!(
        info["virtual-size"],
        machine.volume(ALICE, None)["virtual_bytes"]
    );
}

#[test]
fn the_record_in_the_overlay_is_what_the_man_page_says() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let base = base_path(machine.root(), "windows", 7);
    let (bytes, metadata) = (fs::read(&base).unwrap(), fs::metadata(&base).unwrap());
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (l1, reftable) = (number(40), number(48));
    let tables = [
        &bytes[..4096],
        &bytes[l1..l1 + 8],
        &bytes[reftable..reftable + 65536],
    ];
    let record = format!(
        r#"{{"schema":2,"name":"windows","generation":7,"virtual_bytes":33554432,"file_bytes":{},"tables_sha256":"{}","modified":[{},{}]}}"#,
        metadata.len(),
        sha256sum(&tables.concat()),
        metadata.mtime(),
        metadata.mtime_nsec(),
    );
    let header = fs::read(machine.home(ALICE).join("windows@7.qcow2")).unwrap();
    let at = header
        .windows(4)
        .position(|magic| magic == 0x6c74_6376u32.to_be_bytes())
        .unwrap();
    let length = u32::from_be_bytes(header[at + 4..at + 8].try_into().unwrap()) as usize;
    assert_eq!(
        std::str::from_utf8(&header[at + 8..at + 8 + length]),
        Ok(record.as_str())
    );
}

fn sha256sum(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let output = Command::new("sha256sum").arg(file.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn qemu_keeps_our_record_when_it_writes_the_header_anew() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    let header = || fs::read(&overlay).unwrap()[..4096].to_vec();
    let before = header();
    qemu_img(&[
        "amend",
        "-o",
        "lazy_refcounts=on",
        overlay.to_str().unwrap(),
    ]);
    assert!(header() != before);
    assert!(header().windows(4).any(|magic| magic == b"ltcv"));
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    let backing = "../../backing/windows/7.qcow2";
    let rebase = ["rebase", "-u", "-F", "qcow2", "-b", backing];
    qemu_img(&[&rebase[..], &[overlay.to_str().unwrap()]].concat());
    qemu_io(&overlay, &["write -q -P 0x77 1M 64k"]);
    assert_eq!(faults(&overlay), None);
    assert_eq!(machine.volume(ALICE, None)["created"], false);
}

#[test]
fn bases_that_are_not_there_or_not_right() {
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let good = fs::read(&base).unwrap();
    let refused = |status, message: &str| {
        assert_eq!(
            machine.refusal(ALICE, Some("windows")),
            (status, format!("cowvol: {message}\n"))
        );
        assert_eq!(machine.left(), [""; 0]);
    };
    let reading = |message: &str| {
        refused(
            65,
            &format!("reading /qcow2/backing/windows/7.qcow2: {message}"),
        )
    };

    fs::remove_file(&base).unwrap();
    refused(
        66,
        "reading /qcow2/backing/windows/7.qcow2: No such file or directory (os error 2); put the image there, or mend generation in \
         /qcow2/backing/bases.ini",
    );
    fs::create_dir(&base).unwrap();
    reading("not a regular file");
    fs::remove_dir(&base).unwrap();
    nix::unistd::mkfifo(&base, nix::sys::stat::Mode::S_IRWXU).unwrap();
    reading("not a regular file");
    fs::remove_file(&base).unwrap();
    fs::write(&base, "").unwrap();
    reading("not a qcow2 image");
    fs::write(&base, vec![0; 1 << 20]).unwrap();
    reading("not a qcow2 image");
    fs::write(&base, &good[..100]).unwrap();
    reading("its header ends after 100 bytes");
    fs::write(&base, &good[..65536]).unwrap();
    reading("truncated: its L1 table ends at 196616, the file at 65536");

    let other = base_path(machine.root(), "linux", 3);
    fs::remove_file(&base).unwrap();
    make_base(
        machine.root(),
        "windows",
        7,
        &["-b", other.to_str().unwrap(), "-F", "qcow2", "32M"],
    );
    reading("it has a backing file itself; flatten it with qemu-img convert -O qcow2");
    let raw = machine.root().join("raw");
    make_base(
        machine.root(),
        "windows",
        7,
        &["-o", &format!("data_file={}", raw.display()), "32M"],
    );
    reading("keeps its data in another file");
    make_base(
        machine.root(),
        "windows",
        7,
        &[
            "--object",
            "secret,id=s,data=x",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            "64M",
        ],
    );
    reading("encrypted");
    make_base(machine.root(), "windows", 7, &["64M"]);
    qemu_img(&["snapshot", "-c", "s", base.to_str().unwrap()]);
    reading("holds internal snapshots");
    make_base(machine.root(), "windows", 7, &["64M"]);
    qemu_img(&["bitmap", "--add", base.to_str().unwrap(), "b"]);
    reading("holds dirty bitmaps; remove them with qemu-img bitmap --remove");
    // A length that QEMU does not open, of an extension that it would pass over otherwise.
    let mut bytes = fs::read(&base).unwrap();
    let at = bytes
        .windows(4)
        .position(|magic| magic == 0x2385_2875u32.to_be_bytes())
        .unwrap();
    bytes[95] = 0; // the feature
    fs::write(&base, &bytes).unwrap();
    assert_eq!(machine.volume(BOB, Some("windows"))["created"], true);
    fs::remove_dir_all(machine.users()).unwrap();
    bytes[at + 7] = 16;
    fs::write(&base, &bytes).unwrap();
    assert!(faults(&base).unwrap().contains("Invalid extension length"));
    reading("a bitmaps extension of 16 bytes");
    fs::remove_file(&base).unwrap();
    make_base(
        machine.root(),
        "windows",
        7,
        &["-o", "cluster_size=2M", "3P"],
    );
    reading("a disk of 3377699720527872 bytes; an overlay has at most 2251799813685248");

    assert_eq!(
        machine.refusal(ALICE, Some("macos")),
        (66, "cowvol: choice.base: macos is not in /qcow2/backing/bases.ini; choose one of linux, windows\n".into())
    );
    assert_eq!(machine.refusal(ALICE, Some("../windows")).0, 65);
    write_bases_ini(
        machine.root(),
        "[base.windows]\nname=W\nostype=windows\ngeneration=seven\n",
    );
    refused(
        78,
        "/qcow2/backing/bases.ini: base.windows.generation: expected a whole number",
    );
    fs::remove_file(machine.root().join("qcow2/backing/bases.ini")).unwrap();
    refused(
        66,
        "reading /qcow2/backing/bases.ini: no such file; cowvol install-base makes it; cowvol(8) describes it",
    );
}

#[test]
fn a_volume_of_another_base_is_not_handed_out() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    let good = fs::read(&overlay).unwrap();
    let refused = |message: &str| {
        let (status, error) = machine.refusal(ALICE, None);
        assert_eq!(status, 65, "{error}");
        let start = format!(
            "cowvol: reusing the volume of windows@7 (cowvol discard removes it, with the user's files): \
             reading /qcow2/user/{ALICES_TOKEN}/windows@7.qcow2: "
        );
        assert_eq!(
            error.strip_prefix(&start).unwrap_or(&error).trim_end(),
            message
        );
    };

    let base = base_path(machine.root(), "windows", 7);
    let base_bytes = fs::metadata(&base).unwrap().len();
    let kept = machine.root().join("kept");
    fs::rename(&base, &kept).unwrap();
    make_base(machine.root(), "windows", 7, &["32M"]);
    let other_bytes = fs::metadata(&base).unwrap().len();
    refused(&format!(
        "it was made for another windows@7: for a disk of 33554432 bytes in a file of {base_bytes}, but the base has 33554432 in \
         {other_bytes}; put the old base back"
    ));
    // Of the same length, with other tables.
    fs::copy(&kept, &base).unwrap();
    qemu_img(&["amend", "-o", "lazy_refcounts=on", base.to_str().unwrap()]);
    assert_eq!(fs::metadata(&base).unwrap().len(), base_bytes);
    refused(
        "it was made for another windows@7: its header or tables have changed; put the old base back",
    );
    // With the same tables, written in place by a program that was given the base.
    fs::copy(&kept, &base).unwrap();
    qemu_io(&base, &["write -q -P 0x99 0 64k"]);
    let found = fs::metadata(&kept).unwrap();
    let time = format!("{}.{:09}", found.mtime(), found.mtime_nsec());
    refused(&format!(
        "it was made for another windows@7: its file was written or copied since; put the old base back, or if this is \
         the old one, its time: touch -d @{time} /qcow2/backing/windows/7.qcow2"
    ));
    // The way out that the message names.
    fs::copy(&kept, &base).unwrap();
    let touched = Command::new("touch")
        .args(["-d", &format!("@{time}")])
        .arg(&base)
        .status();
    assert!(touched.unwrap().success());
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    fs::rename(&kept, &base).unwrap();

    let linux = "../../backing/linux/3.qcow2";
    qemu_img(&[
        "rebase",
        "-u",
        "-b",
        linux,
        "-F",
        "qcow2",
        overlay.to_str().unwrap(),
    ]);
    refused("its backing file is not its base");
    fs::remove_file(&overlay).unwrap();
    let create = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        "../../backing/windows/7.qcow2",
    ];
    qemu_img(&[&create[..], &[overlay.to_str().unwrap()]].concat());
    refused("it does not record which base it was made for");
    fs::write(&overlay, "").unwrap();
    refused("not a qcow2 image");
    fs::write(&overlay, &good[..good.len() / 2]).unwrap();
    refused("truncated: its L1 table ends at 196616, the file at 131072");
    fs::remove_file(&overlay).unwrap();
    symlink(&base, &overlay).unwrap();
    // Discard removes files alone.
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!(
        (status, error.trim_end()),
        (
            65,
            format!(
                "cowvol: reusing the volume of windows@7 (move it away): reading /qcow2/user/{ALICES_TOKEN}/windows@7.qcow2: \
                 a symbolic link, not a regular file"
            )
            .as_str()
        )
    );

    fs::remove_dir_all(machine.home(ALICE)).unwrap();
    symlink(machine.root(), machine.home(ALICE)).unwrap();
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!(status, 65);
    assert!(
        error.ends_with("not a directory; move it away\n"),
        "{error}"
    );
}

#[test]
fn a_base_may_be_a_link_to_another_disk() {
    let machine = Machine::new();
    let (base, elsewhere) = (
        base_path(machine.root(), "windows", 7),
        machine.root().join("big-disk/windows.qcow2"),
    );
    fs::create_dir(elsewhere.parent().unwrap()).unwrap();
    fs::rename(&base, &elsewhere).unwrap();
    symlink(&elsewhere, &base).unwrap();
    let volume = machine.volume(ALICE, None);
    assert_eq!(
        (&volume["created"], &volume["backing_path"]),
        (&json!(true), &json!("/qcow2/backing/windows/7.qcow2"))
    );
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    assert_eq!(faults(&overlay), None);
    qemu_img(&[
        "compare",
        "-q",
        elsewhere.to_str().unwrap(),
        overlay.to_str().unwrap(),
    ]);
    assert_eq!(
        machine.list()["catalog"]["bases"][1]["virtual_bytes"],
        32 << 20
    );
    fs::remove_file(elsewhere).unwrap();
    assert_eq!(machine.refusal(ALICE, None).0, 66);
}

#[test]
fn a_linked_directory_for_volumes_is_refused() {
    let machine = Machine::new();
    let elsewhere = machine.root().join("big-disk/deep");
    fs::create_dir_all(&elsewhere).unwrap();
    symlink(&elsewhere, machine.users()).unwrap();
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!(status, 78);
    assert!(
        error.contains("mount the disk for volumes there instead of linking to it"),
        "{error}"
    );
    assert_eq!(tree(&elsewhere), [""; 0]);

    let no_directory = (
        78,
        "cowvol: /qcow2/user: not a directory; move it away\n".into(),
    );
    fs::remove_dir(&elsewhere).unwrap();
    assert_eq!(
        machine.refusal(ALICE, None),
        no_directory,
        "a link to nothing"
    );
    fs::remove_file(machine.users()).unwrap();
    fs::write(machine.users(), "").unwrap();
    assert_eq!(machine.refusal(ALICE, None), no_directory);
}
