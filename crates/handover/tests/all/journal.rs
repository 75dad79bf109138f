//! The journal, as a killed run leaves it, as a power cut may leave it, and as nobody should.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use handover::{Handover, Owner, Wanted, differences, restore};
use jsonpipe::Exit;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::tree::{DEVICE, Tree};

/// The journal of a guest that got the audio device.
fn journal() -> Value {
    json!({"schema": 1, "boot_id": "this-boot",
        "devices": [{"device": "0000:00:1b.0", "driver": "snd_hda_intel", "driver_override": null}],
        "parked": [], "groups": [], "console": {"consoles": [], "framebuffers": []}, "huge_pages": null})
}

fn refused(tree: &Tree) -> String {
    let error = restore(&tree.common).unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Config);
    assert!(tree.has_journal(), "it stays, for a person to look into it");
    format!("{error:#}")
}

#[test]
fn restore_without_a_journal_has_nothing_to_do() {
    assert_eq!(restore(&Tree::new().common).unwrap(), None);
}

#[test]
fn restore_of_an_untouched_machine_changes_nothing() {
    let tree = Tree::new();
    tree.journal(&journal().to_string());
    let returned = restore(&tree.common).unwrap().unwrap();
    assert!(returned.whole, "{returned:?}");
    assert_eq!(tree.read(&format!("{DEVICE}/driver_override")), "(null)\n");
    assert_eq!(tree.read("sys/bus/pci/drivers/snd_hda_intel/bind"), "");
    assert!(!tree.has_journal());
    assert_eq!(restore(&tree.common).unwrap(), None, "once is enough");
}

#[test]
fn restore_gives_back_the_override_that_was_there() {
    let tree = Tree::new();
    let mut journal = journal();
    journal["devices"][0]["driver_override"] = "snd_hda_intel".into();
    tree.journal(&journal.to_string());
    tree.write(&format!("{DEVICE}/driver_override"), "vfio-pci\n");
    assert!(restore(&tree.common).unwrap().unwrap().whole);
    let found = tree.read(&format!("{DEVICE}/driver_override"));
    assert_eq!(found, "snd_hda_intel\n");
}

#[test]
fn restore_names_a_device_that_does_not_come_back_and_keeps_the_journal() {
    let tree = Tree::new();
    tree.journal(&journal().to_string());
    fs::remove_file(tree.path(&format!("{DEVICE}/driver"))).unwrap();
    let returned = restore(&tree.common).unwrap().unwrap();
    assert!(!returned.whole);
    assert_eq!(
        returned.left,
        ["0000:00:1b.0: no driver instead of snd_hda_intel"]
    );
    assert_eq!(returned.devices[0].before.as_deref(), Some("snd_hda_intel"));
    assert_eq!(returned.devices[0].now, None);
    let written = tree.read("sys/bus/pci/drivers/snd_hda_intel/bind");
    assert_eq!(written, "0000:00:1b.0\n", "the kernel was asked");
    assert!(tree.has_journal());

    tree.bind("snd_hda_intel"); // as the kernel would have done
    assert!(restore(&tree.common).unwrap().unwrap().whole);
    assert!(!tree.has_journal());
}

#[test]
fn restore_does_not_write_to_a_driver_that_does_not_exist() {
    let tree = Tree::new();
    let mut journal = journal();
    journal["devices"][0]["driver"] = "absent".into();
    tree.journal(&journal.to_string());
    fs::remove_file(tree.path(&format!("{DEVICE}/driver"))).unwrap();
    let left = restore(&tree.common).unwrap().unwrap().left;
    let reason = "binding 0000:00:1b.0 to absent: there is no such driver; load its module";
    assert_eq!(left[1], reason);
}

#[test]
fn a_journal_of_another_boot_is_removed_and_not_followed() {
    let tree = Tree::new();
    let mut journal = journal();
    journal["boot_id"] = "another-boot".into();
    journal["devices"][0]["driver"] = "../../evil".into();
    journal["schema"] = 9.into();
    tree.journal(&journal.to_string());
    tree.write(&format!("{DEVICE}/driver_override"), "nouveau\n");
    assert_eq!(restore(&tree.common).unwrap(), None);
    assert!(!tree.has_journal());
    assert_eq!(tree.read(&format!("{DEVICE}/driver_override")), "nouveau\n");
}

