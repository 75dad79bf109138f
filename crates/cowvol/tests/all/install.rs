//! `cowvol install-base`: what it takes, what it refuses, and what a machine has when it is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::thread;

use jsonpipe::testkit::feed;
use manifest::{Base, Format};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde_json::{Value, json};

use crate::machine::signed::{describe, document, document_by, new_windows, publish, trust};
use crate::machine::{
    self, ALICE, BOB, Machine, base_path, faults, make_base, qemu_img, qemu_io, tree,
    write_bases_ini,
};

#[test]
fn the_next_login_gets_the_new_generation_and_the_old_is_gone() {
    let machine = Machine::with_windows_8();
    let old = machine.volume(ALICE, None);
    assert_eq!(old["generation"], 7);
    let installed = machine.installed(&describe(machine.root(), "windows", 8), &[]);
    let freed_bytes = &installed["freed_bytes"];
    assert_eq!(
        installed,
        json!({
            "schema": 1, "changed": true, "name": "windows", "generation": 8, "path": "/qcow2/backing/windows/8.qcow2", "replaced": 7,
            "removed": [{"base": "windows", "generation": 7, "volumes": 1, "freed_bytes": freed_bytes}], "retained": [],
            "freed_bytes": freed_bytes,
        })
    );
    assert!(freed_bytes.as_u64().unwrap() >= 4 << 20, "{installed}");
    assert_eq!(
        tree(&machine.root().join("qcow2/backing/windows")),
        [
            "8.blocks",
            "8.blocks.torrent",
            "8.manifest",
            "8.qcow2",
            "8.sig",
            "8.torrent"
        ]
    );
    assert_eq!(machine.left(), [""; 0]);
    let new = machine.volume(ALICE, None);
    assert_eq!(
        (&new["generation"], &new["created"]),
        (&json!(8), &json!(true))
    );
    qemu_io(
        &machine.home(ALICE).join("windows@8.qcow2"),
        &["read -q -P 8 0 64k"],
    );
    let base = &machine.list()["catalog"]["bases"][1];
    assert_eq!(
        (
            &base["title"],
            &base["generation"],
            &base["other_generations"]
        ),
        (&json!("Windows 8"), &json!(8), &json!([]))
    );
    // The same again changes nothing.
    let ini = fs::metadata(machine.root().join("qcow2/backing/bases.ini")).unwrap();
    let again = machine.installed(&describe(machine.root(), "windows", 8), &[]);
    assert_eq!(
        (&again["changed"], again.get("replaced")),
        (&json!(false), None)
    );
    assert_eq!(
        fs::metadata(machine.root().join("qcow2/backing/bases.ini"))
            .unwrap()
            .ino(),
        ini.ino()
    );
    assert_eq!(machine.volume(ALICE, None)["created"], false);
}

#[test]
fn the_first_base_makes_bases_ini() {
    let machine = Machine::bare();
    machine::signed::trust(machine.root());
    new_windows(machine.root(), 8);
    let described = Base {
        default: false,
        title: "Windows \"10\"; # [x] = ü".into(),
        ..describe(machine.root(), "windows", 8)
    };
    let installed = machine.installed(&described, &[]);
    assert_eq!(
        (&installed["changed"], installed.get("replaced")),
        (&json!(true), None)
    );
    let expected = "[base.windows]\nname = Windows \"10\"; # [x] = ü\nostype = windows\ndefault = false\ngeneration = 8\n";
    assert_eq!(machine.bases_ini(), expected);
    assert_eq!(machine.volume(ALICE, None)["generation"], 8);
    assert_eq!(
        machine.list()["catalog"]["bases"][0]["title"],
        described.title
    );
}

