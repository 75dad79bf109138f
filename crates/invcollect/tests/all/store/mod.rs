//! A collector's store, with what a campus reported: signed, as `invcollect push` sends it, and
//! with the times at which the collector received it. A test, the examples of the page and the
//! benchmark make their fixtures with it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use envelope::{Header, Key, Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Monday, 0:00 UTC.
pub const MONDAY: u64 = 1_731_888_000;
pub const HOUR: u64 = 3600;
pub const DAY: u64 = 24 * HOUR;
/// How often machines report.
pub const QUARTER: u64 = 900;

pub fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// The store, and the configuration beside it.
pub struct Store {
    directory: TempDir,
    hosts_ini: String,
    machines: u64,
}

/// A machine.
pub struct Machine {
    pub id: String,
    pub name: String,
    pub building: String,
    pub room: String,
    number: u64,
    key: Key,
    pub sequence: u64,
    /// How many its base has.
    pub programs: u64,
    reports: PathBuf,
}

impl Store {
    pub fn new() -> Store {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "store/reports",
            "store/text",
            "store/register",
            "etc/collector/keys",
        ] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        Store {
            directory,
            hosts_ini: String::new(),
            machines: 0,
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where reports lie.
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// Instead of /etc/labtools.
    pub fn config(&self) -> PathBuf {
        self.path().join("etc")
    }

    pub fn write_config(&self, name: &str, text: &str) {
        fs::write(self.config().join(name), text).unwrap();
    }

    /// A machine of hosts.ini that is enrolled.
    pub fn machine(&mut self, building: &str, room: &str, name: &str) -> Machine {
        let number = self.list(building, room, name);
        self.enroll(number, building, room, name)
    }

    /// A machine of hosts.ini that never reports; its number.
    pub fn list(&mut self, building: &str, room: &str, name: &str) -> u64 {
        self.machines += 1;
        let number = self.machines;
        self.hosts_ini += &format!(
            "[host.{name}]\nmac={}\naddress=10.{}.{}.7\nbuilding={building}\nroom={room}\nmodel=OptiPlex 7010\n",
            mac(number),
            number / 256,
            number % 256
        );
        self.write_config("hosts.ini", &self.hosts_ini);
        number
    }

    /// Another id with the Ethernet address of machine `number`.
    pub fn enroll(&mut self, number: u64, building: &str, room: &str, name: &str) -> Machine {
        let twins = fs::read_dir(self.config().join("collector/keys"))
            .unwrap()
            .count() as u64;
        let id = format!("{number:08x}-0000-4000-8000-{twins:012x}");
        let seed: [u8; 32] = std::array::from_fn(|index| {
            (number >> (8 * (index % 8))) as u8 ^ twins as u8 ^ index as u8
        });
        let public = ed25519_dalek::SigningKey::from_bytes(&seed)
            .verifying_key()
            .to_bytes();
        let der = [
            &b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..],
            &public,
        ]
        .concat();
        fs::write(
            self.config().join(format!("collector/keys/{id}.pub")),
            pem("PUBLIC KEY", &der),
        )
        .unwrap();
        let reports = self.store().join("reports").join(&id);
        fs::create_dir(&reports).unwrap();
        let key = self.key(&seed);
        Machine {
            id,
            name: name.into(),
            building: building.into(),
            room: room.into(),
            number,
            key,
            sequence: 1_000_000_000,
            programs: 6,
            reports,
        }
    }

    /// A private key, as a host has it.
    pub fn key(&self, seed: &[u8; 32]) -> Key {
        let path = self.path().join("host.key");
        let der = [
            &b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..],
            seed,
        ]
        .concat();
        let _ = fs::remove_file(&path);
        fs::write(&path, pem("PRIVATE KEY", &der)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Key::read(&path).unwrap()
    }

    /// What the thesis's script sent.
    pub fn text(&self, id: &str, received: u64, text: &str) {
        let directory = self.store().join("text").join(id);
        fs::create_dir_all(&directory).unwrap();
        put(
            &directory.join(format!("{received}-000-0123456789abcdef")),
            text.as_bytes(),
            received,
        );
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        BASE64_STANDARD.encode(der)
    )
}

pub fn mac(number: u64) -> String {
    format!(
        "02:00:00:{:02x}:{:02x}:{:02x}",
        number >> 16 & 255,
        number >> 8 & 255,
        number & 255
    )
}

/// Writes a file of the store as if it had been received at a time.
pub fn put(path: &Path, bytes: &[u8], received: u64) {
    fs::write(path, bytes).unwrap();
    let at: SystemTime = UNIX_EPOCH + Duration::from_secs(received);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(at)
        .unwrap();
}