#[test]
fn a_journal_that_cannot_be_followed_is_refused() {
    let tree = Tree::new();
    let whole = journal().to_string();
    for torn in ["", "{", "[]", &whole[..whole.len() / 2], "\u{0}"] {
        tree.journal(torn);
        let error = refused(&tree);
        assert!(
            error.contains("guest.journal: not a journal; restart"),
            "{error}"
        );
    }
    let mut other = journal();
    other["schema"] = 2.into();
    tree.journal(&other.to_string());
    let error = refused(&tree);
    assert!(error.contains("written by another version"), "{error}");

    for (pointer, value) in [
        ("/devices/0/device", json!("../../../etc")),
        ("/devices/0/driver", json!("../../../etc")),
        ("/devices/0/driver", json!("..")),
        ("/devices/0/driver", json!("")),
        ("/devices/0/driver_override", json!("a\nb")),
        ("/devices/0/extra", json!(1)),
        ("/console/consoles", json!(["../vtcon1"])),
        (
            "/console/framebuffers",
            json!([{"driver": "efi-framebuffer", "device": "e1000e.0"}]),
        ),
        (
            "/console/framebuffers",
            json!([{"driver": "../pci", "device": "../pci.0"}]),
        ),
        (
            "/huge_pages",
            json!({"page_bytes": 3, "before": 0, "with_guest": 1}),
        ),
        (
            "/huge_pages",
            json!({"page_bytes": 2097152, "before": 2, "with_guest": 1}),
        ),
    ] {
        let mut hostile = journal();
        match hostile.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => hostile["devices"][0]["extra"] = value,
        }
        tree.journal(&hostile.to_string());
        refused(&tree);
    }
}

#[test]
fn a_journal_that_is_no_file_is_refused_and_does_not_block() {
    let tree = Tree::new();
    let path = tree.path("run/labtools/guest.journal");
    tree.journal("");
    fs::write(path.with_file_name("elsewhere"), journal().to_string()).unwrap();
    for make in [
        |path: &Path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        |path: &Path| symlink("/dev/zero", path).unwrap(),
        |path: &Path| symlink("elsewhere", path).unwrap(),
        |path: &Path| drop(UnixListener::bind(path).unwrap()),
    ] {
        fs::remove_file(&path).unwrap();
        make(&path);
        let error = restore(&tree.common).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Config);
        let error = error.to_string();
        assert!(
            error.contains("guest.journal: not a journal; restart"),
            "{error}"
        );
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&tree);
    fs::remove_dir(&path).unwrap();
    // Longer than any journal.
    let long = fs::File::create(&path).unwrap();
    long.set_len(1 << 40).unwrap();
    refused(&tree);
}

/// Whatever the journal says: the driver of the root disk keeps it.
#[test]
fn restore_takes_no_device_from_a_driver_of_the_host() {
    let tree = Tree::new();
    let mut journal = journal();
    journal["devices"][0]["driver"] = Value::Null;
    tree.journal(&journal.to_string());
    tree.write("sys/bus/pci/drivers/snd_hda_intel/unbind", "");
    let returned = restore(&tree.common).unwrap().unwrap();
    assert_eq!(
        returned.left,
        [
            "0000:00:1b.0: snd_hda_intel instead of no driver",
            "giving 0000:00:1b.0 back: snd_hda_intel has it since, and the host may use it; unbind it or restart the machine"
        ]
    );
    assert_eq!(tree.read("sys/bus/pci/drivers/snd_hda_intel/unbind"), "");
    assert!(tree.has_journal());
}

#[test]
fn restore_names_the_way_out_for_a_device_that_is_not_there_any_more() {
    let tree = Tree::new();
    for driver in [json!("snd_hda_intel"), Value::Null] {
        let mut journal = journal();
        journal["devices"][0]["driver"] = driver;
        journal["devices"][0]["device"] = "0000:00:1f.3".into();
        tree.journal(&journal.to_string());
        assert_eq!(
            restore(&tree.common).unwrap().unwrap().left,
            [
                "0000:00:1f.3: not there any more; echo 1 >/sys/bus/pci/rescan, then run vm-passthrough restore"
            ]
        );
    }
}

#[test]
fn a_journal_shrinks_to_what_was_not_given_back() {
    let tree = Tree::new();
    let mut both = journal();
    let other = json!({"device": "0000:00:1f.3", "driver": "absent", "driver_override": null});
    both["parked"] = json!([other]);
    tree.journal(&both.to_string());
    assert_eq!(restore(&tree.common).unwrap().unwrap().devices.len(), 2);
    let rest = restore(&tree.common).unwrap().unwrap();
    assert_eq!(rest.devices.len(), 1);
    assert_eq!(rest.devices[0].device.to_string(), "0000:00:1f.3");
}

#[test]
fn a_guest_does_not_start_beside_a_journal_that_cannot_be_followed() {
    let tree = Tree::new();
    tree.journal("");
    let failed = Handover::take(&tree.common, &audio(), &mut |_| {}).unwrap_err();
    assert_eq!(Exit::of(&failed.error), Exit::Config);
    assert!(failed.returned.is_none());
}