#[test]
fn other_bases_and_comments_stay_as_they_are() {
    let machine = Machine::with_windows_8();
    write_bases_ini(
        machine.root(),
        "# our lab\n[base.linux]\nname=Debian 12\n; for the course\nostype=linux\ndefault=true\ngeneration=3\n\n[base.windows]\nname=W\nostype=windows\ngeneration=7\n",
    );
    machine.volume(BOB, Some("linux"));
    machine.installed(&describe(machine.root(), "windows", 8), &[]);
    assert_eq!(
        machine.bases_ini(),
        "# our lab\n[base.linux]\nname=Debian 12\n; for the course\nostype=linux\ndefault = false\ngeneration=3\n\n[base.windows]\nname = Windows 8\nostype = windows\ngeneration = 8\ndefault = true\n"
    );
    assert_eq!(
        machine.volume(BOB, Some("linux"))["created"],
        false,
        "other bases keep their volumes"
    );
}

#[test]
fn bases_ini_may_be_a_link_and_anybodys() {
    let machine = Machine::with_windows_8();
    let (ini, real) = (
        machine.root().join("qcow2/backing/bases.ini"),
        machine.root().join("real.ini"),
    );
    fs::rename(&ini, &real).unwrap();
    symlink("../../real.ini", &ini).unwrap();
    std::os::unix::fs::chown(&real, Some(1000), Some(1001)).unwrap();
    fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    machine.installed(&describe(machine.root(), "windows", 8), &[]);
    assert!(ini.is_symlink());
    assert!(
        fs::read_to_string(&real)
            .unwrap()
            .contains("generation = 8")
    );
    let found = fs::metadata(&real).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o7777),
        (1000, 1001, 0o640)
    );

    fs::remove_file(&real).unwrap();
    let nowhere = "reading /qcow2/backing/bases.ini: a symbolic link that leads to nothing";
    assert_eq!(
        refusal(&machine, &document(&describe(machine.root(), "windows", 8))),
        (78, nowhere.into())
    );
    assert_eq!(
        machine.refusal(ALICE, None),
        (78, format!("cowvol: {nowhere}\n"))
    );
}

#[test]
fn a_dry_run_checks_everything_and_writes_nothing() {
    let machine = Machine::with_windows_8();
    machine.volume(ALICE, None);
    fs::remove_dir_all(machine.root().join("run")).unwrap();
    let (before, ini) = (tree(machine.root()), machine.bases_ini());
    let windows = describe(machine.root(), "windows", 8);
    let would = machine.installed(&windows, &["--dry-run"]);
    assert_eq!((tree(machine.root()), machine.bases_ini()), (before, ini));
    assert_eq!(machine.installed(&windows, &[]), would);
    qemu_io(
        &base_path(machine.root(), "windows", 8),
        &["write -q -P 1 0 64k"],
    );
    assert_eq!(
        machine.install(&document(&windows), &["--dry-run"]).status,
        65
    );
}

