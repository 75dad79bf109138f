//! `cowvol prune` of volumes whose users do not come back, and the clocks that it does not believe.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::libc::SYS_flock;
use nix::sys::wait::WaitStatus;
use serde_json::{Value, json};

use crate::evict::{events, used_volume};
use crate::machine::{ALICE, BOB, Machine};
use crate::prune::end;

const CAROL: &str = "carol@uni-a.example";
const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

fn configure(machine: &Machine, idle_days: &str) {
    machine.configure(&format!("[room]\nidle_days = {idle_days}\n"));
}

/// Sets the time of the last look.
fn looked_at(machine: &Machine, time: SystemTime) {
    let file = machine.root().join("var/lib/labtools/cowvol.clock");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let times = FileTimes::new().set_modified(time);
    File::create(file).unwrap().set_times(times).unwrap();
}

/// Volumes may be idle for 30 days. alice's is for 40, bob's for 100, carol's for 20; the last look
/// was yesterday.
pub fn idle_volumes(machine: &Machine) {
    configure(machine, "30");
    for (user, days) in [(ALICE, 40), (BOB, 100), (CAROL, 20)] {
        used_volume(machine, user, days, 1);
    }
    looked_at(machine, ago(DAY));
}

fn idle_machine(machine: Machine) -> Machine {
    idle_volumes(&machine);
    machine
}

fn tokens(pruned: &Value) -> Vec<String> {
    let idle = pruned["idle"].as_array().unwrap().iter();
    idle.map(|gone| gone["token"].as_str().unwrap().to_owned())
        .collect()
}

fn token(user: &str) -> String {
    cowvol::Token::of(user).as_str().to_owned()
}

/// Nothing goes, for this reason.
fn waits(machine: &Machine, reason: &str) {
    let would = machine.pruned(&["--dry-run"]);
    let pruned = machine.pruned(&[]);
    assert_eq!(would, pruned);
    assert_eq!(
        (&pruned["idle"], &pruned["changed"]),
        (&json!([]), &json!(false))
    );
    assert_eq!(pruned["postponed"], reason);
    assert!(machine.has(ALICE, "windows") && machine.has(BOB, "windows"));
}

#[test]
fn idle_volumes_go_the_least_recently_used_first() {
    let machine = idle_machine(Machine::new());
    let before = machine.left();
    let would = machine.pruned(&["--dry-run"]);
    assert_eq!((machine.left(), events(&machine)), (before, vec![]));
    let pruned = machine.pruned(&[]);
    assert_eq!(would, pruned);
    assert_eq!(tokens(&pruned), [token(BOB), token(ALICE)]);
    let freed = pruned["idle"].as_array().unwrap().iter();
    let freed: u64 = freed
        .map(|gone| gone["freed_bytes"].as_u64().unwrap())
        .sum();
    assert!(freed > 2 << 20);
    assert_eq!(
        [
            &pruned["changed"],
            &pruned["freed_bytes"],
            &pruned["removed"]
        ],
        [&json!(true), &json!(freed), &json!([])]
    );
    assert!(pruned.get("postponed").is_none());
    assert!(!machine.has_home(ALICE) && !machine.has_home(BOB));
    assert_eq!(machine.disk(CAROL, "windows").faults(), None);
    let events: Vec<_> = events(&machine)
        .iter()
        .map(|event| (event["event"].clone(), event["token"].clone()))
        .collect();
    assert_eq!(
        events,
        [BOB, ALICE].map(|user| (json!("prune"), json!(token(user))))
    );
}

#[test]
fn idle_volumes_stay_without_a_limit() {
    let machine = idle_machine(Machine::new());
    machine.configure("");
    let pruned = machine.pruned(&[]);
    assert_eq!(
        (&pruned["idle"], pruned.get("postponed")),
        (&json!([]), None)
    );
    assert!(machine.has(BOB, "windows"));
    for limit in ["0", "-1", "a month"] {
        configure(&machine, limit);
        let ended = machine.run(&["prune"]);
        assert_eq!((ended.status, ended.stdout.as_str()), (78, ""), "{limit}");
        assert!(ended.stderr.contains("room.idle_days"), "{ended:?}");
    }
}

#[test]
fn idle_volumes_in_use_or_promised_stay() {
    let machine = idle_machine(Machine::new());
    let qemu = machine.disk(BOB, "windows").open();
    let promised = machine.root().join("run/labtools/promised");
    fs::create_dir_all(&promised).unwrap();
    fs::write(promised.join(format!("{}.windows@7", token(ALICE))), "").unwrap();
    assert_eq!(machine.pruned(&["--dry-run"])["idle"], json!([]));
    assert_eq!(machine.pruned(&[])["idle"], json!([]));
    end(qemu);
    assert_eq!(machine.run(&["release"]).status, 0);
    looked_at(&machine, ago(DAY));
    assert_eq!(machine.pruned(&[])["idle"].as_array().unwrap().len(), 2);
}

