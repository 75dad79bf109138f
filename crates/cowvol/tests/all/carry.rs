//! `cowvol export` and `import`: a volume goes to another machine, with qemu-img as the judge.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jsonpipe::testkit::{Ended, heeding_signals, redirected};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use crate::evict::{overlay, used_volume};
use crate::machine::signed::{describe, sealed, trust};
use crate::machine::{
    ALICE, BOB, CLONE, Machine, base_path, faults, make_base, qemu_img, qemu_io, tree,
    write_bases_ini,
};
use crate::prune::{end, open_in_qemu};

/// What a guest wrote: data, some of it over the base's, and zeros.
const WRITES: [&str; 5] = [
    "write -q -P 0x11 100k 5k",
    "write -q -P 0x22 1M 2M",
    "write -q -z 16M 256k",
    "write -q -z -u 20M 1M",
    "write -q -P 0x33 31M 1M",
];

/// Another machine with the same bases. Their files have another time there.
pub fn another(machine: &Machine) -> Machine {
    let other = Machine::new();
    for (base, generation) in [("windows", 7), ("linux", 3)] {
        let image = base_path(other.root(), base, generation);
        fs::remove_file(&image).unwrap();
        fs::copy(base_path(machine.root(), base, generation), image).unwrap();
    }
    other
}

/// A machine on which alice has worked, and the session has ended.
pub fn used_machine() -> Machine {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    qemu_io(&overlay(&machine, ALICE), &WRITES);
    assert_eq!(machine.run(&["release"]).status, 0);
    machine
}

pub fn export(machine: &Machine, to: &Path, flags: &[&str]) -> Ended {
    let arguments = ["export", "--user", ALICE, "--to", to.to_str().unwrap()];
    machine.run(&[&arguments[..], flags].concat())
}

pub fn import(machine: &Machine, from: &Path, flags: &[&str]) -> Ended {
    machine.run(&[&importing(from)[..], flags].concat())
}

pub fn importing(from: &Path) -> [&str; 5] {
    ["import", "--user", ALICE, "--from", from.to_str().unwrap()]
}

fn section(ended: &Ended, name: &str) -> Value {
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    serde_json::from_str::<Value>(&ended.stdout).unwrap()[name].take()
}

/// Status and message of a call that must fail; nothing is on its standard output.
fn refusal(ended: &Ended) -> (i32, &str) {
    assert_eq!(ended.stdout, "", "{ended:?}");
    (ended.status, &ended.stderr)
}

/// The stream of a used machine, in a file there.
pub fn stream(machine: &Machine) -> PathBuf {
    let file = machine.root().join("alice.volume");
    section(&export(machine, &file, &[]), "exported");
    file
}

fn events(machine: &Machine, event: &str) -> Vec<Value> {
    let log = machine.root().join("var/log/labtools/events.jsonl");
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["event"] == event)
        .collect()
}

pub fn same_disk(a: &Path, b: &Path) {
    qemu_img(&[
        "compare",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        a.to_str().unwrap(),
        b.to_str().unwrap(),
    ]);
}