/// Status and error of an installation that must be refused. The machine has what it had, and
/// offers nothing else.
fn refusal(machine: &Machine, document: &Value) -> (i32, String) {
    let before = (machine.bases_ini(), tree(&machine.root().join("qcow2")));
    let ended = machine.install(document, &[]);
    assert_eq!(ended.stdout, "", "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let after = (machine.bases_ini(), tree(&machine.root().join("qcow2")));
    assert_eq!(after, before, "what was refused is in effect: {ended:?}");
    let root = machine.root().to_str().unwrap();
    (
        ended.status,
        ended
            .stderr
            .replace(root, "")
            .trim_end()
            .replacen("cowvol: ", "", 1),
    )
}

#[test]
fn install_refuses_images_unlike_the_manifest() {
    let machine = Machine::with_windows_8();
    let good = describe(machine.root(), "windows", 8);
    let refused = |base: Base| refusal(&machine, &document(&base));
    let data = |message: &str| (65, message.to_owned());
    let image = "reading /qcow2/backing/windows/8.qcow2";
    let size = good.size_bytes;

    let by_stranger = document_by("stranger", &good);
    assert_eq!(
        refusal(&machine, &by_stranger),
        data("verifying the manifest: not signed by any of base-1.pub")
    );
    let mut swapped = document(&good);
    swapped["image"]["signature"] = document(&Base {
        generation: 9,
        ..good.clone()
    })["image"]["signature"]
        .clone();
    assert_eq!(
        refusal(&machine, &swapped),
        data("verifying the manifest: not signed by any of base-1.pub")
    );
    assert_eq!(
        refused(Base {
            sha256: manifest::Digest::parse(&"11".repeat(32)).unwrap(),
            ..good.clone()
        }),
        data(&format!(
            "{image}: its SHA-256 is not that of the manifest; get it again, with seedctl get"
        ))
    );
    assert_eq!(
        refused(Base {
            size_bytes: 1,
            ..good.clone()
        }),
        data(&format!(
            "{image}: it has {size} bytes, the manifest says 1"
        ))
    );
    assert_eq!(
        refused(Base {
            virtual_bytes: 512,
            ..good.clone()
        }),
        data(&format!(
            "{image}: its disk has 50331648 bytes, the manifest says 512"
        ))
    );
    let raw = Base {
        format: Format::Raw,
        virtual_bytes: size,
        ..good.clone()
    };
    let mut raw_document = document(&raw);
    assert_eq!(
        refusal(&machine, &raw_document),
        data("image.manifest: a raw image; a base is qcow2, see qemu-img convert")
    );
    raw_document["transfer"]["path"] = json!("/qcow2/backing/windows/8.raw");
    assert_eq!(refusal(&machine, &raw_document).0, 65);
    assert_eq!(
        refused(Base {
            name: "macos".into(),
            ..good.clone()
        })
        .0,
        66
    );
    assert_eq!(
        refused(Base {
            generation: 9,
            ..good.clone()
        })
        .0,
        66
    );
    assert_eq!(
        refused(Base {
            generation: 6,
            ..good.clone()
        }),
        data(
            "refusing to install generation 6 of windows: 7 is installed; to go back, use --allow-downgrade"
        )
    );
    for (key, value) in [
        ("path", "/etc/passwd"),
        ("path", "/qcow2/backing/windows/7.qcow2"),
        ("sha256", "00"),
        ("infohash", "00"),
    ] {
        let mut wrong = document(&good);
        wrong["transfer"][key] = value.into();
        let (status, error) = refusal(&machine, &wrong);
        assert!(
            status == 65 && error.starts_with(&format!("transfer.{key}: not ")),
            "{error}"
        );
    }
    for (section, key) in [
        ("image", "manifest"),
        ("image", "signature"),
        ("transfer", "state"),
    ] {
        let mut without = document(&good);
        without[section].as_object_mut().unwrap().remove(key);
        assert_eq!(refusal(&machine, &without).0, 65, "{section}.{key}");
    }
    machine.installed(&good, &[]); // it was none of the machine's fault
}

#[test]
fn install_refuses_partial_bases() {
    let machine = Machine::with_windows_8();
    let path = base_path(machine.root(), "windows", 8);
    let (good, bytes) = (
        describe(machine.root(), "windows", 8),
        fs::read(&path).unwrap(),
    );
    fs::write(&path, &bytes[..bytes.len() - 65536]).unwrap();
    let (status, error) = refusal(&machine, &document(&good));
    assert!(status == 65 && error.contains("truncated"), "{error}");
    // Signed as it is, it is refused all the same.
    let cut = describe(machine.root(), "windows", 8);
    assert_eq!(refusal(&machine, &document(&cut)).0, 65);

    fs::remove_file(&path).unwrap();
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        "7.qcow2",
        path.to_str().unwrap(),
    ]);
    let (status, error) = refusal(&machine, &document(&describe(machine.root(), "windows", 8)));
    assert!(
        status == 65 && error.contains("it has a backing file itself"),
        "{error}"
    );
    fs::write(&path, vec![0x33; 1 << 20]).unwrap();
    let no_image = Base {
        size_bytes: 1 << 20,
        ..good.clone()
    };
    let (status, error) = refusal(&machine, &document(&no_image));
    assert!(
        status == 65 && error.contains("not a qcow2 image"),
        "{error}"
    );
    fs::write(&path, &bytes).unwrap();
    machine.installed(&good, &[]);
}

