//! QEMU's command line for each machine, and what keeps it from being made. The machines are
//! directories in testdata.

use std::fs;
use std::path::{Path, PathBuf};

use jsonpipe::testkit::{Ended, Stage};
use jsonpipe::{Common, Document};
use serde_json::Value;
use tempfile::TempDir;
use vm_passthrough::accel::Accel;
use vm_passthrough::machine::{MacSource, Machine};
use vm_passthrough::memory;
use vm_passthrough::profile::{Configuration, Profile};
use vm_passthrough::qemu::{Qemu, Version};
use vm_passthrough::request::Volume;
use vm_passthrough::segment::Segment;
use vm_passthrough::virtualizer::{Descriptors, Parts, Virtualizer};

const LINUX: &str = r#"{"volume":{"path":"/images/disk.qcow2","format":"qcow2","ostype":"linux"}}"#;
const WINDOWS: &str =
    r#"{"volume":{"path":"/images/disk.qcow2","format":"qcow2","ostype":"windows"}}"#;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vm-passthrough")
}

const OLD: Version = Version { major: 7, minor: 2 };
const NEW: Version = Version {
    major: 10,
    minor: 0,
};

/// The command line for `machine` and `disk`, on a KVM that works: an option and its value share a
/// line, as people write them.
fn command_line(name: &str, disk: &str, version: Version, adapt: impl Fn(&mut Profile)) -> String {
    let common = Common {
        verbose: false,
        log: false,
        root: testdata().join(name).join("machine"),
        config: Some(testdata().join("config")),
    };
    let text = fs::read_to_string(testdata().join(disk).with_extension("json")).unwrap();
    let volume: Volume = Document::parse(&text, "guest")
        .unwrap()
        .require("volume")
        .unwrap();
    let model = model::of_machine(&common);
    let Configuration {
        mut profile,
        devices,
        settings,
        ..
    } = Configuration::read(&common, &volume.ostype, model.as_deref().ok()).unwrap();
    adapt(&mut profile);
    let machine = Machine::read(&common, model, devices, None).unwrap();
    let memory = settings.host_memory(volume.is_device());
    let segment = Segment {
        group: "239.192.1.1:5010".parse().unwrap(),
        local: "192.0.2.7".parse().unwrap(),
    };
    let parts = Parts {
        accel: Accel::Kvm,
        machine: &machine,
        memory: memory::of_guest(&common, profile.memory, memory).unwrap(),
        segment: profile.segment.then_some(&segment),
        profile: &profile,
        settings: &settings,
        volume: &volume,
        descriptors: Descriptors::PLANNED,
    };
    let qemu = Qemu {
        binary: settings.binary.clone(),
        version: Some(version),
    };
    let mut lines = String::new();
    for word in qemu.command_line(&parts) {
        let separator = if word.starts_with('-') { "\n" } else { " " };
        lines += if lines.is_empty() { "" } else { separator };
        lines += &word;
    }
    lines + "\n"
}

/// The shipped profiles' command lines for `machine`, against `machine/DISK.expected`.
fn golden(name: &str) {
    for disk in ["qcow2", "raw", "linux", "linux-raw"] {
        let lines = command_line(name, disk, NEW, |_| ());
        let path = testdata().join(name).join(disk).with_extension("expected");
        let expected = fs::read_to_string(path).unwrap();
        assert_eq!(lines, expected, "{name} {disk}");
    }
}

#[test]
fn optiplex_7010() {
    golden("optiplex-7010");
}

#[test]
fn optiplex_9020() {
    golden("optiplex-9020");
}

/// Its audio is at 1f.3, where legacy mode puts a bridge.
#[test]
fn optiplex_7040() {
    golden("optiplex-7040");
}

#[test]
fn a_machine_with_nothing_to_hand_over() {
    golden("emulated");
}

/// The lines that `other` has instead of those of `lines`.
fn differences<'a>(lines: &'a str, other: &'a str) -> Vec<&'a str> {
    let known: Vec<&str> = lines.lines().collect();
    other.lines().filter(|line| !known.contains(line)).collect()
}

