//! A machine that is a directory, with the image of a disk that has two slots, and images of a root
//! that are signed.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use jsonpipe::testkit::Ended;
use manifest::{Description, Hex, Host, SlotField, SlotFieldKind};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::machine::extlinux;

pub const MIB: u64 = 1 << 20;
pub const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub const B: &str = "bbbbbbbb-0000-4000-8000-000000000001";
/// Where the slots are on the disk, and how long each is. They do not begin at a multiple of what
/// is written at once.
pub const A_AT: u64 = MIB;
pub const B_AT: u64 = 15 * MIB;
pub const SLOT_BYTES: u64 = 14 * MIB;
pub const DISK_BYTES: u64 = 32 * MIB;
/// What an image is shipped with where its PARTUUID belongs.
pub const UNPATCHED: &str = "00000000-0000-0000-0000-000000000000";

/// A key that machines know, and one that they do not.
static KEYS: LazyLock<TempDir> = LazyLock::new(|| {
    // Nothing drops what is static, so it is where other things of the build are.
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for name in ["host-1", "stranger"] {
        let key = directory.path().join(name);
        openssl(&[
            "genpkey",
            "-algorithm",
            "ed25519",
            "-out",
            key.to_str().unwrap(),
        ]);
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        openssl(&[
            "pkey",
            "-in",
            key.to_str().unwrap(),
            "-pubout",
            "-out",
            key.with_extension("pub").to_str().unwrap(),
        ]);
    }
    directory
});

pub fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .output()
        .expect("openssl is needed by this test");
    assert!(output.status.success(), "{output:?}");
}

pub fn key(name: &str) -> PathBuf {
    KEYS.path().join(name)
}

/// A machine; slot a is the one that boots.
pub struct Machine {
    directory: TempDir,
}

impl Machine {
    /// Its slots are full of what was there before: a's of `a`, b's of `b`.
    pub fn new() -> Machine {
        Machine::with_sectors(512)
    }

    /// With sectors of so many bytes.
    pub fn with_sectors(sector_bytes: u64) -> Machine {
        // On a file system with direct I/O.
        let machine = Machine {
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        };
        let keys = machine.path("etc/labtools/keys");
        fs::create_dir_all(&keys).unwrap();
        fs::copy(key("host-1.pub"), keys.join("host-1.pub")).unwrap();
        fs::write(
            machine.path("etc/labtools/abflip.ini"),
            format!("[slots]\nfirmware=bios\na={A}\nb={B}\n"),
        )
        .unwrap();
        fs::create_dir_all(machine.path("sys/class/dmi/id")).unwrap();
        fs::write(
            machine.path("sys/class/dmi/id/product_name"),
            "OptiPlex 7010\n",
        )
        .unwrap();
        let disk = File::create(machine.disk()).unwrap();
        disk.set_len(DISK_BYTES).unwrap();
        drop(disk);
        machine.partition(sector_bytes);
        let disk = File::options().write(true).open(machine.disk()).unwrap();
        disk.write_all_at(&vec![b'a'; SLOT_BYTES as usize], A_AT)
            .unwrap();
        disk.write_all_at(&vec![b'b'; SLOT_BYTES as usize], B_AT)
            .unwrap();
        machine
    }

    fn partition(&self, sector_bytes: u64) {
        let mut disk = File::options()
            .read(true)
            .write(true)
            .open(self.disk())
            .unwrap();
        let mut table = gptman::GPT::new_from(&mut disk, sector_bytes, [7; 16]).unwrap();
        for (number, (name, partuuid, at)) in [("root-a", A, A_AT), ("root-b", B, B_AT)]
            .into_iter()
            .enumerate()
        {
            table[number as u32 + 1] = gptman::GPTPartitionEntry {
                partition_type_guid: [0x0f; 16],
                unique_partition_guid: partuuid.parse::<uuid::Uuid>().unwrap().to_bytes_le(),
                starting_lba: at / sector_bytes,
                ending_lba: (at + SLOT_BYTES) / sector_bytes - 1,
                attribute_bits: if number == 0 { 4 } else { 0 },
                partition_name: name.into(),
            };
        }
        table.write_into(&mut disk).unwrap();
        gptman::GPT::write_protective_mbr_into(&mut disk, sector_bytes).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    pub fn records(&self) -> PathBuf {
        self.path("var/lib/labtools/slots.json")
    }

    /// The version that is recorded for a slot.
    pub fn recorded(&self, slot: &str) -> Option<u64> {
        let text = fs::read_to_string(self.records()).ok()?;
        serde_json::from_str::<Value>(&text).unwrap()[slot]["version"].as_u64()
    }

    /// abflip on this machine and its disk.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_abflip"));
        command
            .args(arguments)
            .arg("--root")
            .arg(self.directory.path())
            .arg("--disk")
            .arg(self.disk());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// `abflip write` of an image that is at `from`.
    pub fn write(&self, image: &Image, from: &str, more: &[&str]) -> Ended {
        let manifest = image.describe(self);
        let mut arguments = vec![
            "write",
            "--manifest",
            manifest.to_str().unwrap(),
            "--from",
            from,
        ];
        arguments.extend(more);
        self.run(&arguments)
    }

    /// A file of this machine with these bytes.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn content(&self) -> Content {
        Content(fs::read(self.disk()).unwrap())
    }
}