#[test]
fn an_image_for_other_models_is_refused() {
    let machine = Machine::with_windows_8();
    let good = describe(machine.root(), "windows", 8);
    let for_models = Base {
        models: vec!["OptiPlex 7010".into(), "Latitude".into()],
        ..good
    };
    assert_eq!(
        refusal(&machine, &document(&for_models)).0,
        78,
        "a machine that does not say what it is"
    );
    let dmi = machine.root().join("sys/class/dmi/id");
    fs::create_dir_all(&dmi).unwrap();
    for name in [&b" \n"[..], b"\xc0\x1c[\x87\n"] {
        fs::write(dmi.join("product_name"), name).unwrap();
        assert_eq!(refusal(&machine, &document(&for_models)).0, 78, "{name:?}");
    }
    fs::write(dmi.join("product_name"), "Precision T1700\n").unwrap();
    assert_eq!(
        refusal(&machine, &document(&for_models)),
        (65, "refusing to install windows: this machine is a Precision T1700, the image is for OptiPlex 7010, Latitude".into())
    );
    fs::write(dmi.join("product_name"), "OptiPlex 7010 \n").unwrap();
    machine.installed(&for_models, &[]);
}

#[test]
fn a_base_on_another_model_is_not_started() {
    let machine = Machine::new();
    trust(machine.root());
    let for_models = Base {
        models: vec!["OptiPlex 7010".into()],
        ..describe(machine.root(), "windows", 7)
    };
    publish(machine.root(), &for_models);
    assert_eq!(machine.refusal(ALICE, None).0, 78, "the model is not known");
    let dmi = machine.root().join("sys/class/dmi/id");
    fs::create_dir_all(&dmi).unwrap();
    fs::write(dmi.join("product_name"), "Precision T1700\n").unwrap();
    let (status, error) = machine.refusal(ALICE, None);
    assert_eq!(
        (status, error.as_str()),
        (
            65,
            "cowvol: refusing to start windows: this machine is a Precision T1700, the image is for OptiPlex 7010\n"
        )
    );
    assert_eq!(machine.left(), [""; 0]);
    fs::write(dmi.join("product_name"), "OptiPlex 7010\n").unwrap();
    machine.volume(ALICE, None);
    // Nobody signed this one, so what it says counts for nothing.
    fs::write(dmi.join("product_name"), "Precision T1700\n").unwrap();
    let image = base_path(machine.root(), "windows", 7);
    fs::write(image.with_extension("sig"), [0; 64]).unwrap();
    machine.volume(ALICE, None);
}

#[test]
fn a_machine_that_is_set_up_wrongly_takes_nothing() {
    let machine = Machine::with_windows_8();
    let good = document(&describe(machine.root(), "windows", 8));
    let ini = machine.bases_ini();
    for wrong in ["[base.windows]\nname=x\n", "[x]\n", "\u{feff}"] {
        write_bases_ini(machine.root(), wrong);
        assert_eq!(refusal(&machine, &good).0, 78, "{wrong:?}");
    }
    let path = machine.root().join("qcow2/backing/bases.ini");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(refusal(&machine, &good).0, 78, "a directory");
    assert_eq!(machine.run(&["list"]).status, 78);
    fs::remove_dir(&path).unwrap();
    write_bases_ini(machine.root(), &ini);
    fs::rename(
        machine.root().join("etc/labtools/keys"),
        machine.root().join("keys"),
    )
    .unwrap();
    assert_eq!(refusal(&machine, &good).0, 78);
    assert_eq!(
        machine
            .install(&good, &["--config", machine.root().to_str().unwrap()])
            .status,
        0
    );
}