/// The user logs in when the volume has been found idle.
#[test]
fn idle_volumes_whose_users_come_back_meanwhile_stay() {
    let machine = idle_machine(Machine::new());
    let mut prune = machine.stepped(&["prune"], "");
    loop {
        let call = prune.next_call();
        let is_lock = call.number == SYS_flock;
        if is_lock && prune.file(call.arguments[0]).ends_with("pool.lock") {
            break;
        }
        assert!(prune.steps(1), "it took no lock");
    }
    machine.volume(BOB, Some("windows"));
    assert!(matches!(prune.end(), WaitStatus::Exited(_, 0)));
    assert!(machine.has(BOB, "windows") && !machine.has(ALICE, "windows"));
}

#[test]
fn idle_volumes_are_not_known_by_an_impossible_last_login() {
    let machine = idle_machine(Machine::new());
    machine.set_last_login(ALICE, "windows", ago(0) + Duration::from_secs(400 * DAY));
    machine.set_last_login(
        BOB,
        "windows",
        UNIX_EPOCH + Duration::from_secs(40 * 365 * DAY),
    ); // an empty battery
    machine.set_last_login(CAROL, "windows", UNIX_EPOCH);
    let pruned = machine.pruned(&[]);
    assert_eq!(
        (&pruned["idle"], pruned.get("postponed")),
        (&json!([]), None)
    );
}

#[test]
fn idle_volumes_stay_after_a_jump_of_the_clock() {
    let machine = idle_machine(Machine::new());
    let soon = "they can go in 12 hours";
    looked_at(&machine, ago(8 * DAY));
    waits(
        &machine,
        &format!("the clock is more than 7 days ahead of the last look for idle volumes; {soon}"),
    );
    waits(
        &machine,
        "idle volumes were looked for in the last 12 hours",
    );
    looked_at(&machine, ago(0) + Duration::from_secs(HOUR));
    waits(
        &machine,
        &format!("the clock was set back since the last look for idle volumes; {soon}"),
    );
    fs::remove_dir_all(machine.root().join("var/lib/labtools")).unwrap();
    waits(
        &machine,
        &format!("this is the first look for idle volumes; {soon}"),
    );
    looked_at(&machine, ago(13 * HOUR));
    assert_eq!(machine.pruned(&[])["idle"].as_array().unwrap().len(), 2);
}

/// Only a file can be immutable, or has its last login as its time.
mod on_qcow2 {
    use jsonpipe::testkit::feed;

    use super::*;
    use crate::machine::disk::chattr;
    use crate::machine::request;

    /// A power cut left it, and no session has begun since.
    #[test]
    fn an_idle_volume_of_an_exam_is_told_as_one() {
        let machine = Machine::new();
        configure(&machine, "30");
        let mut exam = machine.command(&["clone", "--ephemeral"]);
        let exam = feed(&mut exam, &request(ALICE, Some("windows"))).section("volume");
        fs::remove_dir_all(machine.root().join("run")).unwrap();
        let file = File::open(machine.disk_of(&exam).path).unwrap();
        let times = FileTimes::new().set_modified(ago(40 * DAY));
        file.set_times(times).unwrap();
        looked_at(&machine, ago(DAY));
        let pruned = machine.pruned(&[]);
        assert_eq!(pruned["idle"][0]["what"], "ephemeral", "{pruned}");
        assert_eq!(events(&machine)[0]["what"], "ephemeral");
    }

    #[test]
    fn an_idle_volume_that_cannot_be_removed_stays_alone() {
        let machine = idle_machine(Machine::on_a_disk("ext4", 200));
        chattr("+i", &machine.disk(BOB, "windows").path);
        let ended = machine.run(&["prune"]);
        assert_eq!(ended.status, 1, "{ended:?}");
        let pruned = &serde_json::from_str::<Value>(&ended.stdout).unwrap()["pruned"];
        let reason = pruned["postponed"].as_str().unwrap();
        assert!(
            reason.contains("windows@7.qcow2: Operation not permitted"),
            "{reason}"
        );
        assert_eq!(tokens(pruned), [token(ALICE)], "bob's stays alone");
        let failed = events(&machine).into_iter();
        let failed: Vec<_> = failed
            .filter(|event| event["event"] == "prune_failed")
            .collect();
        let [failed] = &failed[..] else {
            panic!("{failed:?}")
        };
        assert_eq!(failed["token"], token(BOB));
        assert_eq!(failed["freed_bytes"], 0);
        assert!(reason.ends_with(failed["reason"].as_str().unwrap()));
        // No complete look was: the next one does not wait for its time.
        chattr("-i", &machine.disk(BOB, "windows").path);
        assert_eq!(tokens(&machine.pruned(&[])), [token(BOB)]);
    }
}