/// No file of a tree binds a driver, so that the guest fails; but its journal was written before.
#[test]
fn a_guest_after_one_that_was_not_given_back_keeps_the_first_drivers() {
    let tree = Tree::new();
    let mut journal = journal();
    journal["parked"] =
        json!([{"device": "0000:00:1f.3", "driver": "i801_smbus", "driver_override": null}]);
    tree.journal(&journal.to_string());
    tree.bind("vfio-pci");
    tree.write("sys/bus/pci/drivers/vfio-pci/unbind", "");
    let failed = Handover::take(&tree.common, &audio(), &mut |_| {}).unwrap_err();
    assert_eq!(Exit::of(&failed.error), Exit::NoInput, "no node of a group");
    let devices = failed.returned.unwrap().devices;
    let before: Vec<_> = devices
        .iter()
        .map(|returned| {
            let before = returned.before.as_deref();
            (returned.device.to_string(), before.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        before,
        [
            ("0000:00:1f.3".to_owned(), "i801_smbus"),
            ("0000:00:1b.0".to_owned(), "snd_hda_intel")
        ]
    );
    let written: Value = serde_json::from_str(&tree.read("run/labtools/guest.journal")).unwrap();
    assert_eq!(written["devices"], journal["devices"]);
    assert_eq!(written["parked"], journal["parked"]);
}

/// The host may use it in a way that is not visible.
#[test]
fn a_guest_gets_no_device_that_the_host_has_got_back_without_a_restore() {
    let tree = Tree::new();
    let mut journal = journal();
    journal["devices"][0]["driver"] = Value::Null;
    tree.journal(&journal.to_string());
    let failed = Handover::take(&tree.common, &audio(), &mut |_| {}).unwrap_err();
    assert_eq!(Exit::of(&failed.error), Exit::TemporaryFailure);
    assert_eq!(
        failed.error.to_string(),
        "taking the devices: 0000:00:1b.0: snd_hda_intel has it, and it was not given back: before the last guest no driver had it; unbind it and run vm-passthrough restore, or restart the machine"
    );
    assert!(failed.returned.is_none());
    assert_eq!(tree.read(&format!("{DEVICE}/driver_override")), "(null)\n");
    let mut other = audio();
    other.devices.clear();
    let handover = Handover::take(&tree.common, &other, &mut |_| {});
    let handover = handover.expect("this guest needs no device");
    let returned = handover.give_back();
    assert!(!returned.whole && tree.has_journal());
    assert_eq!(
        returned.left[0], "0000:00:1b.0: snd_hda_intel instead of no driver",
        "the end of each guest names it"
    );
}

/// Fakes: nodes whose owner cannot be changed, and a driver without its file.
#[test]
fn restore_goes_on_with_the_next_group_and_the_console_whatever_fails() {
    let tree = Tree::new();
    let mut journal = journal();
    journal["groups"] = [7, 8]
        .map(|group| json!({"group": group, "owner": {"uid": 7, "gid": 7}}))
        .into();
    journal["console"] = json!({"consoles": ["vtcon1"],
        "framebuffers": [{"driver": "efi-framebuffer", "device": "efi-framebuffer.0"}]});
    tree.journal(&journal.to_string());
    fs::create_dir_all(tree.path("dev/vfio")).unwrap();
    for group in ["7", "8"] {
        symlink(
            "/proc/sys/kernel/osrelease",
            tree.path("dev/vfio").join(group),
        )
        .unwrap();
    }
    tree.write("sys/class/vtconsole/vtcon1/bind", "0\n");
    let left = restore(&tree.common).unwrap().unwrap().left;
    for group in ["7", "8"] {
        let why = format!(
            "changing the owner of {}",
            tree.path(&format!("dev/vfio/{group}")).display()
        );
        assert!(left.iter().any(|left| left.starts_with(&why)), "{left:?}");
    }
    assert_eq!(tree.read("sys/class/vtconsole/vtcon1/bind"), "1\n");
}

#[test]
fn differences_are_found_without_a_change() {
    let tree = Tree::new();
    assert_eq!(differences(&tree.common).unwrap(), None);
    tree.journal(&journal().to_string());
    assert_eq!(differences(&tree.common).unwrap(), Some(Vec::new()));
    tree.bind("vfio-pci");
    assert_eq!(
        differences(&tree.common).unwrap().unwrap(),
        ["0000:00:1b.0: vfio-pci instead of snd_hda_intel"]
    );
    let mut old = journal();
    old["boot_id"] = "another-boot".into();
    tree.journal(&old.to_string());
    assert_eq!(differences(&tree.common).unwrap(), None);
    assert!(tree.has_journal());
}

#[test]
fn a_step_that_fails_undoes_those_before() {
    let tree = Tree::new();
    // This driver keeps its device.
    tree.write("sys/bus/pci/drivers/snd_hda_intel/unbind", "");
    let failed = Handover::take(&tree.common, &audio(), &mut |_| {}).unwrap_err();
    assert_eq!(
        failed.error.to_string(),
        "unbinding 0000:00:1b.0 from snd_hda_intel: it is still bound"
    );
    let returned = failed.returned.unwrap();
    assert!(returned.whole, "{returned:?}");
    assert_eq!(tree.read(&format!("{DEVICE}/driver_override")), "\n");
    assert!(!tree.has_journal());
}

#[test]
fn nothing_wanted_is_nothing_done() {
    let tree = Tree::new();
    let wanted = Wanted {
        devices: Vec::new(),
        ..audio()
    };
    let handover = Handover::take(&tree.common, &wanted, &mut |step| panic!("{step}")).unwrap();
    assert!(!tree.has_journal() && handover.taken().steps.is_empty());
    assert!(handover.give_back().whole);
}

fn audio() -> Wanted {
    Wanted {
        devices: vec!["00:1b.0".parse().unwrap()],
        parked: Vec::new(),
        owner: Owner { uid: 1, gid: 1 },
        memory: None,
        reserve: 0,
    }
}
