//! `is-fresh` on machines that are directories.

use std::fs;
use std::process::Command;

use jsonpipe::testkit::feed;
use serde_json::json;

/// Half of the free memory in the smallest blocks.
const FRAGMENTED: &str = "Node 0, zone   Normal  1024 0 0 0 0 0 0 0 0 0 1\n";
const WHOLE: &str = "Node 0, zone   Normal  0 0 0 0 0 0 0 0 0 0 2\n";

#[test]
fn the_site_decides_when_the_host_restarts_between_sessions() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let is_fresh = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vm-passthrough"));
        command.args(["is-fresh", "--root"]).arg(root.path());
        feed(command, "")
    };
    let policy = |policy: &str| format!("[qemu]\nuser=64055\n[host]\n{policy}\n");
    for (ini, buddyinfo, status) in [
        ("", FRAGMENTED, 0),
        ("[host]\n", FRAGMENTED, 0),
        (&policy("reboot_between_sessions=never"), FRAGMENTED, 0),
        (&policy("reboot_between_sessions=fragmented"), FRAGMENTED, 1),
        (&policy("reboot_between_sessions=fragmented"), WHOLE, 0),
        (&policy("reboot_between_sessions=fragmented"), "", 0),
        (&policy("reboot_between_sessions=always"), WHOLE, 1),
    ] {
        write("etc/labtools/vm-passthrough.ini", ini);
        write("proc/buddyinfo", buddyinfo);
        let ended = is_fresh();
        assert_eq!(ended.status, status, "{ini} {buddyinfo} {ended:?}");
        let guest = ended.section("guest");
        assert_eq!(guest["fresh"], json!(status == 0));
        assert_eq!(
            guest["missing"].as_array().unwrap().len(),
            usize::from(buddyinfo.is_empty())
        );
    }
    write(
        "etc/labtools/vm-passthrough.ini",
        &policy("reboot_between_sessions=often"),
    );
    let ended = is_fresh();
    assert_eq!((ended.status, ended.stdout.as_str()), (78, ""));
    let complaint = "host.reboot_between_sessions: expected one of never, fragmented, always\n";
    assert!(ended.stderr.ends_with(complaint), "{}", ended.stderr);
}