#[test]
fn going_back_is_possible_where_it_is_asked_for() {
    let machine = Machine::with_windows_8();
    let (seven, eight) = (
        describe(machine.root(), "windows", 7),
        describe(machine.root(), "windows", 8),
    );
    machine.volume(ALICE, None);
    let session = machine.hold("session.lock");
    machine.installed(&eight, &[]);
    machine.volume(BOB, None);
    drop(session);
    assert_eq!(machine.install(&document(&seven), &[]).status, 65);
    let back = machine.installed(&seven, &["--allow-downgrade"]);
    assert_eq!(
        (
            &back["generation"],
            &back["replaced"],
            &back["removed"][0]["generation"]
        ),
        (&json!(7), &json!(8), &json!(8))
    );
    assert_eq!(
        machine.volume(ALICE, None)["created"],
        false,
        "the old volume is there as it was left"
    );
    assert!(!base_path(machine.root(), "windows", 8).exists());
}

#[test]
fn an_image_on_another_disk_is_taken_through_its_link() {
    let machine = Machine::with_windows_8();
    let elsewhere = machine.root().join("big-disk");
    fs::create_dir(&elsewhere).unwrap();
    for generation in [7, 8] {
        let (image, moved) = (
            base_path(machine.root(), "windows", generation),
            elsewhere.join(generation.to_string()),
        );
        fs::rename(&image, &moved).unwrap();
        symlink(&moved, &image).unwrap();
    }
    let installed = machine.installed(&describe(machine.root(), "windows", 8), &[]);
    let removed = json!({"base": "windows", "generation": 7, "volumes": 0, "freed_bytes": 0, "linked_path": "/big-disk/7"});
    assert_eq!(installed["removed"][0], removed);
    assert_eq!(
        tree(&elsewhere),
        ["7", "8"],
        "what it links to is not ours to remove"
    );
    assert_eq!(machine.volume(ALICE, None)["generation"], 8);
}

#[test]
fn a_clone_does_not_wait_for_the_reading() {
    let machine = Machine::with_windows_8();
    let windows = document(&describe(machine.root(), "windows", 8)).to_string();
    let mut install = machine.stepped(&["install-base"], &windows);
    while !machine::reads(&install, "8.qcow2") {
        assert!(install.steps(1), "it read the image");
    }
    assert_eq!(machine.volume(ALICE, None)["generation"], 7);
    assert!(matches!(
        install.end_by(Signal::SIGCONT),
        WaitStatus::Exited(_, 0)
    ));
    assert_eq!(machine.volume(ALICE, None)["generation"], 8);
}

#[test]
fn prune_keeps_bases_being_installed() {
    let machine = Machine::with_windows_8();
    let seven = document(&describe(machine.root(), "windows", 7)).to_string();
    write_bases_ini(
        machine.root(),
        &machine
            .bases_ini()
            .replace("generation = 7", "generation = 8"),
    );
    let mut install = machine.stepped(&["install-base", "--allow-downgrade"], &seven);
    while !machine::reads(&install, "7.qcow2") {
        assert!(install.steps(1));
    }
    let retained = &machine.pruned(&[])["retained"][0];
    assert_eq!(
        (&retained["generation"], &retained["reason"]),
        (
            &json!(7),
            &json!("/qcow2/backing/windows/7.qcow2 is in use")
        )
    );
    assert!(matches!(
        install.end_by(Signal::SIGCONT),
        WaitStatus::Exited(_, 0)
    ));
    assert_eq!(machine.volume(ALICE, None)["generation"], 7);
}

