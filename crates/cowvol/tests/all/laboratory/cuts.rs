//! Power cuts: sessions on a disk whose every write is logged, and the machine that each cut leaves.
//!
//! `LABTOOLS_SEED=N` chooses again what a failed run had lost, and `LABTOOLS_SUBSETS=N` makes more choices.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use cowvol::Token;
use serde_json::json;

use crate::machine::guest::Guest;
use crate::machine::logged::{Cut, Log, LoggedDisk, mount, unmount};
use crate::machine::signed::{describe, new_windows, trust};
use crate::machine::{ALICE, BOB, Machine, two_bases};

const CAROL: &str = "carol@uni-a.example";

/// What happened on a disk. Times are numbers of entries in its log.
#[derive(Default)]
struct Story {
    /// When each step began.
    steps: Vec<(u64, String)>,
    /// When a step began that made a volume, and when one began that removed it.
    made: Vec<(u64, String)>,
    removed: Vec<(u64, String)>,
    /// When the desk was told that a volume is gone.
    discarded: Vec<(u64, String)>,
    /// What was true, of a volume, from a time on.
    promises: Vec<(u64, String, Promised)>,
    /// When generation 8 had become current.
    switched_over: Option<u64>,
}

enum Promised {
    IsThere,
    /// A guest has flushed a piece of 512 KiB.
    Holds {
        mib: u64,
        pattern: u8,
    },
}

/// Sessions on a logged disk.
struct Sessions {
    machine: Machine,
    disk: LoggedDisk,
    story: Story,
}

impl Sessions {
    fn on(kind: &str, mib: u64) -> Sessions {
        let machine = Machine::bare();
        let root = machine.root();
        let disk = LoggedDisk::new(kind, mib, &root.join("qcow2"), || {
            two_bases(root);
            trust(root);
            new_windows(root, 8);
        });
        let story = Story::default();
        Sessions {
            machine,
            disk,
            story,
        }
    }

    /// Does a step, and notes the volumes that it makes and removes.
    fn step<T>(&mut self, name: &str, act: impl FnOnce(&Machine) -> T) -> T {
        let (begun, before) = (self.disk.entries(), volumes(&self.machine));
        let done = act(&self.machine);
        let (ended, after) = (self.disk.entries(), volumes(&self.machine));
        self.story.steps.push((begun, name.to_owned()));
        for volume in after.difference(&before) {
            self.story.made.push((begun, volume.clone()));
            self.story
                .promises
                .push((ended, volume.clone(), Promised::IsThere));
        }
        let removed = before.difference(&after);
        if name == "discard" {
            let told = removed.clone().map(|volume| (ended, volume.clone()));
            self.story.discarded.extend(told);
        }
        self.story
            .removed
            .extend(removed.map(|volume| (begun, volume.clone())));
        done
    }

    /// A login, a guest that writes and flushes, and the end of the session.
    fn session(&mut self, user: &str, base: Option<&str>) {
        let volume = self.step("clone", |machine| machine.volume(user, base));
        let path = volume["path"]
            .as_str()
            .unwrap()
            .strip_prefix("/qcow2/user/")
            .unwrap();
        let mut guest = Guest::open(&self.machine.users().join(path));
        for (pattern, mib) in (1..).zip([1, 20, 9]) {
            self.step("guest", |_| {
                guest.does(&[&format!("write -q -P {pattern} {mib}M 512k"), "flush"])
            });
            let held = Promised::Holds { mib, pattern };
            self.story
                .promises
                .push((self.disk.entries(), path.to_owned(), held));
        }
        guest.does(&["write -q -P 0xee 25M 1M"]);
        guest.shuts_down();
        self.step("release", |machine| succeeds(machine, &["release"]));
    }

    /// At the desk: the user's volume stays, and its content goes.
    fn restore(&mut self, user: &str, to: &str) {
        let begun = self.disk.entries();
        let arguments = ["restore", "--user", user, "--base", "windows", "--to", to];
        self.step("restore", |machine| succeeds(machine, &arguments));
        let token = Token::of(user);
        for volume in volumes(&self.machine)
            .into_iter()
            .filter(|volume| volume.starts_with(token.as_str()))
        {
            self.story.removed.push((begun, volume.clone()));
            self.story
                .promises
                .push((begun + 1, volume, Promised::IsThere));
        }
    }
}

