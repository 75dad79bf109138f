//! Through Dell's cctk. Its stand-in is a script that has two settings in a file: the program is
//! not free, and runs on Dell's machines only. What it refuses and ignores are faults of the real
//! one, which needs the setup password for each change where one is set.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{lenovo, named, policy};
use crate::machine::Machine;

const CCTK: &str = "opt/dell/dcc/cctk";
const STORE: &str = "cctk-store";

/// An OptiPlex with cctk, which does `write` with its argument $1.
fn optiplex(write: &str) -> Machine {
    let machine = lenovo();
    machine.remove("sys/class/firmware-attributes");
    named(&machine, "OptiPlex 7010", "A20");
    policy(&machine, "cctk", "vtfordirectio=on", "false");
    machine.write(STORE, "[cctk]\nvtfordirectio=off\nwakeonlan=enable\n");
    let root = machine.root().display();
    machine.write(
        CCTK,
        format!(
            "#!/bin/sh\ncd {root}\necho \"$@\" >>calls\n[ \"$1\" != -o ] || exec cat {STORE}\n{write}\n"
        ),
    );
    fs::set_permissions(machine.path(CCTK), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

#[test]
fn cctk_writes_what_differs() {
    let machine = optiplex("sed -i \"s/^vtfordirectio=.*/${1#--}/\" cctk-store");
    assert_eq!(machine.run(&["firmware", "--dry-run"]).status, 1);
    let ended = machine.run(&["firmware"]);
    assert_eq!((ended.status, &*ended.stderr), (0, ""));
    let expected = json!({
        "schema": 1, "changed": true, "interface": "cctk", "model": "OptiPlex 7010",
        "settings": [
            {"setting": "vt_d", "attribute": "vtfordirectio", "wanted": "on", "was": "off", "is": "on"},
            {"setting": "wake_on_lan", "attribute": "WakeOnLAN", "wanted": "Enable", "was": "Enable", "is": "Enable"},
        ],
    });
    assert_eq!(ended.section("firmware"), expected);
    // The inventory does not show an older answer.
    assert_eq!(super::wanted(&machine)[0]["is"], "on");
    let calls = machine.read("calls");
    let ask = "-o /dev/stdout";
    assert_eq!(
        calls.lines().collect::<Vec<_>>(),
        [ask, ask, "--vtfordirectio=on", ask]
    );
}

#[test]
fn what_cctk_refuses_or_ignores_is_told() {
    for (write, failed) in [
        (
            "echo 'The setup password is required.' >&2; exit 41",
            "writing it: /opt/dell/dcc/cctk --vtfordirectio=on: status 41: The setup password is required.",
        ),
        ("exit 0", "the firmware took it, and has another value now"),
    ] {
        let ended = optiplex(write).run(&["firmware"]);
        let firmware = ended.section("firmware");
        let setting = &firmware["settings"][0];
        assert_eq!(
            (&setting["is"], &setting["failed"], ended.status),
            (&json!("off"), &json!(failed), 1),
            "a value that was not read back is shown"
        );
        assert_eq!(firmware["changed"], false);
    }
}

#[test]
fn cctk_gets_no_password() {
    let machine = optiplex("exit 0");
    policy(&machine, "cctk", "vtfordirectio=on", "true");
    let complaint = format!(
        "{}/etc/labtools/firmware.ini: cctk: setup_password: cctk takes a password only on its command line, which every process can read; set it by hand, and false here",
        machine.root().display()
    );
    machine.run(&["firmware"]).refused(78, &complaint);
    assert_eq!(machine.read("calls"), "-o /dev/stdout\n");
}