#[test]
fn an_older_qemu_differs_in_the_option_for_graphics_alone() {
    for name in ["optiplex-7010", "optiplex-9020", "optiplex-7040"] {
        let [new, old] = [NEW, OLD].map(|version| command_line(name, "qcow2", version, |_| ()));
        let graphics = "-device vfio-pci-nohotplug,host=0000:00:02.0,bus=pci.0,addr=0x02,";
        assert_eq!(
            differences(&new, &old),
            [format!("{graphics}x-igd-gms=0x2")]
        );
        assert_eq!(
            differences(&old, &new),
            [format!("{graphics}x-igd-legacy-mode=on")]
        );
    }
    let [new, old] = [NEW, OLD].map(|version| command_line("emulated", "qcow2", version, |_| ()));
    assert_eq!(new, old);
}

/// Figure 4 of the thesis, but for the differences that vm-passthrough(8) lists.
#[test]
fn figure_4_comes_out() {
    let lines = command_line("optiplex-7010", "raw", NEW, |profile| {
        profile.memory = Some("6910M".to_owned().try_into().unwrap());
        profile.rdp = true;
    });
    let mut rest = lines.as_str();
    for option in [
        "qemu-system-x86_64\n",
        "-accel kvm\n",
        "-cpu host",
        "-smp cores=8\n",
        "-machine pc\n",
        "-nodefaults\n",
        "-boot menu=off\n",
        "--mem-path /hugepages\n",
        "--mem-prealloc\n",
        "-device vfio-pci-nohotplug,host=0000:00:02.0,bus=pci.0,addr=0x02",
        "-device vfio-pci-nohotplug,host=0000:00:1d.0,bus=pci.0,addr=0x1d\n",
        "-device vfio-pci-nohotplug,host=0000:00:1a.0,bus=pci.0,addr=0x1a\n",
        "-device vfio-pci-nohotplug,host=0000:00:14.0,bus=pci.0,addr=0x14\n",
        "-device vfio-pci-nohotplug,host=0000:00:1b.0,bus=pci.0,addr=0x1b\n",
        "-device virtio-scsi-pci,id=scsi",
        "-drive if=none,id=hd_sys,",
        "-device scsi-hd,drive=hd_sys\n",
        "-netdev user,hostfwd=tcp:192.0.2.10:3389-:3389,id=net_sys\n",
        "-device virtio-net-pci,netdev=net_sys,mac=74:86:7a:fd:de:36\n",
        "-rtc base=localtime,clock=vm\n",
    ] {
        let (_, after) = rest
            .split_once(option)
            .unwrap_or_else(|| panic!("{option:?} is not in its place:\n{lines}"));
        rest = after;
    }
}

#[test]
fn the_keys_of_a_profile_change_the_network() {
    let plain = command_line("optiplex-7010", "linux", NEW, |_| ());
    let segment = command_line("optiplex-7010", "linux", NEW, |profile| {
        profile.segment = true
    });
    assert_eq!(
        differences(&plain, &segment),
        [
            "-netdev dgram,id=net_room,remote.type=inet,remote.host=239.192.1.1,remote.port=5010,local.type=inet,local.host=192.0.2.7,local.port=5010",
            "-device virtio-net-pci,netdev=net_room,host_mtu=1458,mac=76:86:7a:fd:de:36",
        ]
    );
    let derived = command_line("optiplex-7010", "linux", NEW, |profile| {
        profile.mac = MacSource::Derived;
    });
    assert_eq!(
        differences(&plain, &derived),
        ["-device virtio-net-pci,netdev=net_sys,mac=72:86:7a:fd:de:36"]
    );
}

