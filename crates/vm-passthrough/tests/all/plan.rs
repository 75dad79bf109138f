//! Plans, and what keeps them from being made.

use std::fs;
use std::path::{Path, PathBuf};

use jsonpipe::Common;
use jsonpipe::testkit::{Ended, Stage};
use serde_json::Value;
use tempfile::TempDir;
use vm_passthrough::profile::Configuration;

pub const LINUX: &str =
    r#"{"volume":{"path":"/images/disk.qcow2","format":"qcow2","ostype":"linux"}}"#;
const WINDOWS: &str =
    r#"{"volume":{"path":"/images/disk.qcow2","format":"qcow2","ostype":"windows"}}"#;

pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vm-passthrough")
}

/// A machine with the example configuration, some of whose lines are replaced.
pub fn machine_with(changes: &[(&str, &str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("etc/labtools");
    fs::create_dir_all(&config).unwrap();
    for name in ["profiles.ini", "models.ini", "vm-passthrough.ini"] {
        let mut text = fs::read_to_string(testdata().join("config").join(name)).unwrap();
        for (_, from, to) in changes.iter().filter(|(file, ..)| *file == name) {
            assert!(text.contains(from), "{name} has no {from}");
            text = text.replace(from, to);
        }
        fs::write(config.join(name), text).unwrap();
    }
    write(root.path(), "proc/meminfo", "MemTotal: 7628800 kB\n");
    root
}

pub fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub fn plan(root: &Path, document: &str) -> Ended {
    let stage = Stage {
        binary: env!("CARGO_BIN_EXE_vm-passthrough"),
        arguments: &["plan"],
        request: "volume",
        document: LINUX,
        prepare: |_| {},
    };
    stage.run(root, document)
}

pub fn guest(ended: &Ended) -> Value {
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    serde_json::from_str::<Value>(&ended.stdout).unwrap()["guest"].clone()
}

#[test]
fn a_plan_says_what_it_found() {
    let root = testdata().join("optiplex-7040/machine");
    let stage = Stage {
        binary: env!("CARGO_BIN_EXE_vm-passthrough"),
        arguments: &[
            "plan",
            "--config",
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../testdata/vm-passthrough/config"
            ),
        ],
        request: "volume",
        document: LINUX,
        prepare: |_| {},
    };
    let guest = guest(&stage.run(&root, LINUX));
    assert_eq!(
        (&guest["changed"], &guest["accel"]),
        (&false.into(), &"tcg".into())
    );
    assert_eq!(guest["model"], "OptiPlex 7040");
    assert_eq!(
        guest["devices"],
        serde_json::json!(["0000:00:02.0", "0000:00:14.0", "0000:00:1f.3"])
    );
    assert_eq!(guest["groups"], serde_json::json!([0, 3, 6]));
    assert_eq!(guest["missing"], serde_json::json!([]));
    assert_eq!(guest.get("ended"), None);
}

#[test]
fn a_machine_without_a_name_says_so() {
    let guest = guest(&plan(machine_with(&[]).path(), LINUX));
    assert_eq!(guest.get("model"), None);
    assert_eq!(
        guest["missing"],
        serde_json::json!([{"key": "model", "reason": "the firmware names no product"}])
    );
}

#[test]
fn a_machine_whose_name_is_no_text_says_so() {
    for name in [
        &b"\xc0\x1c[\x87\n"[..],
        b"OptiPlex\x1c7010\n",
        "OptiPlex\u{200b} 7010\n".as_bytes(),
    ] {
        let root = machine_with(&[]);
        write(root.path(), "sys/class/dmi/id/product_name", "");
        fs::write(root.path().join("sys/class/dmi/id/product_name"), name).unwrap();
        let guest = guest(&plan(root.path(), LINUX));
        assert_eq!(
            (guest.get("model"), &guest["devices"]),
            (None, &serde_json::json!([]))
        );
        assert_eq!(
            guest["missing"],
            serde_json::json!([{"key": "model", "reason": "the firmware's product name is no text"}])
        );
        assert!(guest["argv"].to_string().contains("VGA,bus=pci.0"));
    }
    // What cannot be read at all, as a directory, is no end either.
    let root = machine_with(&[]);
    fs::create_dir_all(root.path().join("sys/class/dmi/id/product_name")).unwrap();
    let reason = &guest(&plan(root.path(), LINUX))["missing"][0]["reason"];
    assert!(
        reason
            .as_str()
            .unwrap()
            .ends_with("product_name: Is a directory (os error 21)"),
        "{reason}"
    );
}

#[test]
fn a_wrong_configuration_is_78_and_says_where() {
    for (changes, document, message) in [
        (
            &[("profiles.ini", "[profile.linux]", "[profile.bsd]")][..],
            LINUX,
            "profiles.ini: no section [profile.linux]; add one for this operating system, see vm-passthrough(8)",
        ),
        (
            &[("profiles.ini", "rtc = utc", "memory = lots")],
            LINUX,
            "profiles.ini: profile.linux.memory: expected an amount",
        ),
        (
            &[("profiles.ini", "cores = 4", "cores = 0")],
            LINUX,
            "profiles.ini: profile.windows.cores: expected a whole number above zero; correct it, see vm-passthrough(8)",
        ),
        (
            &[("profiles.ini", "cores = 4", "cores = +4")],
            LINUX,
            "profiles.ini: profile.windows.cores: expected a whole number",
        ),
        (
            &[("profiles.ini", "# rdp", "rpd")],
            LINUX,
            "profiles.ini: profile.windows.rpd: unknown key",
        ),
        (
            &[
                ("profiles.ini", "# rdp", "rdp"),
                (
                    "vm-passthrough.ini",
                    "management_address",
                    "# management_address",
                ),
            ],
            WINDOWS,
            "qemu.management_address: missing, and [profile.windows] has rdp=true",
        ),
        (
            &[("vm-passthrough.ini", "192.0.2.10", "0.0.0.0")],
            LINUX,
            "qemu.management_address: refusing all addresses",
        ),
        (
            &[("vm-passthrough.ini", "user = 64055", "")],
            LINUX,
            "vm-passthrough.ini: qemu.user: missing",
        ),
        (
            &[("vm-passthrough.ini", "user = 64055", "user = root")],
            LINUX,
            "qemu.user: refusing to run as root",
        ),
        (
            &[("vm-passthrough.ini", "user = 64055", "user = 0")],
            LINUX,
            "qemu.user: refusing to run as root",
        ),
        (
            &[("vm-passthrough.ini", "user = 64055", "user = no-such-user")],
            LINUX,
            "qemu.user: no user no-such-user; add one",
        ),
        // setresuid(2) takes it for "leave it as it is".
        (
            &[("vm-passthrough.ini", "user = 64055", "user = 4294967295")],
            LINUX,
            "qemu.user: refusing 4294967295, which the kernel takes for no change of user; name another user",
        ),
        (
            &[(
                "vm-passthrough.ini",
                "user = 64055",
                "user = 64055\nshutdown_seconds = 4294967296",
            )],
            LINUX,
            "vm-passthrough.ini: qemu.shutdown_seconds: expected a whole number",
        ),
        (
            &[("profiles.ini", "rtc = utc", "mac = mine")],
            LINUX,
            "profiles.ini: profile.linux.mac: expected one of host, derived",
        ),
        (
            &[("models.ini", "00:14.0", "00:01.0")],
            LINUX,
            "models.ini: devices: 0000:00:01.0: the guest's slot 01 is taken already",
        ),
        (
            &[("models.ini", "00:14.0", "01:02.0")],
            LINUX,
            "models.ini: devices: 0000:01:02.0: the guest's slot 02 is taken already",
        ),
        (
            &[("models.ini", "00:14.0", "14")],
            LINUX,
            "model.OptiPlex 7010.devices[3]: expected a PCI address such as 00:02.0",
        ),
    ] {
        let root = machine_with(changes);
        write(
            root.path(),
            "sys/class/dmi/id/product_name",
            "OptiPlex 7010\n",
        );
        let ended = plan(root.path(), document);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (78, ""),
            "{message}: {}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains(message),
            "{message}: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_quarter_of_the_hosts_memory_is_free_when_huge_pages_are_reserved() {
    for (setting, bytes) in [
        ("", [256 << 20, 512 << 20]),
        ("host_memory = 540M", [135 << 20; 2]),
    ] {
        let config = tempfile::tempdir().unwrap();
        write(
            config.path(),
            "profiles.ini",
            "[profile.linux]\ncores = 1\n",
        );
        let text = format!("[qemu]\nuser = 64055\n{setting}\n");
        write(config.path(), "vm-passthrough.ini", &text);
        let common = Common {
            config: Some(config.path().to_owned()),
            ..jsonpipe::testkit::common("/")
        };
        let settings = Configuration::read(&common, None).unwrap().settings;
        let free = [false, true].map(|zfs| settings.free_memory_bytes(zfs));
        assert_eq!(free, bytes, "{setting}");
    }
}

#[test]
fn memory_that_the_host_needs_is_78_with_the_numbers() {
    let root = machine_with(&[(
        "vm-passthrough.ini",
        "user = 64055",
        "user = 64055\nhost_memory = 4097M",
    )]);
    let ended = plan(root.path(), LINUX);
    assert_eq!((ended.status, ended.stdout.as_str()), (78, ""));
    let message = "finding memory for the guest: of this machine's 7450M, 4097M are the host's, and 3353M remain; a guest needs 3354M";
    assert!(ended.stderr.contains(message), "{}", ended.stderr);
}

#[test]
fn a_missing_configuration_is_78() {
    for name in ["profiles.ini", "vm-passthrough.ini"] {
        let root = machine_with(&[]);
        fs::remove_file(root.path().join("etc/labtools").join(name)).unwrap();
        let ended = plan(root.path(), LINUX);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (78, ""),
            "{name}: {}",
            ended.stderr
        );
        let message = format!("{name}: no such file; ");
        assert!(ended.stderr.contains(&message), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("vm-passthrough(8)"),
            "{}",
            ended.stderr
        );
    }
    // Without models there is nothing to hand over.
    let root = machine_with(&[]);
    fs::remove_file(root.path().join("etc/labtools/models.ini")).unwrap();
    assert_eq!(
        guest(&plan(root.path(), LINUX))["devices"],
        serde_json::json!([])
    );
}

/// models.ini is read by invcollect as well, which has a key there that no guest needs.
#[test]
fn a_model_may_say_what_invcollect_wants_to_know() {
    let section = "[model.OptiPlex 7010]\n";
    let root = machine_with(&[(
        "models.ini",
        section,
        &format!("{section}intrusion_switch=false\n"),
    )]);
    write(
        root.path(),
        "sys/class/dmi/id/product_name",
        "OptiPlex 7010\n",
    );
    let ended = plan(root.path(), LINUX);
    assert!(!ended.stderr.contains("models.ini"), "{}", ended.stderr);
}

#[test]
fn a_device_that_is_not_there_is_66_and_named() {
    let root = machine_with(&[]);
    write(
        root.path(),
        "sys/class/dmi/id/product_name",
        "OptiPlex 7040\n",
    );
    for (name, text) in [
        ("vendor", "0x8086\n"),
        ("device", "0x1912\n"),
        ("class", "0x030000\n"),
    ] {
        let path = format!("sys/bus/pci/devices/0000:00:02.0/{name}");
        write(root.path(), &path, text);
    }
    let ended = plan(root.path(), LINUX);
    assert_eq!((ended.status, ended.stdout.as_str()), (66, ""));
    assert_eq!(
        ended.stderr,
        "vm-passthrough: PCI device 0000:00:14.0: not there, but [model.OptiPlex 7040] lists it\n"
    );
}

#[test]
fn the_guest_gets_the_address_of_the_card_that_logged_in() {
    let root = machine_with(&[]);
    for (name, kind, address, files) in [
        ("dummy0", "1", "02:00:00:00:00:01", &[][..]),
        (
            "wlan0",
            "1",
            "74:86:7a:00:00:02",
            &["device/vendor", "phy80211/name"],
        ),
        ("eth1", "1", "74:86:7a:00:00:03", &["device/vendor"]),
        ("eth0", "1", "74:86:7a:00:00:04", &["device/vendor"]),
        ("can0", "280", "74:86:7a:00:00:05", &["device/vendor"]),
    ] {
        write(root.path(), &format!("sys/class/net/{name}/type"), kind);
        write(
            root.path(),
            &format!("sys/class/net/{name}/address"),
            address,
        );
        for file in files {
            write(root.path(), &format!("sys/class/net/{name}/{file}"), "");
        }
    }
    write(root.path(), "sys/class/net/bonding_masters", "");
    let card = |login: &str| {
        let ended = plan(root.path(), &LINUX.replacen('{', &format!("{{{login}"), 1));
        let argv = guest(&ended)["argv"].to_string();
        argv.split("netdev=net_sys")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(card(""), ",mac=74:86:7a:00:00:04");
    let login = |interface: &str| {
        format!(
            r#""login":{{"schema":1,"authenticated":true,"links":[{{"interface":"{interface}"}}]}},"#
        )
    };
    assert_eq!(card(&login("wlan0")), ",mac=74:86:7a:00:00:02");
    assert_eq!(
        card(r#""login":{"schema":1,"authenticated":true,"links":[]},"#),
        ",mac=74:86:7a:00:00:04"
    );
    fs::remove_dir_all(root.path().join("sys/class/net")).unwrap();
    assert_eq!(card(""), "");

    for (interface, status) in [
        ("eth9", 66),
        ("../eth0", 65),
        ("..", 65),
        ("", 65),
        ("eth0\\u0000", 65),
        ("eth0\\n", 65),
    ] {
        let ended = plan(
            root.path(),
            &LINUX.replacen('{', &format!("{{{}", login(interface)), 1),
        );
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{interface}: {}",
            ended.stderr
        );
    }
}
