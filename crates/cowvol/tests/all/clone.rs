//! `cowvol clone` on machines that are directories; qemu-img and qemu-io say whether it did right.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonpipe::testkit::{Ended, feed, redirected};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::machine::{
    ALICE, BOB, CLONE, Machine, base_path, faults, make_base, qemu_img, qemu_io, request, tree, volume, write_bases_ini,
};

const ALICES_TOKEN: &str = "T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w";

#[test]
fn the_first_login_creates_and_the_second_reuses() {
    let machine = Machine::new();
    let first = machine.volume(ALICE, Some("windows"));
    let path = format!("/qcow2/user/{ALICES_TOKEN}/windows@7.qcow2");
    assert_eq!(
        first,
        json!({
            "schema": 1, "user": ALICE, "token": ALICES_TOKEN, "base": "windows", "ostype": "windows", "generation": 7,
            "backend": "qcow2", "format": "qcow2", "path": path,
            "backing_path": "/qcow2/backing/windows/7.qcow2", "backing_format": "qcow2",
            "virtual_bytes": 1 << 30, "held_bytes": first["held_bytes"], "created": true, "changed": true,
        })
    );
    assert!((1..=65536).contains(&first["held_bytes"].as_u64().unwrap()), "{first}");

    let file = machine.home(ALICE).join("windows@7.qcow2");
    assert_eq!(faults(&file), None);
    qemu_io(&file, &["write -q -P 0x77 1M 64k"]);
    let second = machine.volume(ALICE, Some("windows"));
    assert_eq!((&second["created"], &second["changed"], &second["path"]), (&json!(false), &json!(false), &first["path"]));
    assert!(second["held_bytes"].as_u64() > first["held_bytes"].as_u64());
    qemu_io(&file, &["read -q -P 0x77 1M 64k", "read -q -P 0x55 2M 64k", "read -q -P 0xaa 512M 1M", "read -q -P 0 5M 64k"]);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    for directory in [machine.home(ALICE), machine.users(), machine.root().join("run/labtools")] {
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn users_and_the_base_do_not_see_each_others_writes() {
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let before = fs::read(&base).unwrap();
    for user in [ALICE, BOB] {
        machine.volume(user, Some("windows"));
    }
    qemu_io(&machine.home(ALICE).join("windows@7.qcow2"), &["write -q -P 0x77 0 4M"]);
    let bobs = machine.home(BOB).join("windows@7.qcow2");
    qemu_img(&["compare", "-q", base.to_str().unwrap(), bobs.to_str().unwrap()]);
    assert!(fs::read(&base).unwrap() == before);
    assert_ne!(fs::metadata(&bobs).unwrap().blocks(), 0);
}

#[test]
fn the_default_is_taken_where_nothing_is_chosen() {
    let machine = Machine::new();
    assert_eq!(machine.volume(ALICE, None)["base"], "windows");
    assert_eq!(machine.volume(ALICE, Some("linux"))["path"], format!("/qcow2/user/{ALICES_TOKEN}/linux@3.qcow2"));
    let ended = CLONE.run(machine.root(), r#"{"login":{"user":"alice","authenticated":true},"choice":{}}"#);
    assert_eq!(volume(&ended)["base"], "windows");
}

#[test]
fn no_name_leads_out_of_the_directory_for_volumes() {
    let machine = Machine::new();
    let long = "a".repeat(4096);
    for user in ["../../x", "/etc/passwd", "a\0b", "João.Ação@uni-a.example", "\n", ".", &long] {
        let token = machine.volume(user, None)["token"].as_str().unwrap().to_owned();
        assert_eq!(token.len(), 38);
        assert!(machine.left().contains(&format!("{token}/windows@7.qcow2")), "{user:?}");
    }
    assert_eq!(machine.left().len(), 14);
    assert_eq!(tree(machine.root()).iter().filter(|name| !name.contains('/')).collect::<Vec<_>>(), ["qcow2", "run"]);
    assert_eq!(machine.volume("ALICE@Uni-A.Example", None)["token"], ALICES_TOKEN);
    assert_eq!(machine.refusal("", None).0, 65);
}

#[test]
fn a_dry_run_says_what_it_would_do_and_writes_nothing() {
    let machine = Machine::new();
    let dry = || {
        let mut command = Command::new(CLONE.binary);
        command.args(["clone", "--dry-run", "--root"]).arg(machine.root());
        volume(&feed(&mut command, &request(ALICE, None)))
    };
    let before = tree(machine.root());
    let would = dry();
    assert_eq!((&would["changed"], &would["created"], &would["held_bytes"]), (&json!(true), &json!(true), &json!(0)));
    assert_eq!(tree(machine.root()), before);

    let real = machine.volume(ALICE, None);
    let file = machine.home(ALICE).join("windows@7.qcow2");
    let used = fs::metadata(&file).unwrap().modified().unwrap();
    let would = dry();
    assert_eq!((&would["changed"], &would["held_bytes"]), (&json!(false), &real["held_bytes"]));
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), used);
}

#[test]
fn each_login_is_the_last_use() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let file = File::open(machine.home(ALICE).join("windows@7.qcow2")).unwrap();
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
    let before = SystemTime::now();
    machine.volume(ALICE, None);
    let used = file.metadata().unwrap().modified().unwrap();
    assert!(used > before - Duration::from_secs(1), "{used:?}"); // the clock of files is a coarse one
}