#[test]
fn an_image_that_is_exchanged_while_it_is_checked_is_refused() {
    let machine = Machine::with_windows_8();
    let windows = document(&describe(machine.root(), "windows", 8)).to_string();
    let mut install = machine.stepped(&["install-base"], &windows);
    while !machine::reads(&install, "8.qcow2") {
        assert!(install.steps(1));
    }
    fs::remove_file(base_path(machine.root(), "windows", 8)).unwrap();
    make_base(machine.root(), "windows", 8, &["48M"]);
    assert!(matches!(
        install.end_by(Signal::SIGCONT),
        WaitStatus::Exited(_, 75)
    ));
    assert_eq!(machine.volume(ALICE, None)["generation"], 7);
}

#[test]
fn logins_during_switch_overs_always_find_a_whole_generation() {
    let machine = Machine::with_windows_8();
    let (seven, eight) = (
        document(&describe(machine.root(), "windows", 7)),
        document(&describe(machine.root(), "windows", 8)),
    );
    let _session = machine.hold("session.lock"); // so that both stay
    thread::scope(|scope| {
        let switching = scope.spawn(|| {
            for _ in 0..6 {
                for document in [&eight, &seven] {
                    assert_eq!(machine.install(document, &["--allow-downgrade"]).status, 0);
                }
            }
        });
        let mut logins = 0;
        while !switching.is_finished() || logins < 10 {
            let volume = machine.volume(&format!("user{logins}"), None);
            let name = format!("windows@{}.qcow2", volume["generation"]);
            assert_eq!(
                faults(&machine.home(&format!("user{logins}")).join(name)),
                None
            );
            logins += 1;
        }
    });
}

#[test]
fn a_full_disk_leaves_the_old_generation() {
    const SCRIPT: &str = r#"
        set -eu
        mkdir "$ROOT/small"
        mount -t tmpfs -o size=8M tmpfs "$ROOT/small"
        cp -a "$ROOT/qcow2/backing/." "$ROOT/small"
        mount --bind "$ROOT/small" "$ROOT/qcow2/backing"
        if [ "$1" = full ]; then dd if=/dev/zero of="$ROOT/small/filler" bs=4k 2>/dev/null || true
        else mount -o remount,ro,bind "$ROOT/qcow2/backing"; fi
        status=0; "$COWVOL" install-base --root "$ROOT" || status=$?
        cat "$ROOT/qcow2/backing/bases.ini"; find "$ROOT/qcow2/backing" -name '.*' -mindepth 1
        exit "$status"
    "#;
    for how in ["full", "read-only"] {
        let machine = Machine::with_windows_8();
        let windows = document(&describe(machine.root(), "windows", 8)).to_string();
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "bash", "-c", SCRIPT, "disk", how]);
        command
            .env("ROOT", machine.root())
            .env("COWVOL", env!("CARGO_BIN_EXE_cowvol"));
        let ended = feed(command, &windows);
        assert_eq!(
            (ended.status, ended.stdout),
            (73, machine.bases_ini()),
            "{how}: needs root; {}",
            ended.stderr
        );
        assert!(ended.stderr.contains("writing"), "{}", ended.stderr);
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_generation() {
    let untouched = Machine::with_windows_8();
    // Small, so that the hundreds of runs are quick.
    make_base(untouched.root(), "windows", 7, &["1M"]);
    let windows_8 = describe(untouched.root(), "windows", 8);
    for (user, base) in [(ALICE, "windows"), (BOB, "windows"), (BOB, "linux")] {
        untouched.volume(user, Some(base));
    }
    let input = document(&windows_8).to_string();
    let state = |machine: &Machine| (machine.bases_ini(), tree(&machine.root().join("qcow2")));
    let mut seen = Vec::new();
    let mut machine = untouched.copy();
    for moment in 0.. {
        let mut install = machine.stepped(&["install-base"], &input);
        if !install.steps(moment) {
            break;
        }
        assert!(matches!(
            install.end_by(Signal::SIGKILL),
            WaitStatus::Signaled(_, Signal::SIGKILL, _)
        ));
        let found = state(&machine);
        if found == state(&untouched) {
            continue; // it had done nothing yet
        }
        if !seen.contains(&found) {
            let left = |user, number| {
                machine
                    .home(user)
                    .join(format!("windows@{number}.qcow2"))
                    .exists()
            };
            let old_is_whole =
                left(ALICE, 7) && left(BOB, 7) && base_path(machine.root(), "windows", 7).exists();
            assert!(
                old_is_whole || current_generation(&machine) == 8,
                "the old one was taken apart before the new one was current"
            );
            check_consistent(&machine);
            seen.push(found);
        }
        let again = machine.installed(&windows_8, &[]);
        assert_eq!(
            (&again["generation"], &again["retained"]),
            (&json!(8), &json!([]))
        );
        assert_eq!(
            machine
                .left()
                .iter()
                .filter(|name| name.contains('/'))
                .count(),
            1,
            "linux stays: {:?}",
            machine.left()
        );
        let backing = tree(&machine.root().join("qcow2/backing"));
        assert!(
            !backing.iter().any(|name| name.starts_with("windows/7")),
            "{backing:?}"
        );
        assert_eq!(machine.volume(ALICE, None)["generation"], 8);
        machine = untouched.copy();
    }
    let of = |current: &str| seen.iter().filter(|(ini, _)| ini.contains(current)).count();
    assert!(
        of("generation = 7") > 0 && of("generation = 8") > 3,
        "not every step was seen: {seen:#?}"
    );
}