impl Machine {
    /// What it is at a time of a boot; a test changes of it what it is about.
    pub fn document(&self, booted: u64, at: u64) -> Value {
        let (number, place) = (
            self.number,
            json!({"net": self.room, "campus": "north", "building": self.building, "room": self.room}),
        );
        let program = |index: u64| json!({"name": format!("program-{index:02}"), "version": format!("{}.{}", index % 7, number % 2)});
        json!({"host": {
            "schema": 1, "changed": false, "collected_at": time(at), "id": self.id, "hostname": self.name, "place": place,
            "boot": {"id": format!("boot-{number}-{booted}"), "booted_at": time(booted), "uptime_seconds": at - booted, "kernel": "6.1.0-28-amd64", "clock_before_image": false},
            "image": {"slot": "a", "version": 12, "sha256": "00"},
            "system": {"manufacturer": "Dell Inc.", "model": "OptiPlex 7010", "serial": format!("TAG{number:04}"), "uuid": format!("4c4c4544-0000-1010-8000-{number:012x}")},
            "firmware": {"vendor": "Dell Inc.", "version": "A29", "date": "06/28/2018", "attributes": []},
            "board": {}, "chassis": {"kind": 6, "opened": false, "opened_by": "firmware"},
            "processor": {"model": "Intel(R) Core(TM) i5-3470", "packages": 1, "cores": 4, "threads": 4},
            "memory": {"installed_bytes": 8u64 << 30, "expected_bytes": 8u64 << 30, "usable_bytes": 8_200_000_000u64, "available_bytes": 6_100_000_000u64, "slots": 4,
                "modules": [{"slot": "DIMM1", "bytes": 4u64 << 30, "serial": format!("A{number}")}, {"slot": "DIMM2", "bytes": 4u64 << 30, "serial": format!("B{number}")}]},
            "disks": [{"name": "sda", "model": "ST500DM002", "serial": format!("Z{number}"), "bytes": 500_107_862_016u64, "removable": false, "healthy": true, "faults": []}],
            "filesystems": [
                {"path": "/", "source": "/dev/sda2", "kind": "ext4", "read_only": false, "total_bytes": 20_000_000_000u64, "used_bytes": 6_000_000_000u64, "available_bytes": 13_000_000_000u64, "hanging": false},
                {"path": "/qcow2", "source": "/dev/sda4", "kind": "xfs", "read_only": false, "total_bytes": 400_000_000_000u64, "used_bytes": 100_000_000_000 + (at - MONDAY.min(at)) * 1000, "available_bytes": 290_000_000_000u64, "hanging": false}],
            "interfaces": [{"name": "eth0", "hardware": true, "wireless": false, "mac": mac(number), "driver": "e1000e", "carrier": true, "speed_bits_per_second": 1_000_000_000, "best_speed_bits_per_second": 1_000_000_000,
                "duplex": "full", "addresses": [format!("10.{}.{}.7/24", number / 256, number % 256)], "received_bytes": at - booted, "sent_bytes": 1, "receive_errors": 0}],
            "routes": [{"destination": "0.0.0.0/0", "gateway": "10.0.0.1", "interface": "eth0", "metric": 100}],
            "temperatures": [{"sensor": "coretemp Package id 0", "processor": true, "celsius": 47.0, "critical_celsius": 105.0}],
            "devices": [{"address": "0000:00:02.0", "id": "8086:0152", "class": "030000", "driver": "vfio-pci", "passed": true}],
            "guest_failures": [],
            "bases": [{"name": "windows", "title": "Windows 10", "generation": 7, "programs": (0..self.programs).map(program).collect::<Vec<_>>()}],
            "changes": [], "missing": []}})
    }

    /// A report, made and received at these times.
    pub fn send(&mut self, kind: Kind, payload: &[u8], at: u64, received: u64) -> PathBuf {
        let header = Header {
            schema: 1,
            kind,
            at: time(at),
            dropped_reports: 0,
            dropped: Vec::new(),
            read: Default::default(),
        };
        let report =
            envelope::seal(&self.id, self.sequence, &header, payload, Some(&self.key)).unwrap();
        let path = self.reports.join(format!("{:012}", self.sequence));
        put(&path, &report, received);
        self.sequence += 1;
        path
    }

    pub fn snapshot(&mut self, document: &Value, at: u64) -> PathBuf {
        self.send(
            Kind::Snapshot,
            format!("{document}\n").as_bytes(),
            at,
            at + 1,
        )
    }

    /// On for a while, and in use from half an hour later on; each report changed by `edit`.
    pub fn on(&mut self, from: u64, to: u64, mut edit: impl FnMut(&mut Value)) {
        for at in (from..=to).step_by(QUARTER as usize) {
            let mut document = self.document(from, at);
            if at >= from + 2 * QUARTER {
                document["host"]["guest"] = json!({"base": "windows", "generation": 7, "started_at": time(from + 2 * QUARTER)});
            }
            edit(&mut document["host"]);
            self.snapshot(&document, at);
        }
    }

    /// On in the mornings of a week's working days.
    pub fn week(&mut self, monday: u64, edit: impl Fn(&mut Value)) {
        for day in 0..5 {
            let morning = monday + day * DAY + 8 * HOUR;
            self.on(morning, morning + 4 * HOUR, &edit);
        }
    }

    /// A line of `changes`.
    pub fn event(&mut self, at: u64, action: &str, message: &str) {
        let (part, what) = action.split_once('_').unwrap();
        let event = json!({"@timestamp": time(at), "event": {"action": action, "category": ["host"], "id": format!("{action}-{at}"), "kind": "alert", "type": ["change"], "provider": "invcollect"},
            "host": {"id": self.id, "name": self.name}, "labtools": {"part": part, "action": what, "subject": "A1"}, "message": message});
        self.send(Kind::Events, format!("{event}\n").as_bytes(), at, at + 1);
    }
}
