//! Only on ZFS: `cowvol` killed after each change that it makes to the pool.
//!
//! The `zfs` that it finds calls the real one, and then kills its caller, which that one never does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::check::checked;
use crate::evict::used_volume;
use crate::machine::disk::succeed;
use crate::machine::store::node_of;
use crate::machine::{ALICE, Machine, request};
use crate::restore::{a_day_passes, end_session};

const RESTORE: [&str; 4] = ["restore", "--user", ALICE, "--to"];

/// Runs a subcommand, which is killed after so many changes; false when it made fewer, and succeeded.
fn is_killed_after(changes: usize, machine: &Machine, arguments: &[&str], input: &str) -> bool {
    let path = std::env::var("PATH").unwrap();
    let bin = zfs_that_kills(machine, changes, &path);
    let document = machine.root().join("request");
    fs::write(&document, input).unwrap();
    let ended = machine
        .command(arguments)
        .env("PATH", format!("{}:{path}", bin.display()))
        .stdin(File::open(document).unwrap())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let is_killed = ended.status.signal() == Some(Signal::SIGKILL as i32);
    assert!(is_killed || ended.status.success(), "{changes}: {ended:?}");
    is_killed
}

/// Makes the program; the directory in which it is. It lists its calls in the file `calls`.
fn zfs_that_kills(machine: &Machine, changes: usize, path: &str) -> PathBuf {
    let mut directories = path.split(':').map(Path::new);
    let real = directories.find(|directory| directory.join("zfs").exists());
    let [bin, calls, done] = ["bin", "calls", "changes"].map(|name| machine.root().join(name));
    fs::create_dir_all(&bin).unwrap();
    fs::write(&calls, "").unwrap();
    fs::write(&done, "").unwrap();
    let script = format!(
        "#!/bin/sh\n{real}/zfs \"$@\"\nstatus=$?\necho \"$1\" >>{calls}\n\
         case \"$1 $2\" in 'get '* | 'list '* | 'create -n'*) exit $status ;; esac\n\
         echo >>{done}\n[ \"$(wc -l <{done})\" -ne {changes} ] || kill -KILL $PPID\nexit $status\n",
        real = real.expect("zfs").display(),
        calls = calls.display(),
        done = done.display(),
    );
    fs::write(bin.join("zfs"), script).unwrap();
    fs::set_permissions(bin.join("zfs"), fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

/// The one volume of the list, and the byte at 1 MiB of its device.
fn volume_and_byte(machine: &Machine) -> (Value, u8) {
    let volumes = machine.list()["catalog"]["bases"][1]["volumes"].take();
    let [volume] = volumes.as_array().unwrap().as_slice() else {
        panic!("the user has not one volume: {volumes}")
    };
    let path = volume["path"].as_str().unwrap();
    let node = node_of(path.strip_prefix("/dev/zvol/").unwrap());
    let mut byte = [0];
    let device = File::open(node).unwrap();
    device.read_exact_at(&mut byte, 1 << 20).unwrap();
    (volume.clone(), byte[0])
}

fn write(machine: &Machine, pattern: u8) {
    let disk = machine.disk(ALICE, "windows");
    disk.io(&[&format!("write -q -P {pattern} 1M 64k")]);
}

/// The next login, with its session.
fn log_in(machine: &Machine) {
    machine.volume(ALICE, Some("windows"));
    end_session(machine);
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn restore_to_clean_killed_after_any_change_leaves_a_whole_volume() {
    const OF_BASE: u8 = 0x55;
    const OF_USER: u8 = 0x22;
    let machine = Machine::new();
    used_volume(&machine, ALICE, 0, 1);
    let before = machine.left();
    let clean = [&RESTORE[..], &["clean"]].concat();
    let mut found = BTreeSet::new();
    for changes in 1.. {
        write(&machine, OF_USER);
        let is_killed = is_killed_after(changes, &machine, &clean, "");
        let (_, byte) = volume_and_byte(&machine);
        found.insert(byte);
        log_in(&machine);
        assert_eq!(volume_and_byte(&machine).1, byte, "{changes}");
        machine.disk(ALICE, "windows").io(&["read -q 0 1M"]);
        assert_eq!(machine.left(), before, "{changes}");
        assert_eq!(checked(&machine), [""; 0], "{changes}");
        if !is_killed {
            break;
        }
    }
    assert_eq!(found, BTreeSet::from([OF_USER, OF_BASE]));
}

#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn a_login_killed_after_any_change_leaves_a_restore_point() {
    let machine = Machine::new();
    log_in(&machine);
    let to_point = [&RESTORE[..], &["yesterday"]].concat();
    let goes_back = |machine: &Machine| {
        assert_eq!(machine.run(&to_point).status, 0);
        volume_and_byte(machine).1
    };
    write(&machine, 1);
    a_day_passes(&machine);
    log_in(&machine);
    let mut found = BTreeSet::new();
    for changes in 1.. {
        let present = u8::try_from(changes).unwrap() + 1;
        write(&machine, present);
        a_day_passes(&machine);
        let login = request(ALICE, Some("windows"));
        let is_killed = is_killed_after(changes, &machine, &["clone"], &login);
        let (volume, byte) = volume_and_byte(&machine);
        assert!(
            volume["restore_point_at"].is_string(),
            "{changes}: {volume}"
        );
        assert_eq!(byte, present, "{changes}");
        end_session(&machine);
        found.insert(present - goes_back(&machine));
        log_in(&machine);
        let snapshots = succeed(
            "zfs",
            &[
                "list",
                "-Hro",
                "name",
                "-t",
                "snapshot",
                &format!("{}/user", machine.pool().0),
            ],
        );
        let names: Vec<&str> = snapshots
            .lines()
            .filter_map(|of| of.split('@').nth(1))
            .collect();
        assert_eq!(names, ["yesterday"], "{changes}");
        assert_eq!(checked(&machine), [""; 0], "{changes}");
        if !is_killed {
            break;
        }
        // The point of the next round contains this.
        write(&machine, present);
        a_day_passes(&machine);
        log_in(&machine);
    }
    assert_eq!(
        found,
        BTreeSet::from([0, 1]),
        "the new one, or the one before"
    );
}

/// ZFS is asked for all volumes at once: a call for each takes long where there are many.
#[test]
#[ignore = "on a pool: scripts/lab/test-zfs-volumes"]
fn a_removal_asks_zfs_as_often_for_one_volume_as_for_two() {
    let machine = Machine::new();
    let asked = [&["windows"][..], &["windows", "linux"]].map(|bases| {
        for base in bases {
            machine.volume(ALICE, Some(base));
        }
        end_session(&machine);
        let is_killed = is_killed_after(1000, &machine, &["discard", "--user", ALICE], "");
        assert!(!is_killed && !machine.has_home(ALICE));
        let calls = fs::read_to_string(machine.root().join("calls")).unwrap();
        let count = |call: &str| calls.lines().filter(|of| *of == call).count();
        assert!(count("destroy") > bases.len(), "{calls}");
        count("get")
    });
    assert_eq!(asked, [1, 1]);
}