/// What bases.ini says of windows, which is always readable.
fn current_generation(machine: &Machine) -> u64 {
    let list = machine.list();
    let windows = list["catalog"]["bases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|base| base["name"] == "windows")
        .unwrap();
    assert!(
        windows.get("virtual_bytes").is_some(),
        "the base that is described is there: {list}"
    );
    windows["generation"].as_u64().unwrap()
}

/// Every volume that is there has its base, every manifest its image, and a user who logs in gets a
/// disk.
fn check_consistent(machine: &Machine) {
    for name in machine
        .left()
        .iter()
        .filter(|name| name.ends_with(".qcow2"))
    {
        assert_eq!(faults(&machine.users().join(name)), None, "{name}");
    }
    let backing = machine.root().join("qcow2/backing");
    for manifest in tree(&backing)
        .iter()
        .filter(|name| name.ends_with(".manifest"))
    {
        assert!(
            backing.join(manifest).with_extension("qcow2").exists(),
            "{manifest} describes what is not there"
        );
    }
    let volume = machine.volume("carol@uni-a.example", None);
    assert_eq!(volume["generation"], current_generation(machine));
    fs::remove_dir_all(machine.home("carol@uni-a.example")).unwrap();
}

#[test]
fn everything_is_durable_before_the_switch_and_the_switch_after_it() {
    let machine = Machine::with_windows_8();
    let input = document(&describe(machine.root(), "windows", 8)).to_string();
    let mut install = machine.stepped(&["install-base"], &input);
    let backing = machine.root().join("qcow2/backing");
    let mut synced = Vec::new();
    while install.steps(1) {
        synced.extend(install.syncs().filter(|path| path.starts_with(&backing)));
    }
    let names: Vec<&str> = synced
        .iter()
        .map(|path| path.strip_prefix(&backing).unwrap().to_str().unwrap())
        .collect();
    let switch = names
        .iter()
        .position(|name| *name == ".bases.ini.tmp")
        .unwrap();
    for name in [
        "windows/8.qcow2",
        "windows/8.manifest",
        "windows/8.sig",
        "windows",
        "",
    ] {
        assert!(names[..switch].contains(&name), "{name}: {names:?}");
    }
    assert_eq!(names[switch + 1], "", "the rename itself");
    assert!(
        names[switch + 2..].contains(&"windows"),
        "what was removed: {names:?}"
    );
}
