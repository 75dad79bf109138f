//! Other things where a volume or a user's directory should be, and users whose names are unlikely.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use cowvol::Token;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use serde_json::json;

use crate::evict::{overlay, used_volume};
use crate::machine::signed::{describe, publish, trust};
use crate::machine::{ALICE, BOB, CLONE, Machine, base_path, faults, qemu_img, qemu_io, tree};

/// Makes something at a path.
type Make = fn(&Path);

/// Each kind of file that is no volume.
const KINDS: [(&str, Make); 5] = [
    ("directory", |path| {
        fs::create_dir_all(path.join("full")).unwrap()
    }),
    ("FIFO", |path| mkfifo(path, Mode::S_IRWXU).unwrap()),
    ("socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("device", |path| {
        mknod(path, SFlag::S_IFBLK, Mode::S_IRWXU, makedev(7, 255)).unwrap()
    }),
    ("dangling link", |path| symlink("/nowhere", path).unwrap()),
];

#[test]
fn places_with_something_else_are_refused_and_left_alone() {
    let machine = Machine::new();
    used_volume(&machine, BOB, 1, 1);
    for (kind, make) in KINDS {
        let place = overlay(&machine, ALICE);
        fs::create_dir_all(machine.home(ALICE)).unwrap();
        make(&place);
        let before = machine.left();
        let (status, error) = machine.refusal(ALICE, Some("windows"));
        assert_eq!(status, 65, "{kind}: {error}");
        for arguments in [
            &["release"][..],
            &["list"],
            &["discard", "--user", ALICE],
            &["prune"],
        ] {
            let ended = machine.run(arguments);
            assert_eq!(ended.status, 0, "{kind}, {arguments:?}: {ended:?}");
        }
        assert_eq!(machine.left(), before, "{kind}");
        fs::remove_dir_all(machine.home(ALICE)).unwrap();
    }
    assert_eq!(machine.volume(ALICE, None)["created"], true);
}

#[test]
fn places_with_something_else_are_left_alone_where_a_new_volume_would_come() {
    let machine = Machine::new();
    let ephemeral = machine.users().join("ephemeral");
    for (kind, make) in KINDS {
        let exam = format!("{}.windows@7.ephemeral.qcow2", Token::of(ALICE));
        for (place, choice) in [
            (overlay(&machine, ALICE), json!({"restore": "clean"})),
            (ephemeral.join(exam), json!({"ephemeral": true})),
        ] {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            make(&place);
            let before = machine.left();
            let login = json!({"login": {"user": ALICE, "authenticated": true}, "choice": choice});
            let clone = CLONE.run(machine.root(), &login.to_string());
            let restore = ["restore", "--user", ALICE, "--to", "clean"];
            let restore = (choice["restore"] == "clean").then(|| machine.run(&restore));
            for ended in [clone].into_iter().chain(restore) {
                assert_eq!(ended.status, 65, "{kind}: {ended:?}");
                assert!(
                    ended.stderr.contains("not a file; move it away"),
                    "{kind}: {ended:?}"
                );
            }
            assert_eq!(machine.left(), before, "{kind}");
            fs::remove_dir_all(place.parent().unwrap()).unwrap();
        }
    }
}

#[test]
fn a_login_waits_for_no_pipe() {
    let machine = Machine::new();
    trust(machine.root());
    publish(machine.root(), &describe(machine.root(), "windows", 7));
    let beside = base_path(machine.root(), "windows", 7);
    let pipe_at = |path: &Path| {
        let _ = fs::remove_file(path);
        mkfifo(path, Mode::S_IRWXU).unwrap();
    };
    for ending in ["sig", "manifest"] {
        pipe_at(&beside.with_extension(ending));
        machine.volume(ALICE, Some("windows"));
    }
    pipe_at(&machine.root().join("etc/labtools/keys/base-1.pub"));
    machine.volume(ALICE, Some("windows"));
    pipe_at(&machine.root().join("run/labtools/guest.lock"));
    assert_eq!(machine.run(&["check"]).status, 74);
}

#[test]
fn places_with_something_else_do_not_stop_an_eviction() {
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(50);
    used_volume(&machine, BOB, 1, 30);
    for (number, (_, make)) in KINDS.into_iter().enumerate() {
        let user = format!("user{number}");
        fs::create_dir_all(machine.home(&user)).unwrap();
        make(&overlay(&machine, &user));
    }
    let volume = machine.volume(ALICE, Some("windows"));
    assert_eq!(volume["evicted"].as_array().unwrap().len(), 1, "{volume}");
    assert!(!overlay(&machine, BOB).exists());
}