fn succeeds(machine: &Machine, arguments: &[&str]) {
    let ended = machine.run(arguments);
    assert_eq!(ended.status, 0, "{arguments:?}: {ended:?}");
}

/// The volumes of a machine, by their names below the directory of all; half-made ones are none.
fn volumes(machine: &Machine) -> BTreeSet<String> {
    let names = machine.left().into_iter();
    names
        .filter(|name| name.ends_with(".qcow2") && !name.contains("/."))
        .collect()
}

/// Each subcommand that changes the disk, one session after the other.
fn all_sessions(kind: &str, mib: u64) -> (Machine, Log, Story) {
    let mut sessions = Sessions::on(kind, mib);
    sessions.session(ALICE, Some("windows"));
    sessions.session(BOB, Some("windows"));
    sessions.session(ALICE, Some("windows"));
    sessions.machine.leave_room(32);
    sessions.session(CAROL, Some("windows"));
    assert!(
        !sessions.machine.home(BOB).exists(),
        "there was room for all"
    );
    let users = sessions.machine.users();
    fs::remove_file(users.join("ballast")).unwrap();
    fs::File::open(users).unwrap().sync_all().unwrap();
    sessions.step("discard", |machine| {
        succeeds(machine, &["discard", "--user", ALICE])
    });
    sessions.step("install-base", |machine| {
        machine.installed(&describe(machine.root(), "windows", 8), &[]);
    });
    sessions.story.switched_over = Some(sessions.disk.entries());
    sessions.session(ALICE, None);
    sessions.restore(ALICE, "clean");
    sessions.session(ALICE, None);
    let stream = sessions.machine.root().join("stream");
    let stream = stream.to_str().unwrap();
    let export = ["export", "--user", ALICE, "--to", stream];
    sessions.step("export", |machine| succeeds(machine, &export));
    sessions.step("discard", |machine| {
        succeeds(machine, &["discard", "--user", ALICE])
    });
    let import = ["import", "--user", ALICE, "--from", stream];
    sessions.step("import", |machine| succeeds(machine, &import));
    (sessions.machine, sessions.disk.end(), sessions.story)
}

impl Story {
    /// Whether what was promised at a time still has to hold at a cut.
    fn still_holds(&self, from: u64, volume: &str, cut: u64) -> bool {
        let was_removed =
            |(begun, removed): &(u64, String)| removed == volume && (from..cut).contains(begun);
        from <= cut && !self.removed.iter().any(was_removed)
    }

    fn step_at(&self, cut: u64) -> &str {
        let before = self.steps.iter().rev().find(|(begun, _)| *begun < cut);
        before.map_or("nothing", |(_, name)| name)
    }

    /// What is wrong with the machine that a cut left; `user` then logs in.
    fn judge(&self, machine: &Machine, cut: u64, user: &str) -> Result<(), String> {
        let there = volumes(machine);
        for volume in &there {
            if !self
                .made
                .iter()
                .any(|(begun, made)| made == volume && *begun < cut)
            {
                return Err(format!("{volume} is there before it was made"));
            }
            sound(&machine.users().join(volume))?;
        }
        for (told, volume) in &self.discarded {
            let made =
                |(begun, made): &(u64, String)| made == volume && (*told..cut).contains(begun);
            if *told <= cut && there.contains(volume) && !self.made.iter().any(made) {
                return Err(format!("{volume} was discarded, and is back"));
            }
        }
        for (from, volume, promised) in &self.promises {
            if !self.still_holds(*from, volume, cut) {
                continue;
            }
            match promised {
                Promised::IsThere if there.contains(volume) => {}
                Promised::IsThere => return Err(format!("{volume} is gone")),
                Promised::Holds { mib, pattern } => holds(machine, volume, *mib, *pattern)?,
            }
        }
        let login = machine.clone(user, Some("windows"));
        if login.status != 0 {
            return Err(format!("the next login of {user}: {login:?}"));
        }
        let volume = &login.section("volume");
        let generation = volume["generation"].as_u64();
        if self.switched_over.is_some_and(|at| at <= cut) && generation != Some(8) {
            return Err(format!("the generation is {generation:?}"));
        }
        let path = volume["path"]
            .as_str()
            .unwrap()
            .strip_prefix("/qcow2/user/")
            .unwrap();
        if volume["created"] != json!(!there.contains(path)) {
            return Err(format!("{path} was made anew: {volume}"));
        }
        sound(&machine.users().join(path))?;
        // Beside a whole volume, what is half made waits for an eviction, in which it goes first.
        let half_made = format!("{}/.{}.tmp", &path[..38], &path[39..]);
        if volume["created"] == true && machine.left().contains(&half_made) {
            return Err(format!("{half_made} is left"));
        }
        Ok(())
    }
}