#[test]
fn a_new_generation_has_volumes_of_its_own() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    write_bases_ini(machine.root(), "[base.windows]\nname=Windows 11\nostype=windows\ngeneration=8\n");
    make_base(machine.root(), "windows", 8, &["2G"]);
    let volume = machine.volume(ALICE, None);
    assert_eq!(
        (&volume["generation"], &volume["virtual_bytes"], &volume["created"]),
        (&json!(8), &json!(2u64 << 30), &json!(true))
    );
    let token = ALICES_TOKEN;
    assert_eq!(machine.left(), [token.into(), format!("{token}/windows@7.qcow2"), format!("{token}/windows@8.qcow2")]);
}

#[test]
fn what_qemu_img_makes_is_a_base() {
    let machine = Machine::bare();
    write_bases_ini(machine.root(), "[base.linux]\nname=Linux\nostype=linux\ngeneration=0\n");
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
        qemu_io(&base, &["write -q -P 0x11 1M 1M", "write -q -P 0x33 39M 1M"]);
        // Compressed clusters share a place, more of them than a few bits can count, and take none that is given already.
        if !options.starts_with("refcount_bits") && !options.starts_with("preallocation") {
            qemu_io(&base, &["write -q -c -P 0x22 4M 2M"]);
        }
        assert_eq!(faults(&base), None, "{options}");
        let user = format!("user{index}");
        let ended = machine.clone(&user, None);
        assert_eq!(ended.status, 0, "{options}: {ended:?}");
        let overlay = machine.home(&user).join("linux@0.qcow2");
        assert_eq!(faults(&overlay), None, "{options}");
        qemu_img(&["compare", "-q", base.to_str().unwrap(), overlay.to_str().unwrap()]);
    }
}

#[test]
fn a_disk_of_5_tib_takes_a_longer_table() {
    let machine = Machine::bare();
    write_bases_ini(machine.root(), "[base.big]\nname=Big\nostype=linux\ngeneration=1\n");
    make_base(machine.root(), "big", 1, &["5T"]);
    let volume = machine.volume(ALICE, None);
    assert_eq!(volume["virtual_bytes"], 5u64 << 40);
    assert!(volume["held_bytes"].as_u64().unwrap() <= 65536, "{volume}");
    let overlay = machine.home(ALICE).join("big@1.qcow2");
    assert_eq!(faults(&overlay), None);
    qemu_io(&overlay, &["write -q -P 0x77 5497558073344 64k", "read -q -P 0 0 64k"]);
    assert_eq!(faults(&overlay), None);
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    qemu_io(&overlay, &["read -q -P 0x77 5497558073344 64k"]);
}