#[test]
fn a_volume_follows_its_user_to_another_machine() {
    let here = used_machine();
    let there = another(&here);
    let before = fs::metadata(overlay(&here, ALICE)).unwrap();
    let file = here.root().join("alice.volume");
    let would = section(&export(&here, &file, &["--dry-run"]), "exported");
    assert!(!file.exists());
    let exported = section(&export(&here, &file, &[]), "exported");
    assert_eq!(exported, would);
    let after = fs::metadata(overlay(&here, ALICE)).unwrap();
    assert_eq!(
        (after.modified().unwrap(), after.blocks()),
        (before.modified().unwrap(), before.blocks()),
        "it is only read"
    );
    let found = fs::metadata(&file).unwrap();
    assert_eq!(
        (found.mode() & 0o777, json!(found.len())),
        (0o600, exported["stream_bytes"].clone())
    );
    // Only what is changed travels.
    assert_eq!(exported["data_bytes"], (3 << 20) + (1 << 16));
    assert_eq!(exported["zero_bytes"], (1 << 20) + (1 << 18));
    let undigested = here.root().join("undigested");
    let bytes = fs::read(&file).unwrap();
    fs::write(&undigested, &bytes[..bytes.len() - 32]).unwrap();
    let sum = Command::new("sha256sum").arg(undigested).output().unwrap();
    assert!(
        sum.stdout
            .starts_with(exported["sha256"].as_str().unwrap().as_bytes())
    );

    let would = section(&import(&there, &file, &["--dry-run"]), "imported");
    assert_eq!((there.left(), &would["held_bytes"]), (vec![], &json!(0)));
    let imported = section(&import(&there, &file, &[]), "imported");
    assert!(
        imported["held_bytes"].as_u64() > Some(32 << 20),
        "{imported}"
    );
    assert_eq!(imported["reserved"], true);
    for key in [
        "token",
        "base",
        "generation",
        "data_bytes",
        "zero_bytes",
        "sha256",
    ] {
        assert_eq!(
            (&imported[key], &would[key]),
            (&exported[key], &exported[key]),
            "{key}"
        );
    }
    let (old, new) = (overlay(&here, ALICE), overlay(&there, ALICE));
    assert_eq!(faults(&new), None);
    same_disk(&old, &new);
    let found = fs::metadata(&new).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600);
    let [line] = &events(&there, "import")[..] else {
        panic!("one event")
    };
    assert_eq!(
        (&line["token"], &line["sha256"], &imported["replaced"]),
        (&imported["token"], &exported["sha256"], &json!([]))
    );
    assert_eq!(line.get("user"), None, "names are not in the log");
    assert_eq!(events(&here, "export").len(), 1);

    // The next login finds it, and a guest works on.
    let volume = there.volume(ALICE, Some("windows"));
    assert_eq!(
        (&volume["created"], &volume["held_bytes"]),
        (&json!(false), &imported["held_bytes"])
    );
    qemu_io(&new, &["read -q -P 0x22 1M 2M", "write -q -P 0x44 8M 4M"]);
    assert_eq!(faults(&new), None);
}

#[test]
fn an_export_is_the_same_every_time_and_travels_on() {
    let here = used_machine();
    let there = another(&here);
    let first = stream(&here);
    section(&import(&there, &first, &[]), "imported");
    let second = stream(&there);
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}

#[test]
fn a_volume_without_changes_is_carried() {
    let here = Machine::new();
    here.volume(ALICE, Some("linux"));
    assert_eq!(here.run(&["release"]).status, 0);
    let file = here.root().join("stream");
    let exported = section(&export(&here, &file, &["--base", "linux"]), "exported");
    assert_eq!(
        (&exported["base"], &exported["data_bytes"]),
        (&json!("linux"), &json!(0))
    );
    let there = another(&here);
    section(&import(&there, &file, &[]), "imported");
    assert_eq!(tree(&there.home(ALICE)), ["linux@3.qcow2"]);
    assert_eq!(there.volume(ALICE, Some("linux"))["created"], false);
}

#[test]
fn export_takes_only_a_volume_that_nothing_uses() {
    let machine = used_machine();
    let file = machine.root().join("stream");
    let qemu = open_in_qemu(&[], &overlay(&machine, ALICE));
    let busy = export(&machine, &file, &[]);
    assert_eq!(refusal(&busy).0, 75, "{busy:?}");
    assert_eq!(refusal(&export(&machine, &file, &["--dry-run"])).0, 75);
    end(qemu);
    machine.volume(ALICE, None); // a session that has not started its guest
    assert_eq!(refusal(&export(&machine, &file, &[])).0, 75);
    assert!(!file.exists());
    assert_eq!(machine.run(&["release"]).status, 0);
    let other_base = export(&machine, &file, &["--base", "linux"]);
    assert_eq!(refusal(&other_base).0, 66);
    assert!(
        other_base
            .stderr
            .contains("the user has no volume on linux@3")
    );
    let no_base = export(&machine, &file, &["--base", "macos"]);
    assert_eq!(refusal(&no_base).0, 66);
    assert!(
        no_base.stderr.contains("--base: macos is not in"),
        "{no_base:?}"
    );
    section(&export(&machine, &file, &[]), "exported");
}