/// A machine with the example configuration, some of whose lines are replaced.
fn machine_with(changes: &[(&str, &str, &str)]) -> TempDir {
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

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn plan(root: &Path, document: &str) -> Ended {
    let stage = Stage {
        binary: env!("CARGO_BIN_EXE_vm-passthrough"),
        arguments: &["plan"],
        request: "volume",
        document: LINUX,
        prepare: |_| {},
    };
    stage.run(root, document)
}

fn guest(ended: &Ended) -> Value {
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
            "profiles.ini: no section [profile.linux]; add one for this operating system",
        ),
        (
            &[("profiles.ini", "rtc = utc", "memory = lots")],
            LINUX,
            "profiles.ini: profile.linux.memory: expected an amount",
        ),
        (
            &[("profiles.ini", "cores = 4", "cores = 0")],
            LINUX,
            "profiles.ini: profile.windows.cores: expected a whole number above zero",
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
            verbose: false,
            log: false,
            root: "/".into(),
            config: Some(config.path().to_owned()),
        };
        let settings = Configuration::read(&common, "linux", None)
            .unwrap()
            .settings;
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
        assert!(ended.stderr.contains(name), "{}", ended.stderr);
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

#[test]
fn a_login_that_does_not_say_yes_or_no_is_65() {
    let ended = plan(
        machine_with(&[]).path(),
        &LINUX.replacen('{', r#"{"login":{"schema":1,"user":"a"},"#, 1),
    );
    assert_eq!(
        (ended.status, ended.stderr.as_str()),
        (65, "vm-passthrough: login.authenticated: missing\n")
    );
}

/// What cowvol 0.1.0 printed for `[login]`, `user=…`, `realm=…` and `authenticated=true` by hand.
const BY_COWVOL: &str = concat!(
    r#"{"login":{"user":"alice@uni-a.example","realm":"uni-a.example","authenticated":true},"volume":{"schema":1,"#,
    r#""user":"alice@uni-a.example","token":"T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w","base":"linux","ostype":"linux","#,
    r#""generation":7,"backend":"qcow2","format":"qcow2","#,
    r#""path":"/qcow2/user/T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w/linux@7.qcow2","backing_path":"/qcow2/backing/linux/7.qcow2","#,
    r#""backing_format":"qcow2","virtual_bytes":1048576,"held_bytes":12288,"created":true,"changed":true}}"#
);

/// What nm-8021x-login writes, all its keys.
const BY_LOGIN: &str = concat!(
    r#""login":{"schema":1,"changed":true,"user":"alice@uni-a.example","realm":"uni-a.example","method":"8021x","#,
    r#""session":"0e9fc01c-1e52-4f0a-8f3c-5a6f7f1f3c11","authenticated":true,"reason":"rejected","#,
    r#""started_at":"2026-11-23T08:00:00Z","links":[{"interface":"eth0","kind":"ethernet","#,
    r#""profile":"0e9fc01c-1e52-4f0a-8f3c-5a6f7f1f3c11","eap":"ttls","server_subject":"CN=radius","addresses":["192.0.2.7"],"#,
    r#""primary":true,"verdict_seconds":0.5}],"missing":[{"key":"links[0].primary","reason":"no route yet"}]}"#
);

#[test]
fn documents_of_earlier_stages_are_taken() {
    let root = machine_with(&[]);
    write(
        root.path(),
        "sys/class/net/eth0/address",
        "74:86:7a:00:00:04",
    );
    let by_both = BY_COWVOL.replacen(
        &BY_COWVOL[1..BY_COWVOL.find(r#","volume""#).unwrap()],
        BY_LOGIN,
        1,
    );
    for document in [BY_COWVOL, &by_both] {
        // The same without `schema`: a person who copied it from there.
        for document in [document.to_owned(), document.replace(r#""schema":1,"#, "")] {
            let ended = plan(root.path(), &document);
            let argv = guest(&ended)["argv"].to_string();
            assert!(
                argv.contains("linux@7.qcow2") && argv.contains("/7.qcow2"),
                "{argv}"
            );
            assert_eq!(argv.contains(",mac="), document.contains("eth0"), "{argv}");
            let handed_on = document.strip_suffix('}').unwrap();
            assert!(ended.stdout.starts_with(handed_on), "{}", ended.stdout);
        }
    }
    let ini = "[login]\nuser=alice@uni-a.example\nusername=alice\nauthenticated=true\n\n[volume]\nbase=linux\ngeneration=7\n\
               virtual_bytes=1048576\ncreated=true\npath=/v\nformat=raw\nostype=linux\n";
    guest(&plan(root.path(), ini));
}

#[test]
fn a_key_that_no_stage_before_writes_is_named() {
    for (key, path) in [
        ("authenticated", "login.x"),
        ("interface", "login.links[0].x"),
        ("ostype", "volume.x"),
    ] {
        let login = r#"{"login":{"authenticated":true,"links":[{"interface":"eth0"}]},"#;
        let document = LINUX.replacen('{', login, 1).replacen(
            &format!("\"{key}\":"),
            &format!("\"x\":1,\"{key}\":"),
            1,
        );
        let ended = plan(machine_with(&[]).path(), &document);
        assert_eq!(
            (ended.status, ended.stderr),
            (65, format!("vm-passthrough: {path}: unknown key\n"))
        );
    }
}