#[test]
fn qemu_agrees_about_what_the_overlay_is() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    let info: Value = serde_json::from_str(&qemu_img(&["info", "--output=json", overlay.to_str().unwrap()])).unwrap();
    assert_eq!(
        (&info["format"], &info["virtual-size"], &info["cluster-size"], &info["dirty-flag"]),
        (&json!("qcow2"), &json!(1 << 30), &json!(65536), &json!(false))
    );
    assert_eq!(info["backing-filename"], "../../backing/windows/7.qcow2");
    assert_eq!(info["backing-filename-format"], "qcow2");
    assert_eq!(info["format-specific"]["data"]["compat"], "1.1");
    assert_eq!(info["format-specific"]["data"]["corrupt"], false);
    // What we read from the base's header is what qemu-img reads.
    let base = base_path(machine.root(), "windows", 7);
    let info: Value = serde_json::from_str(&qemu_img(&["info", "--output=json", base.to_str().unwrap()])).unwrap();
    assert_eq!(info["virtual-size"], machine.volume(ALICE, None)["virtual_bytes"]);
}

#[test]
fn the_record_in_the_overlay_is_what_the_man_page_says() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let file_bytes = fs::metadata(base_path(machine.root(), "windows", 7)).unwrap().len();
    let record =
        format!(r#"{{"schema":1,"name":"windows","generation":7,"virtual_bytes":1073741824,"file_bytes":{file_bytes}}}"#);
    let header = fs::read(machine.home(ALICE).join("windows@7.qcow2")).unwrap();
    let at = header.windows(4).position(|magic| magic == 0x6c74_6376u32.to_be_bytes()).unwrap();
    let length = u32::from_be_bytes(header[at + 4..at + 8].try_into().unwrap()) as usize;
    assert_eq!(std::str::from_utf8(&header[at + 8..at + 8 + length]), Ok(record.as_str()));
}

#[test]
fn qemu_keeps_our_record_when_it_writes_the_header_anew() {
    let machine = Machine::new();
    machine.volume(ALICE, None);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    let header = || fs::read(&overlay).unwrap()[..4096].to_vec();
    let before = header();
    qemu_img(&["amend", "-o", "lazy_refcounts=on", overlay.to_str().unwrap()]);
    assert!(header() != before);
    assert!(header().windows(4).any(|magic| magic == b"ltcv"));
    assert_eq!(machine.volume(ALICE, None)["created"], false);
}