/// Whether qemu-img finds nothing against an image, apart from clusters that nothing refers to.
fn sound(image: &Path) -> Result<(), String> {
    let check = Command::new("qemu-img")
        .args(["check", "-f", "qcow2"])
        .arg(image)
        .output();
    match check.unwrap() {
        check if check.status.success() || check.status.code() == Some(3) => Ok(()),
        check => Err(format!("{}: {check:?}", image.display())),
    }
}

fn holds(machine: &Machine, volume: &str, mib: u64, pattern: u8) -> Result<(), String> {
    let read = Command::new("qemu-io")
        .args([
            "-r",
            "-f",
            "qcow2",
            "-c",
            &format!("read -q -P {pattern} {mib}M 512k"),
        ])
        .arg(machine.users().join(volume))
        .output()
        .unwrap();
    let is_there = read.status.success() && read.stdout.is_empty();
    is_there
        .then_some(())
        .ok_or_else(|| format!("{volume} has lost what its guest had flushed: {read:?}"))
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|number| number.parse().expect("a number"))
}

#[expect(clippy::print_stdout, reason = "so that a run can be repeated")]
fn each_cut_leaves_what_was_promised(kind: &str, mib: u64, subsets: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("LABTOOLS_SEED").unwrap_or(now.as_secs());
    let subsets = setting("LABTOOLS_SUBSETS").unwrap_or(subsets);
    let (before, log, story) = all_sessions(kind, mib);
    let cuts = log.cuts(seed, subsets as usize);
    let (mut number, mut bad) = (0, Vec::new());
    log.replay(&cuts, |cut: Cut, disk| {
        let machine = Machine::bare();
        let store = machine.root().join("qcow2");
        fs::create_dir(&store).unwrap();
        mount(disk.to_str().unwrap(), &store);
        let user = [ALICE, BOB, CAROL][number % 3];
        number += 1;
        if let Err(wrong) = story.judge(&machine, cut.after as u64, user) {
            bad.push(format!(
                "{cut:?}, during {}: {wrong}",
                story.step_at(cut.after as u64)
            ));
        }
        unmount(&store);
    });
    drop(before);
    println!("{kind}: {} power cuts, LABTOOLS_SEED={seed}", cuts.len());
    let examples = bad
        .iter()
        .take(3)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        bad.is_empty(),
        "{} of {} power cuts broke a promise, with LABTOOLS_SEED={seed}:\n{examples}",
        bad.len(),
        cuts.len()
    );
}

/// SIGKILL at any time loses nothing that the guest had flushed.
#[test]
fn a_qemu_that_is_killed_leaves_what_its_guest_had_flushed() {
    let machine = Machine::new();
    for round in 0..9 {
        let volume = machine.volume(ALICE, Some("windows"));
        assert_eq!(volume["created"], json!(round == 0));
        let name = volume["path"]
            .as_str()
            .unwrap()
            .strip_prefix("/qcow2/user/")
            .unwrap();
        assert_eq!(sound(&machine.users().join(name)), Ok(()));
        let place = |round| 3 * u64::from(round) + 1;
        for before in 0..round {
            assert_eq!(holds(&machine, name, place(before), before + 1), Ok(()));
        }
        let mut guest = Guest::open(&machine.users().join(name));
        let (mib, pattern) = (place(round), round + 1);
        guest.does(&[&format!("write -q -P {pattern} {mib}M 512k"), "flush"]);
        // These are on their way when it is killed.
        guest.does(&[
            &format!("aio_write -q -P 0xee {}M 1M", mib + 1),
            "aio_write -q -P 0xee 30M 1M",
        ]);
        drop(guest);
    }
}

#[test]
fn xfs_each_power_cut_leaves_what_was_promised() {
    each_cut_leaves_what_was_promised("xfs", 340, 0);
}

#[test]
fn ext4_each_power_cut_leaves_what_was_promised() {
    each_cut_leaves_what_was_promised("ext4", 192, 1);
}