/// All that is on a disk.
#[derive(PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl Content {
    pub fn slot_b(&self) -> &[u8] {
        &self.0[B_AT as usize..(B_AT + SLOT_BYTES) as usize]
    }

    /// Whether everything but slot b is the same.
    pub fn is_same_outside(&self, other: &Content) -> bool {
        let outside = |content: &Content| {
            let mut bytes = content.0.clone();
            bytes[B_AT as usize..(B_AT + SLOT_BYTES) as usize].fill(0);
            bytes
        };
        outside(self) == outside(other)
    }
}

pub fn ended(command: &mut Command) -> Ended {
    Ended::of(command.output().unwrap())
}

/// An image of a root: no file system, but all that is patched in one, and an extlinux where it has
/// room.
#[derive(Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub host: Host,
}

impl Image {
    /// Version 8, of so many bytes. Data and zeros alternate; the boot entry lies across two
    /// pieces.
    pub fn new(size_bytes: u64) -> Image {
        let mut bytes: Vec<u8> = (0..size_bytes)
            .map(|at| (at * at / 251 + at / 4096) as u8 | 1)
            .collect();
        for (at, length) in [(MIB / 2, MIB), (3 * MIB, 4 * MIB), (8 * MIB + 5, 300 << 10)] {
            let end = (at + length).min(size_bytes) as usize;
            bytes[(at as usize).min(end)..end].fill(0);
        }
        for (at, part) in extlinux::parts() {
            if let Some(place) = bytes.get_mut(at as usize..at as usize + part.len()) {
                place.copy_from_slice(&part);
            }
        }
        let mut slot_fields = Vec::new();
        let mut field = |offset_bytes: u64, kind: SlotFieldKind, shipped: &[u8]| {
            bytes[offset_bytes as usize..][..shipped.len()].copy_from_slice(shipped);
            slot_fields.push(SlotField {
                offset_bytes,
                length_bytes: shipped.len() as u64,
                kind,
            });
        };
        field(1128, SlotFieldKind::FilesystemUuid, &[0; 16]);
        field(
            1144,
            SlotFieldKind::FilesystemLabel,
            b"root\0\0\0\0\0\0\0\0\0\0\0\0",
        );
        field(
            (4 * MIB - 20).min(size_bytes - 36),
            SlotFieldKind::RootPartuuid,
            UNPATCHED.as_bytes(),
        );
        field(5120, SlotFieldKind::BootOnce, &[9; 1024]);
        let host = Host {
            name: "lab".into(),
            version: 8,
            size_bytes,
            sha256: Hex(Sha256::digest(&bytes).into()),
            models: vec!["OptiPlex 9020".into(), "OptiPlex 7010".into()],
            slot_fields,
            created_at: "2026-11-23T00:00:00Z".into(),
        };
        Image { bytes, host }
    }

    /// The same with another version.
    pub fn version(&self, version: u64) -> Image {
        Image {
            host: Host {
                version,
                ..self.host.clone()
            },
            ..self.clone()
        }
    }

    /// As it is to stand in slot b.
    pub fn in_slot_b(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for field in &self.host.slot_fields {
            let value: &[u8] = match field.kind {
                SlotFieldKind::FilesystemUuid => &B.parse::<uuid::Uuid>().unwrap().into_bytes(),
                SlotFieldKind::FilesystemLabel => b"root-b\0\0\0\0\0\0\0\0\0\0",
                SlotFieldKind::RootPartuuid => B.as_bytes(),
                SlotFieldKind::BootOnce => continue,
            };
            bytes[field.offset_bytes as usize..][..value.len()].copy_from_slice(value);
        }
        bytes
    }

    /// Its manifest and the signature, on a machine.
    pub fn describe(&self, machine: &Machine) -> PathBuf {
        sign(machine, &self.host.to_bytes().unwrap(), "host-1")
    }

    pub fn compressed(&self) -> Vec<u8> {
        zstd::encode_all(&*self.bytes, 3).unwrap()
    }
}

/// These bytes as a manifest, signed by a key.
pub fn sign(machine: &Machine, bytes: &[u8], by: &str) -> PathBuf {
    let (path, key) = (machine.path("lab.manifest"), key(by));
    fs::write(&path, bytes).unwrap();
    let (path_, signature) = (path.to_str().unwrap(), path.with_extension("sig"));
    openssl(&[
        "pkeyutl",
        "-sign",
        "-rawin",
        "-inkey",
        key.to_str().unwrap(),
        "-in",
        path_,
        "-out",
        signature.to_str().unwrap(),
    ]);
    path
}