#[test]
fn bases_that_are_not_there_or_not_right() {
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let good = fs::read(&base).unwrap();
    let refused = |status, message: &str| {
        assert_eq!(machine.refusal(ALICE, Some("windows")), (status, format!("cowvol: {message}\n")));
        assert_eq!(machine.left(), [""; 0]);
    };
    let reading = |message: &str| refused(65, &format!("reading /qcow2/backing/windows/7.qcow2: {message}"));

    fs::remove_file(&base).unwrap();
    refused(66, "reading /qcow2/backing/windows/7.qcow2: No such file or directory (os error 2)");
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
    reading("truncated: its L1 table ends at 196624, the file at 65536");

    let other = base_path(machine.root(), "linux", 3);
    fs::remove_file(&base).unwrap();
    make_base(machine.root(), "windows", 7, &["-b", other.to_str().unwrap(), "-F", "qcow2", "1G"]);
    reading("it has a backing file itself; flatten it with qemu-img convert -O qcow2");
    let raw = machine.root().join("raw");
    make_base(machine.root(), "windows", 7, &["-o", &format!("data_file={}", raw.display()), "1G"]);
    reading("keeps its data in another file");
    make_base(
        machine.root(),
        "windows",
        7,
        &["--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "64M"],
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
    let at = bytes.windows(4).position(|magic| magic == 0x2385_2875u32.to_be_bytes()).unwrap();
    bytes[95] = 0; // the feature
    fs::write(&base, &bytes).unwrap();
    assert_eq!(machine.volume(BOB, Some("windows"))["created"], true);
    fs::remove_dir_all(machine.users()).unwrap();
    bytes[at + 7] = 16;
    fs::write(&base, &bytes).unwrap();
    assert!(faults(&base).unwrap().contains("Invalid extension length"));
    reading("a bitmaps extension of 16 bytes");
    fs::remove_file(&base).unwrap();
    make_base(machine.root(), "windows", 7, &["-o", "cluster_size=2M", "3P"]);
    reading("a disk of 3377699720527872 bytes; an overlay has at most 2251799813685248");

    assert_eq!(
        machine.refusal(ALICE, Some("macos")),
        (66, "cowvol: choice.base: macos is not in /qcow2/backing/bases.ini; choose one of linux, windows\n".into())
    );
    assert_eq!(machine.refusal(ALICE, Some("../windows")).0, 65);
    write_bases_ini(machine.root(), "[base.windows]\nname=W\nostype=windows\ngeneration=seven\n");
    refused(78, "/qcow2/backing/bases.ini: base.windows.generation: expected a whole number");
    fs::remove_file(machine.root().join("qcow2/backing/bases.ini")).unwrap();
    refused(66, "reading /qcow2/backing/bases.ini: no such file; cowvol install-base makes it; cowvol(8) describes it");
}

#[test]
fn logins_that_are_not_whole() {
    let machine = Machine::new();
    for (document, message) in [
        (r#"{"choice":{"base":"windows"}}"#, "login: missing"),
        (r#"{"login":{"user":"alice"}}"#, "login.authenticated: missing"),
        (r#"{"login":{"user":"alice","authenticated":"perhaps"}}"#, "login.authenticated: expected true or false"),
        (r#"{"login":{"authenticated":true}}"#, "login.user: missing or empty, though login.authenticated is true"),
        (r#"{"login":{"schema":2,"user":"alice","authenticated":true}}"#, "login.schema: not 1, the one that this release knows"),
        (r#"{"login":{"user":"alice","authenticated":true},"choice":{"bse":"windows"}}"#, "choice.bse: unknown key"),
    ] {
        let ended = CLONE.run(machine.root(), document);
        let expected = Ended { status: 65, signal: None, stdout: String::new(), stderr: format!("cowvol: {message}\n") };
        assert_eq!(ended, expected, "{document}");
    }
    assert_eq!(machine.left(), [""; 0]);
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
            "cowvol: reusing the volume of windows@7 (to start afresh, move it away; its files go with it): \
             reading /qcow2/user/{ALICES_TOKEN}/windows@7.qcow2: "
        );
        assert_eq!(error.strip_prefix(&start).unwrap_or(&error).trim_end(), message);
    };

    let base = base_path(machine.root(), "windows", 7);
    let base_bytes = fs::metadata(&base).unwrap().len();
    let kept = machine.root().join("kept");
    fs::rename(&base, &kept).unwrap();
    make_base(machine.root(), "windows", 7, &["1G"]);
    let other_bytes = fs::metadata(&base).unwrap().len();
    refused(&format!(
        "it was made for another windows@7: for a disk of 1073741824 bytes in a file of {base_bytes}, but the base has 1073741824 in \
         {other_bytes}; put the old base back"
    ));
    fs::rename(&kept, &base).unwrap();

    let linux = "../../backing/linux/3.qcow2";
    qemu_img(&["rebase", "-u", "-b", linux, "-F", "qcow2", overlay.to_str().unwrap()]);
    refused("its backing file is not its base");
    fs::remove_file(&overlay).unwrap();
    let create = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "../../backing/windows/7.qcow2"];
    qemu_img(&[&create[..], &[overlay.to_str().unwrap()]].concat());
    refused("it does not record which base it was made for");
    fs::write(&overlay, "").unwrap();
    refused("not a qcow2 image");
    fs::write(&overlay, &good[..good.len() / 2]).unwrap();
    refused("truncated: its L1 table ends at 196624, the file at 131072");
    fs::remove_file(&overlay).unwrap();
    symlink(&base, &overlay).unwrap();
    refused("a symbolic link, not a regular file");

    fs::remove_dir_all(machine.home(ALICE)).unwrap();
    symlink(machine.root(), machine.home(ALICE)).unwrap();
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!(status, 65);
    assert!(error.ends_with("not a directory; move it away\n"), "{error}");
}

#[test]
fn a_base_may_be_a_link_to_another_disk() {
    let machine = Machine::new();
    let (base, elsewhere) = (base_path(machine.root(), "windows", 7), machine.root().join("big-disk/windows.qcow2"));
    fs::create_dir(elsewhere.parent().unwrap()).unwrap();
    fs::rename(&base, &elsewhere).unwrap();
    symlink(&elsewhere, &base).unwrap();
    let volume = machine.volume(ALICE, None);
    assert_eq!((&volume["created"], &volume["backing_path"]), (&json!(true), &json!("/qcow2/backing/windows/7.qcow2")));
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    assert_eq!(faults(&overlay), None);
    qemu_img(&["compare", "-q", elsewhere.to_str().unwrap(), overlay.to_str().unwrap()]);
    assert_eq!(machine.list()["catalog"]["bases"][1]["virtual_bytes"], 1 << 30);
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
    assert!(error.contains("mount the disk for volumes there instead of linking to it"), "{error}");
    assert_eq!(tree(&elsewhere), [""; 0]);

    let no_directory = (78, "cowvol: /qcow2/user: not a directory; move it away\n".into());
    fs::remove_dir(&elsewhere).unwrap();
    assert_eq!(machine.refusal(ALICE, None), no_directory, "a link to nothing");
    fs::remove_file(machine.users()).unwrap();
    fs::write(machine.users(), "").unwrap();
    assert_eq!(machine.refusal(ALICE, None), no_directory);
}

#[test]
fn what_a_power_cut_left_is_harmless() {
    let machine = Machine::new();
    fs::create_dir_all(machine.home(ALICE)).unwrap();
    fs::write(machine.home(ALICE).join(".windows@7.qcow2.tmp"), vec![0xff; 1 << 20]).unwrap();
    assert_eq!(machine.volume(ALICE, None)["created"], true);
    assert_eq!(faults(&machine.home(ALICE).join("windows@7.qcow2")), None);
    assert_eq!(tree(&machine.home(ALICE)), ["windows@7.qcow2"]);
}

#[test]
fn a_volume_that_nobody_was_told_of_is_taken_back() {
    let machine = Machine::new();
    let unheard = |users: &[String]| {
        let mut command = Command::new(CLONE.binary);
        command.args(["clone", "--root"]).arg(machine.root());
        for how in [">&-", ">/dev/full", "1</dev/null"] {
            let ended = feed(&mut redirected(how, &command), &request(ALICE, None));
            assert_eq!((ended.status, machine.left().as_slice()), (74, users), "{how}");
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command.stdin(Stdio::piped()).stdout(writer).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), request(ALICE, None).as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(74));
        assert_eq!(machine.left(), users);
    };
    unheard(&[]);
    machine.volume(ALICE, None);
    unheard(&machine.left());
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    // In a mount namespace of its own, so that the small disk is gone whatever happens here.
    const SCRIPT: &str = r#"
        set -eu
        mount -t tmpfs -o "$1" tmpfs "$ROOT/qcow2/user"
        [ "$2" = new ] || mkdir "$ROOT/qcow2/user/$2"
        status=0; "$COWVOL" clone --root "$ROOT" || status=$?
        find "$ROOT/qcow2/user" -mindepth 1 -printf '%P\n'
        exit "$status"
    "#;
    let machine = Machine::new();
    fs::create_dir(machine.users()).unwrap();
    for (size, home, left, message) in [
        ("size=8k", "new", "", "writing"),
        ("size=8k", ALICES_TOKEN, ALICES_TOKEN, "writing"),
        ("nr_inodes=1", "new", "", "making directory"),
        ("nr_inodes=2", "new", "", "writing"),
    ] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", SCRIPT, "full", size, home]);
        command.env("ROOT", machine.root()).env("COWVOL", CLONE.binary);
        let ended = feed(&mut command, &request(ALICE, None));
        assert_eq!((ended.status, ended.stdout.trim()), (73, left), "{size} {home}: needs root; {ended:?}");
        assert!(ended.stderr.contains(message) && ended.stderr.contains("No space left on device"), "{ended:?}");
    }
    assert_eq!(machine.volume(ALICE, None)["created"], true);
}

#[test]
fn a_volume_that_cannot_be_written_is_no_lack_of_room_and_none_of_rights() {
    // In a mount namespace of its own, so that the mounts are gone whatever happens here.
    const READ_ONLY: &str = r#"
        set -eu
        mount --bind "$ROOT/qcow2/user" "$ROOT/qcow2/user"
        mount -o remount,bind,ro "$ROOT/qcow2/user"
        exec "$COWVOL" clone --root "$ROOT"
    "#;
    const IMMUTABLE: &str = r#"
        set -eu
        trap 'chattr -i "$ROOT"/qcow2/user/*/*' EXIT
        chattr +i "$ROOT"/qcow2/user/*/*
        "$COWVOL" clone --root "$ROOT"
    "#;
    let machine = Machine::new();
    machine.volume(ALICE, None);
    for (script, cause) in [(READ_ONLY, "Read-only file system"), (IMMUTABLE, "Operation not permitted")] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", script]).env("ROOT", machine.root()).env("COWVOL", CLONE.binary);
        let ended = feed(&mut command, &request(ALICE, None));
        assert_eq!((ended.status, ended.stdout.as_str()), (74, ""), "needs root; {ended:?}");
        assert!(ended.stderr.contains("setting the time of ") && ended.stderr.contains(cause), "{ended:?}");
    }
}

#[test]
fn of_two_at_once_one_creates_and_one_reuses() {
    let machine = Machine::new();
    for round in 0..20 {
        let user = format!("user{round}");
        let clone = || machine.volume(&user, None)["created"].as_bool().unwrap();
        let both = thread::scope(|scope| {
            let other = scope.spawn(clone);
            [clone(), other.join().unwrap()]
        });
        assert_eq!(both.iter().filter(|created| **created).count(), 1);
    }
}

#[test]
fn a_lock_that_stays_held_is_status_75() {
    let machine = Machine::new();
    let _held = machine.hold("pool.lock");
    let since = Instant::now();
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!(
        (status, error.as_str()),
        (75, "cowvol: locking /run/labtools/pool.lock: another run holds it; try again when that has ended\n")
    );
    assert!(since.elapsed().as_secs() >= 4, "it did not wait");
    assert_eq!(machine.left(), [""; 0]);
}

#[test]
fn a_signal_ends_the_wait_for_the_lock() {
    let machine = Machine::new();
    let _held = machine.hold("pool.lock");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let since = Instant::now();
        let ended = interrupted(&machine, ALICE, signal, waits_for_the_lock);
        assert_eq!(ended.status.signal(), Some(signal as i32));
        assert_eq!((ended.stdout.as_slice(), ended.stderr.as_slice()), (&b""[..], &b""[..]));
        assert!(since.elapsed() < Duration::from_secs(5), "it waited to the end");
    }
    assert_eq!(machine.left(), [""; 0]);
}

/// Waits until a process waits for the lock, which it does once it has its file open.
fn waits_for_the_lock(child: u32) {
    let open = || -> Vec<PathBuf> {
        let fds = fs::read_dir(format!("/proc/{child}/fd")).unwrap();
        fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap_or_default()).collect()
    };
    while !open().iter().any(|path| path.ends_with("pool.lock")) {
        assert!(!open().is_empty(), "it has ended"); // and is a zombie
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_switch_over_before_the_lock_is_had_counts() {
    let machine = Machine::new();
    make_base(machine.root(), "windows", 8, &["2G"]);
    let held = machine.hold("pool.lock");
    let mut child = machine.command(&["clone"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), request(ALICE, None).as_bytes()).unwrap();
    waits_for_the_lock(child.id());
    // What install-base does while it holds the lock.
    write_bases_ini(machine.root(), "[base.windows]\nname=Windows 11\nostype=windows\ngeneration=8\n");
    fs::remove_file(base_path(machine.root(), "windows", 7)).unwrap();
    drop(held);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["volume"]["generation"], &document["volume"]["created"]), (&json!(8), &json!(true)));
    assert_eq!(tree(&machine.home(ALICE)), ["windows@8.qcow2"]);
}

/// A clone that has made the volume, and stands still because nobody reads its document, which no pipe can hold.
fn unread_clone(machine: &Machine, user: &str) -> std::process::Child {
    let mut document: Value = serde_json::from_str(&request(user, None)).unwrap();
    document["other"] = json!({"text": "x".repeat(1 << 20)});
    let mut child = machine.command(&["clone"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), document.to_string().as_bytes()).unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    child
}

#[test]
fn who_does_not_read_keeps_nobody_waiting() {
    let machine = Machine::new();
    let mut child = unread_clone(&machine, ALICE);
    assert_eq!(machine.volume(BOB, None)["created"], true);
    assert_eq!(tree(&machine.home(ALICE)), ["windows@7.qcow2"]);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(74));
    assert!(!machine.home(ALICE).exists(), "nobody was told of it");
}

#[test]
fn a_volume_that_another_call_handed_out_is_not_taken_back() {
    let machine = Machine::new();
    let mut child = unread_clone(&machine, ALICE);
    assert_eq!(machine.volume(ALICE, None)["created"], false);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(74));
    assert_eq!(tree(&machine.home(ALICE)), ["windows@7.qcow2"]);
}

#[test]
fn a_signal_at_any_moment_leaves_a_whole_volume_or_none() {
    let machine = Machine::new();
    let mut waited = 0;
    for moment in 0.. {
        let user = format!("user{moment}");
        let (home, overlay) = (machine.home(&user), machine.home(&user).join("windows@7.qcow2"));
        let mut clone = machine.stepped(&["clone"], &request(&user, None));
        if !clone.steps(moment) {
            break;
        }
        let at_work = home.exists() && !overlay.exists();
        let ended = clone.end_by(Signal::SIGTERM);
        assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGTERM, _) | WaitStatus::Exited(_, 0)), "{ended:?}");
        // None, not even an empty directory; or a whole one.
        if home.exists() {
            assert_eq!((tree(&home), faults(&overlay)), (vec!["windows@7.qcow2".into()], None));
        }
        waited += usize::from(at_work && overlay.exists());
    }
    assert!(waited > 5, "{waited} signals came while a volume was made");
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_volume_or_none() {
    let machine = Machine::new();
    let (mut before, mut at_work, mut after) = (0, 0, 0);
    for moment in 0.. {
        let user = format!("user{moment}");
        let (home, overlay) = (machine.home(&user), machine.home(&user).join("windows@7.qcow2"));
        let mut clone = machine.stepped(&["clone"], &request(&user, None));
        if !clone.steps(moment) {
            break;
        }
        assert!(matches!(clone.end_by(Signal::SIGKILL), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
        let there = overlay.exists();
        match (home.exists(), there) {
            (false, _) => {
                before += 1;
                continue;
            }
            (true, false) => at_work += 1,
            (true, true) => after += 1,
        }
        assert_eq!(faults(&overlay).filter(|_| there), None);
        assert_eq!(machine.volume(&user, None)["created"], !there);
        assert_eq!((tree(&home), faults(&overlay)), (vec!["windows@7.qcow2".into()], None));
    }
    assert!(before > 5 && at_work > 5 && after > 5, "killed {before} times before, {at_work} while it was made, {after} after");
}

#[test]
fn a_volume_outlives_a_power_cut() {
    for left_by_a_killed_run in [false, true] {
        let machine = Machine::new();
        let (home, users) = (machine.home(ALICE), machine.users());
        if left_by_a_killed_run {
            fs::create_dir_all(&home).unwrap();
        }
        let mut clone = machine.stepped(&["clone"], &request(ALICE, None));
        let mut synced = Vec::new();
        while clone.steps(1) {
            synced.extend(clone.syncs().filter(|path| path.starts_with(&users)));
        }
        assert_eq!(synced, [home.join(".windows@7.qcow2.tmp"), home, users]);
    }
}

/// Starts a clone and sends it a signal when `wait`, which is told its pid, comes back.
fn interrupted(machine: &Machine, user: &str, signal: Signal, wait: impl FnOnce(u32)) -> std::process::Output {
    let input = machine.root().join("request");
    fs::write(&input, request(user, None)).unwrap();
    let mut command = Command::new(CLONE.binary);
    command.args(["clone", "--root"]).arg(machine.root()).stdin(File::open(input).unwrap());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait(child.id());
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    child.wait_with_output().unwrap()
}