#[test]
fn places_with_a_hard_link_leave_the_other_name_its_content() {
    let machine = Machine::new();
    used_volume(&machine, BOB, 1, 2);
    let kept = machine.root().join("kept.qcow2");
    fs::hard_link(overlay(&machine, BOB), &kept).unwrap();
    let before = fs::read(&kept).unwrap();
    assert_eq!(machine.run(&["discard", "--user", BOB]).status, 0);
    assert!(!overlay(&machine, BOB).exists());
    assert!(
        fs::read(&kept).unwrap() == before,
        "its content went with the other name"
    );
}

#[test]
fn places_with_a_linked_home_are_refused_and_lead_nowhere() {
    let machine = Machine::new();
    used_volume(&machine, BOB, 1, 1);
    symlink(machine.home(BOB), machine.home(ALICE)).unwrap();
    let before = machine.left();
    let (status, error) = machine.refusal(ALICE, Some("windows"));
    assert_eq!(status, 65, "{error}");
    machine.run(&["discard", "--user", ALICE]);
    assert_eq!(machine.left(), before, "bob's volume is not alice's");
    qemu_io(&overlay(&machine, BOB), &["read -q -P 0x77 0 1M"]);
}

#[test]
fn places_with_a_volume_over_something_else_are_refused() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    let overlay = overlay(&machine, ALICE);
    // QEMU itself takes no longer name.
    let longest = format!("{}7.qcow2", "./".repeat(500));
    for backing in [
        "nbd://127.0.0.1/x",
        "json:{\"driver\":\"null-co\"}",
        "/etc/passwd",
        "fat:/",
        &longest,
    ] {
        qemu_img(&[
            "rebase",
            "-u",
            "-b",
            backing,
            "-F",
            "qcow2",
            overlay.to_str().unwrap(),
        ]);
        let (status, error) = machine.refusal(ALICE, Some("windows"));
        assert!(
            status == 65 && error.contains("its backing file is not its base"),
            "{backing}: {error}"
        );
    }
    // One that is longer than its place: over 1023 bytes.
    let bytes = fs::read(&overlay).unwrap();
    let mut longer = bytes.clone();
    longer[16..20].copy_from_slice(&1024u32.to_be_bytes());
    fs::write(&overlay, longer).unwrap();
    let (status, error) = machine.refusal(ALICE, Some("windows"));
    assert!(
        status == 65 && error.contains("a backing file name of 1024 bytes"),
        "{error}"
    );
}

/// A user whose token begins with this character.
fn user_with(first: char) -> String {
    let mut users = (0..).map(|number| format!("user{number}@uni-a.example"));
    users
        .find(|user| Token::of(user).as_str().starts_with(first))
        .unwrap()
}

#[test]
fn users_with_unlikely_names_have_sessions_like_others() {
    let machine = Machine::new();
    let (dash, underscore, long) = (user_with('-'), user_with('_'), "ü".repeat(1000));
    for user in [
        &dash,
        &underscore,
        &long,
        "-rf",
        "名前@uni-a.example",
        "a:b=c,d@e",
        "$(reboot)",
    ] {
        used_volume(&machine, user, 1, 1);
        let volume = machine.volume(user, Some("windows"));
        assert_eq!(volume["created"], false, "{user}");
        let file = overlay(&machine, user);
        assert_eq!(faults(&file), None, "{user}");
        qemu_io(&file, &["read -q -P 0x77 0 1M"]);
        for arguments in [
            &["release"][..],
            &["list", "--user", user],
            &["discard", "--user", user],
        ] {
            // As one word, for it may begin like an option.
            let words: Vec<String> = match arguments {
                [verb, option, value] => vec![(*verb).into(), format!("{option}={value}")],
                _ => arguments.iter().map(|word| (*word).into()).collect(),
            };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ended = machine.run(&words);
            assert_eq!(ended.status, 0, "{user}: {ended:?}");
        }
        assert!(!machine.home(user).exists(), "{user}");
    }
    assert_eq!(tree(&machine.users()), [""; 0]);
}

#[test]
fn last_logins_of_any_time_are_an_order() {
    use std::fs::FileTimes;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    let machine = Machine::on_a_disk("ext4", 160);
    machine.leave_room(100);
    let now = SystemTime::now();
    let times = [
        ("before-1970", UNIX_EPOCH - Duration::from_secs(1_000_000)),
        ("tomorrow", now + Duration::from_secs(86400)),
        ("yesterday", now - Duration::from_secs(86400)),
    ];
    for (user, time) in times {
        used_volume(&machine, user, 1, 25);
        let file = File::open(overlay(&machine, user)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }
    // The clock that gave a time of tomorrow was wrong: that volume may be of any age.
    let volume = machine.volume(ALICE, Some("windows"));
    let gone = volume["evicted"].as_array().unwrap();
    assert_eq!(gone.len(), 1, "{volume}");
    assert!(overlay(&machine, "yesterday").exists(), "{volume}");
}