#[test]
fn while_it_is_exported_no_program_opens_it_and_others_log_in() {
    let machine = used_machine();
    let fifo = machine.root().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut child = machine
        .command(&["export", "--user", ALICE, "--to", fifo.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = File::open(&fifo).unwrap();
    let mut stream = vec![0; 100];
    reader.read_exact(&mut stream).unwrap();
    let info = Command::new("qemu-img")
        .arg("info")
        .arg(overlay(&machine, ALICE))
        .output()
        .unwrap();
    assert!(!info.status.success(), "{info:?}");
    assert_eq!(machine.volume(BOB, None)["created"], true);
    let (status, error) = machine.refusal(ALICE, None);
    assert!(
        status == 75 && error.contains("wait for the end of its export; nothing was changed"),
        "{error}"
    );
    reader.read_to_end(&mut stream).unwrap();
    assert!(child.wait().unwrap().success());
    let file = machine.root().join("stream");
    section(&export(&machine, &file, &[]), "exported");
    assert!(fs::read(file).unwrap() == stream);
}

#[test]
fn export_writes_to_new_files_and_open_descriptors_only() {
    let machine = used_machine();
    let file = machine.root().join("there");
    fs::write(&file, "already").unwrap();
    let ended = export(&machine, &file, &[]);
    assert_eq!(refusal(&ended).0, 73);
    assert!(
        ended
            .stderr
            .contains("it is there already; name a new file"),
        "{ended:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"already");
    assert_eq!(refusal(&export(&machine, machine.root(), &[])).0, 73);
    assert_eq!(
        refusal(&export(&machine, &machine.root().join("no/stream"), &[])).0,
        74
    );
    let full = export(&machine, Path::new("/dev/full"), &[]);
    assert_eq!(refusal(&full).0, 73, "{full:?}");
    for to in ["/dev/fd/1", "/dev/stdout"] {
        let ended = export(&machine, Path::new(to), &[]);
        assert_eq!(refusal(&ended).0, 2, "{ended:?}");
    }
    // A reader that leaves.
    let fifo = machine.root().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let child = machine
        .command(&["export", "--user", ALICE, "--to", fifo.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(File::open(&fifo).unwrap());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(74), 0),
        "{output:?}"
    );

    let descriptor = machine.root().join("descriptor");
    let command = machine.command(&["export", "--user", ALICE, "--to", "/dev/fd/3"]);
    let to_descriptor = format!("3>'{}'", descriptor.display());
    let output = redirected(&to_descriptor, &command).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read(descriptor).unwrap() == fs::read(stream(&machine)).unwrap());
}

#[test]
fn a_guest_that_writes_tables_of_its_own_is_not_exported() {
    let machine = used_machine();
    let file = overlay(&machine, ALICE);
    let to = machine.root().join("stream");
    // Its first L2 table lies beyond the file, in a cluster for all that the header says.
    let mut bytes = fs::read(&file).unwrap();
    let table = u64::from_be_bytes(bytes[0x30000..0x30008].try_into().unwrap()) & !(1 << 63);
    bytes[table as usize..table as usize + 8].copy_from_slice(&(1u64 << 62).to_be_bytes());
    fs::write(&file, bytes).unwrap();
    let ended = export(&machine, &to, &[]);
    assert_eq!(refusal(&ended).0, 65, "{ended:?}");
    let backing = qemu_img(&["info", "-U", file.to_str().unwrap()]);
    assert!(backing.contains("backing"));
    qemu_img(&[
        "rebase",
        "-u",
        "-F",
        "raw",
        "-b",
        "/etc/passwd",
        file.to_str().unwrap(),
    ]);
    assert_eq!(refusal(&export(&machine, &to, &[])).0, 65);
    assert!(!to.exists() && !machine.root().join(".stream.tmp").exists());
}

#[test]
fn a_stream_is_for_its_user_and_its_base_alone() {
    let here = used_machine();
    let file = stream(&here);
    let there = another(&here);
    let refused = |machine: &Machine, status: i32, message: &str| {
        let ended = import(machine, &file, &[]);
        assert_eq!(refusal(&ended).0, status, "{ended:?}");
        assert!(ended.stderr.contains(message), "{ended:?}");
        assert_eq!(machine.left(), [""; 0]);
    };
    let arguments = ["import", "--user", BOB, "--from", file.to_str().unwrap()];
    let ended = there.run(&arguments);
    assert_eq!(refusal(&ended).0, 65);
    assert!(ended.stderr.contains("it is of another user"), "{ended:?}");

    // A base of the same size with the same tables' places, and other tables.
    qemu_io(
        &base_path(there.root(), "windows", 7),
        &["write -q -P 0x99 8M 64k"],
    );
    refused(&there, 65, "made on another windows@7: it has a file of");
    let other = Machine::new();
    make_base(other.root(), "windows", 7, &["64M"]);
    refused(&other, 65, "made on another windows@7: it has a disk of");
    make_base(other.root(), "windows", 8, &["32M"]);
    let ini = "[base.windows]\nname=Windows 10\nostype=windows\ngeneration=8\n";
    write_bases_ini(other.root(), ini);
    refused(&other, 78, "import it where windows@7 is current");
    write_bases_ini(other.root(), &ini.replace("base.windows", "base.macos"));
    refused(&other, 66, "does not offer windows");
    fs::remove_file(base_path(there.root(), "windows", 7)).unwrap();
    refused(&there, 66, "put the image there");
}

#[test]
fn a_signed_manifest_is_compared_where_both_machines_have_one() {
    let here = used_machine();
    let there = another(&here);
    let publish = |machine: &Machine, generation: u64| {
        trust(machine.root());
        let mut base = describe(machine.root(), "windows", generation);
        base.generation = 7;
        let (manifest, signature) = sealed(&base);
        let image = base_path(machine.root(), "windows", 7);
        fs::write(image.with_extension("manifest"), manifest).unwrap();
        fs::write(image.with_extension("sig"), signature).unwrap();
    };
    publish(&here, 7);
    let file = stream(&here);
    section(&import(&there, &file, &["--dry-run"]), "imported");
    publish(&there, 7);
    section(&import(&there, &file, &["--dry-run"]), "imported");
    make_base(there.root(), "windows", 9, &["32M"]);
    publish(&there, 9);
    let ended = import(&there, &file, &["--dry-run"]);
    assert_eq!(refusal(&ended).0, 65);
    assert!(
        ended.stderr.contains("its manifest has another SHA-256"),
        "{ended:?}"
    );
}

#[test]
fn a_volume_that_is_there_is_replaced_only_when_told() {
    let here = used_machine();
    let file = stream(&here);
    let there = another(&here);
    used_volume(&there, ALICE, 3, 1);
    let theirs = overlay(&there, ALICE);
    let before = fs::read(&theirs).unwrap();
    let unchanged = || assert!(fs::read(&theirs).unwrap() == before && there.left().len() == 2);
    let ended = import(&there, &file, &[]);
    assert_eq!(refusal(&ended).0, 73);
    assert!(
        ended
            .stderr
            .contains("the user has a volume there; --replace"),
        "{ended:?}"
    );
    unchanged();
    let would = section(
        &import(&there, &file, &["--replace", "--dry-run"]),
        "imported",
    );
    assert_eq!(would["replaced"].as_array().unwrap().len(), 1);
    unchanged();

    let qemu = open_in_qemu(&[], &theirs);
    assert_eq!(refusal(&import(&there, &file, &["--replace"])).0, 75);
    end(qemu);
    let cut = there.root().join("cut");
    let whole = fs::read(&file).unwrap();
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let ended = import(&there, &cut, &["--replace"]);
    assert_eq!(refusal(&ended).0, 65);
    assert!(ended.stderr.contains("it was cut off"), "{ended:?}");
    unchanged();
    there.volume(ALICE, None);
    assert_eq!(
        refusal(&import(&there, &file, &["--replace"])).0,
        75,
        "a session has it"
    );
    assert_eq!(there.run(&["release"]).status, 0);

    let imported = section(&import(&there, &file, &["--replace"]), "imported");
    assert_eq!(imported["replaced"][0]["what"], "volume");
    same_disk(&overlay(&here, ALICE), &theirs);
    assert_eq!((faults(&theirs), there.left().len()), (None, 2));
    let [line] = &events(&there, "replace")[..] else {
        panic!("one event")
    };
    assert_eq!(
        (&line["token"], &line["for"]),
        (&imported["token"], &imported["token"])
    );
}

/// An import that waits at a FIFO for the rest of a stream.
fn waiting_import(machine: &Machine, stream: &[u8], flags: &[&str]) -> (Child, File) {
    let fifo = machine.root().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let child = heeding_signals(CLONE.binary)
        .args([&importing(&fifo)[..], flags].concat())
        .arg("--root")
        .arg(machine.root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = File::options().write(true).open(&fifo).unwrap();
    writer.write_all(stream).unwrap(); // more than a pipe holds, so it has begun
    (child, writer)
}

#[test]
fn while_it_is_imported_others_log_in_and_nothing_takes_it_away() {
    let here = used_machine();
    let stream = fs::read(stream(&here)).unwrap();
    let there = another(&here);
    let (child, mut writer) = waiting_import(&there, &stream[..2 << 20], &[]);
    let half = there.home(ALICE).join(".windows@7.qcow2.tmp");
    assert!(half.exists() && !overlay(&there, ALICE).exists());
    assert_eq!(there.volume(BOB, None)["created"], true);
    let (status, error) = there.refusal(ALICE, None);
    assert!(
        status == 75 && error.contains("it is being imported; try again when that has ended"),
        "{error}"
    );
    assert_eq!(refusal(&there.run(&["discard", "--user", ALICE])).0, 75);
    assert_eq!(
        there.list()["catalog"]["bases"][1]["volumes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(half.exists());
    writer.write_all(&stream[2 << 20..]).unwrap();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    same_disk(&overlay(&here, ALICE), &overlay(&there, ALICE));
    assert!(!half.exists());
}

#[test]
fn a_volume_that_was_used_meanwhile_is_not_replaced() {
    let here = used_machine();
    let stream = fs::read(stream(&here)).unwrap();
    let there = another(&here);
    used_volume(&there, ALICE, 3, 1);
    let (child, mut writer) = waiting_import(&there, &stream[..2 << 20], &["--replace"]);
    assert_eq!(there.volume(ALICE, None)["created"], false);
    qemu_io(&overlay(&there, ALICE), &["write -q -P 0x66 4M 1M"]);
    assert_eq!(there.run(&["release"]).status, 0);
    writer.write_all(&stream[2 << 20..]).unwrap();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    qemu_io(&overlay(&there, ALICE), &["read -q -P 0x66 4M 1M"]);
    assert_eq!(tree(&there.home(ALICE)), ["windows@7.qcow2"]);
}

#[test]
fn a_switch_over_while_it_is_imported_ends_it() {
    let here = used_machine();
    let stream = fs::read(stream(&here)).unwrap();
    let there = another(&here);
    let (child, mut writer) = waiting_import(&there, &stream[..2 << 20], &[]);
    make_base(there.root(), "windows", 8, &["48M"]);
    let ini = "[base.windows]\nname=Windows 11\nostype=windows\ngeneration=8\n";
    write_bases_ini(there.root(), ini);
    let pruned = there.run(&["prune"]);
    assert!(
        pruned
            .stdout
            .contains(r#"{"base":"windows","generation":7,"volumes":1,"reason":"/qcow2/user/"#),
        "{pruned:?}"
    );
    writer.write_all(&stream[2 << 20..]).unwrap();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert_eq!(there.left(), [""; 0]);
}

#[test]
fn a_signal_ends_an_import_that_waits_and_nothing_is_left() {
    let here = used_machine();
    let stream = fs::read(stream(&here)).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let there = another(&here);
        let (child, writer) = waiting_import(&there, &stream[..2 << 20], &[]);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(signal as i32), "{output:?}");
        assert_eq!((there.left(), output.stderr.len()), (vec![], 0));
        drop(writer);
    }
}

#[test]
fn import_takes_no_stream_that_is_damaged_or_cut() {
    let here = used_machine();
    let whole = fs::read(stream(&here)).unwrap();
    let there = another(&here);
    let file = there.root().join("stream");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1; // in the data of the guest
    fs::write(&file, damaged).unwrap();
    let ended = import(&there, &file, &[]);
    assert_eq!(ended.status, 65, "a damaged stream was taken: {ended:?}");
    assert!(
        ended.stderr.contains("its SHA-256 is not that"),
        "{ended:?}"
    );
    // Cut where a record, its data or the digest begins or ends.
    for length in [
        0,
        24,
        whole.len() / 2,
        whole.len() - 52,
        whole.len() - 32,
        whole.len() - 1,
    ] {
        fs::write(&file, &whole[..length]).unwrap();
        let ended = import(&there, &file, &[]);
        assert_eq!(refusal(&ended).0, 65, "{length}: {ended:?}");
        assert!(ended.stderr.contains("it was cut off"), "{ended:?}");
    }
    assert_eq!((there.left(), events(&there, "import")), (vec![], vec![]));
}

#[test]
fn import_reads_files_that_are_no_stream_without_a_trace() {
    let machine = Machine::new();
    let file = machine.root().join("file");
    for content in [&b""[..], b"QFI\xfb", &[0; 4096], b"labtools volume\n"] {
        fs::write(&file, content).unwrap();
        let ended = import(&machine, &file, &[]);
        assert_eq!(refusal(&ended).0, 65, "{ended:?}");
    }
    assert_eq!(
        refusal(&import(&machine, &machine.root().join("none"), &[])).0,
        66
    );
    assert_eq!(refusal(&import(&machine, machine.root(), &[])).0, 74);
    assert_eq!(machine.left(), [""; 0]);
}

#[test]
fn a_document_that_cannot_be_delivered_leaves_what_is_done() {
    let here = used_machine();
    let file = here.root().join("stream");
    let command = here.command(&["export", "--user", ALICE, "--to", file.to_str().unwrap()]);
    let output = redirected(">/dev/full", &command).output().unwrap();
    assert_eq!(
        (output.status.code(), file.exists()),
        (Some(1), true),
        "{output:?}"
    );
    let there = another(&here);
    let command = there.command(&importing(&file));
    let output = redirected(">/dev/full", &command).output().unwrap();
    assert_eq!(
        (output.status.code(), overlay(&there, ALICE).exists()),
        (Some(1), true)
    );
}

/// On ZFS, where scripts/lab/test-zfs-volumes gives the tests a pool.
mod zfs {
    use super::*;
    use crate::machine::disk::succeed;
    use crate::machine::two_bases;

    /// With the published images, from which the bases could have been made.
    fn with_images() -> Machine {
        let machine = Machine::new();
        two_bases(machine.root());
        machine
    }

    fn with_images_of(other: &Machine) -> Machine {
        let machine = with_images();
        let image = base_path(machine.root(), "windows", 7);
        fs::copy(base_path(other.root(), "windows", 7), image).unwrap();
        machine
    }

    fn same_volume(a: &Machine, b: &Machine) {
        let [a, b] = [a, b].map(|machine| machine.disk(ALICE, "windows").path);
        let raw = ["compare", "-q", "-f", "raw", "-F", "raw"];
        qemu_img(&[&raw[..], &[a.to_str().unwrap(), b.to_str().unwrap()]].concat());
    }

    #[test]
    #[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
    fn a_volume_is_compared_with_its_base_and_made_again() {
        let here = with_images();
        here.volume(ALICE, Some("windows"));
        let disk = here.disk(ALICE, "windows");
        disk.io(&WRITES);
        assert_eq!(here.run(&["release"]).status, 0);
        let qemu = disk.open();
        let file = here.root().join("alice.volume");
        assert_eq!(refusal(&export(&here, &file, &[])).0, 75);
        end(qemu);
        let exported = section(&export(&here, &file, &[]), "exported");
        // Zeros where the base has zeros are no change.
        assert_eq!(exported["data_bytes"], (3 << 20) + (1 << 16));
        assert_eq!(exported["zero_bytes"], 1 << 18);

        // A machine that keeps qcow2 files takes the same stream.
        let files = with_images_of(&here);
        let ini = files.root().join("etc/labtools/cowvol.ini");
        fs::write(ini, "[room]\nreserve = 0\n").unwrap();
        section(&import(&files, &file, &[]), "imported");
        let [raw, qcow2] = [
            disk.path.to_str().unwrap(),
            overlay(&files, ALICE).to_str().unwrap(),
        ]
        .map(str::to_owned);
        qemu_img(&["compare", "-q", "-f", "raw", "-F", "qcow2", &raw, &qcow2]);
        let back = files.root().join("back");
        section(&export(&files, &back, &[]), "exported");
        assert!(fs::read(back).unwrap() == fs::read(&file).unwrap());

        let there = with_images_of(&here);
        let damaged = there.root().join("damaged");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&damaged, bytes).unwrap();
        assert_eq!(refusal(&import(&there, &damaged, &[])).0, 65);
        assert_eq!(there.left(), [""; 0]);

        let imported = section(&import(&there, &file, &[]), "imported");
        assert_eq!(
            (&imported["sha256"], &imported["reserved"]),
            (&exported["sha256"], &json!(true))
        );
        same_volume(&here, &there);
        let login = there.volume(ALICE, Some("windows"));
        assert_eq!(login["created"], false);
        there.disk(ALICE, "windows").io(&["write -q -P 0x66 4M 8M"]);
        assert_eq!(refusal(&import(&there, &file, &["--replace"])).0, 75);
        assert_eq!(there.run(&["release"]).status, 0);
        assert_eq!(refusal(&import(&there, &file, &[])).0, 73);
        assert_eq!(refusal(&import(&there, &damaged, &["--replace"])).0, 65);
        there.disk(ALICE, "windows").io(&["read -q -P 0x66 4M 8M"]);
        let replaced = section(&import(&there, &file, &["--replace"]), "imported");
        assert_eq!(replaced["replaced"][0]["what"], "volume");
        same_volume(&here, &there);
        assert_eq!(there.left().len(), 2, "{:?}", there.left());
    }

    /// The states that a kill leaves between the calls of ZFS, made by hand.
    #[test]
    #[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
    fn remains_of_an_import_are_no_volume_and_go() {
        let here = with_images();
        here.volume(ALICE, Some("windows"));
        here.disk(ALICE, "windows").io(&["write -q -P 0x11 8M 1M"]);
        assert_eq!(here.run(&["release"]).status, 0);
        let file = stream(&here);
        let node = here.disk(ALICE, "windows").path;
        let volume = node.strip_prefix("/dev/zvol").unwrap().to_str().unwrap();
        let base = volume.split("/user/").next().unwrap().to_owned() + "/base/windows@7";

        // Killed while the volume was filled.
        let half_made = format!("{volume}:7:tmp");
        succeed("zfs", &["clone", &base, &half_made]);
        assert_eq!(
            here.list()["catalog"]["bases"][1]["volumes"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        section(&import(&here, &file, &["--replace"]), "imported");
        assert_eq!(here.left().len(), 2, "{:?}", here.left());
        // Killed when the old one was aside: it is the user's volume.
        let aside = format!("{volume}:7");
        succeed("zfs", &["rename", volume, &aside]);
        succeed("zfs", &["clone", &base, &half_made]);
        assert_eq!(
            here.list()["catalog"]["bases"][1]["volumes"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        section(&import(&here, &file, &["--replace"]), "imported");
        assert_eq!(here.left().len(), 2, "{:?}", here.left());
        // Killed before the old one went: the new one is the user's volume.
        succeed("zfs", &["clone", &base, &aside]);
        let volumes = here.list()["catalog"]["bases"][1]["volumes"].clone();
        assert_eq!(volumes.as_array().unwrap().len(), 1);
        here.disk(ALICE, "windows").io(&["read -q -P 0x11 8M 1M"]);
        section(&import(&here, &file, &["--replace"]), "imported");
        assert_eq!(here.left().len(), 2, "{:?}", here.left());
        here.disk(ALICE, "windows").io(&["read -q -P 0x11 8M 1M"]);
    }
}
