//! A machine in a directory: abflip.ini, a disk that gptman partitioned, the kernel's tables, the
//! records of `abflip write`.

pub mod extlinux;
pub mod firmware;
pub mod loader;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gptman::{GPT, GPTPartitionEntry};
use jsonpipe::testkit::Ended;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

pub const BINARY: &str = env!("CARGO_BIN_EXE_abflip");

/// The PARTUUIDs of the roots and of their EFI system partitions.
pub const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";
pub const ESP_A: &str = "aaaaaaaa-0000-4000-8000-0000000000e1";
pub const ESP_B: &str = "bbbbbbbb-0000-4000-8000-0000000000e2";
pub const DISK_GUID: &str = "11111111-1111-4111-8111-111111111111";
pub const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

const LENGTH: u64 = 8 << 20;
/// How many bytes a partition of the tests has.
pub const PARTITION: u64 = 1 << 20;

pub fn guid(text: &str) -> [u8; 16] {
    text.parse::<Uuid>().unwrap().to_bytes_le()
}

/// A partition of a test's disk.
#[derive(Clone, Debug)]
pub struct Partition {
    /// From 1.
    pub number: u32,
    pub guid: &'static str,
    pub kind: &'static str,
    pub name: &'static str,
    pub attributes: u64,
}

pub fn partition(
    number: u32,
    guid: &'static str,
    name: &'static str,
    attributes: u64,
) -> Partition {
    Partition {
        number,
        guid,
        kind: LINUX,
        name,
        attributes,
    }
}

/// What BIOS machines have: slot a is active.
pub fn bios() -> Vec<Partition> {
    vec![
        partition(1, A, "rootA", 4),
        partition(2, B, "rootB", 0),
        partition(
            3,
            "cccccccc-0000-4000-8000-000000000003",
            "persistent",
            1 << 60,
        ),
        partition(4, "dddddddd-0000-4000-8000-000000000004", "log", 0),
    ]
}

/// What UEFI machines have: slot a is active, for b's ESP is hidden.
pub fn uefi() -> Vec<Partition> {
    let esp = |number, guid, name, attributes| Partition {
        kind: ESP,
        ..partition(number, guid, name, attributes)
    };
    vec![
        esp(1, ESP_A, "espA", 0),
        esp(2, ESP_B, "espB", 2),
        partition(3, A, "rootA", 0),
        partition(4, B, "rootB", 0),
    ]
}

/// A disk with these partitions, of a MiB each from the first MiB on.
pub fn make_disk(path: &Path, sector_bytes: u64, partitions: &[Partition]) {
    let mut disk = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    disk.set_len(LENGTH).unwrap();
    // What programs put there when they were installed.
    disk.write_all_at(b"boot code", 0).unwrap();
    let mut gpt = GPT::new_from(&mut disk, sector_bytes, guid(DISK_GUID)).unwrap();
    for (place, of) in partitions.iter().enumerate() {
        let sectors = PARTITION / sector_bytes;
        let starting_lba = (place as u64 + 1) * sectors;
        gpt[of.number] = GPTPartitionEntry {
            partition_type_guid: guid(of.kind),
            unique_partition_guid: guid(of.guid),
            starting_lba,
            ending_lba: starting_lba + sectors - 1,
            attribute_bits: of.attributes,
            partition_name: of.name.into(),
        };
    }
    gpt.write_into(&mut disk).unwrap();
    GPT::write_protective_mbr_into(&mut disk, sector_bytes).unwrap();
}

fn poke(disk: &Path, offset: u64, bytes: &[u8]) {
    File::options()
        .write(true)
        .open(disk)
        .unwrap()
        .write_all_at(bytes, offset)
        .unwrap();
}

fn seal(disk: &Path, sector_bytes: u64, lba: u64) {
    let bytes = fs::read(disk).unwrap();
    let mut header = bytes[(lba * sector_bytes) as usize..][..92].to_vec();
    let field = |at: usize| u64::from(u32::from_le_bytes(header[at..at + 4].try_into().unwrap()));
    let entries = u64::from_le_bytes(header[72..80].try_into().unwrap()) * sector_bytes;
    let (start, length) = (entries as usize, (field(80) * field(84)) as usize);
    if let Some(array) = bytes.get(start..start + length) {
        header[88..92].copy_from_slice(&crc32fast::hash(array).to_le_bytes());
    }
    header[16..20].fill(0);
    let checksum = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    poke(disk, lba * sector_bytes, &header);
}

/// Moves a partition to other sectors, in both tables, though gptman itself makes none that
/// overlap.
pub fn move_partition(disk: &Path, sector_bytes: u64, number: u64, first: u64, last: u64) {
    let end = fs::metadata(disk).unwrap().len() / sector_bytes - 1;
    for (lba, entries) in [(1, 2 * sector_bytes), (end, end * sector_bytes - 16384)] {
        poke(
            disk,
            entries + (number - 1) * 128 + 32,
            &[first.to_le_bytes(), last.to_le_bytes()].concat(),
        );
        seal(disk, sector_bytes, lba);
    }
}

pub struct Machine {
    /// Its root.
    directory: PathBuf,
    _removed_with_it: Option<TempDir>,
    pub sector_bytes: u64,
}

impl Machine {
    /// With the BIOS, 512-byte sectors, running from slot a, and a verified write of both, with an
    /// extlinux in each.
    pub fn new() -> Machine {
        Machine::with(512, &bios())
    }

    pub fn with(sector_bytes: u64, partitions: &[Partition]) -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::at(directory.path(), sector_bytes, partitions);
        Machine {
            _removed_with_it: Some(directory),
            ..machine
        }
    }

    /// The same in this directory.
    pub fn at(root: &Path, sector_bytes: u64, partitions: &[Partition]) -> Machine {
        let machine = Machine {
            directory: root.to_owned(),
            _removed_with_it: None,
            sector_bytes,
        };
        for directory in [
            "etc/labtools",
            "dev",
            "proc/self",
            "sys/dev/block",
            "var/lib/labtools",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let is_uefi = partitions.iter().any(|of| of.kind == ESP);
        let slots = if is_uefi {
            format!("firmware=uefi\nesp_a={ESP_A}\nesp_b={ESP_B}")
        } else {
            "firmware=bios".into()
        };
        machine.configure(&format!("[slots]\n{slots}\na={A}\nb={B}\n"));
        make_disk(&machine.disk(), sector_bytes, partitions);
        for (place, of) in partitions.iter().enumerate() {
            let directory = root.join(format!("sys/devices/block/sda/sda{}", of.number));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("partition"), format!("{}\n", of.number)).unwrap();
            fs::write(
                directory.join("start"),
                format!("{}\n", (place as u64 + 1) * PARTITION / 512),
            )
            .unwrap();
            symlink(
                &directory,
                root.join(format!("sys/dev/block/8:{}", of.number)),
            )
            .unwrap();
        }
        fs::write(
            root.join("sys/devices/block/sda/uevent"),
            "MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVTYPE=disk\n",
        )
        .unwrap();
        for place in partitions
            .iter()
            .zip(1..)
            .filter(|(of, _)| !is_uefi && [A, B].contains(&of.guid))
            .map(|(_, place)| place)
        {
            machine.put_extlinux(place * PARTITION);
        }
        machine.run_from(
            partitions
                .iter()
                .find(|of| of.guid == A)
                .map_or(1, |of| of.number),
        );
        machine.record(&["a", "b"]);
        machine
    }

    pub fn root(&self) -> &Path {
        &self.directory
    }

    pub fn disk(&self) -> PathBuf {
        self.root().join("dev/sda")
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(self.disk()).unwrap()
    }

    pub fn configure(&self, ini: &str) {
        fs::write(self.root().join("etc/labtools/abflip.ini"), ini).unwrap();
    }

    /// The kernel has this partition mounted as its root.
    pub fn run_from(&self, partition: u32) {
        let mounts = format!(
            "1 0 0:2 / / rw - rootfs rootfs rw\n24 1 8:{partition} / / ro - ext4 /dev/root ro\n"
        );
        fs::write(self.root().join("proc/self/mountinfo"), mounts).unwrap();
    }

    /// As `abflip write` leaves them, and `try`: records of the slots that it wrote, and of the
    /// loaders that it took from them.
    pub fn record(&self, slots: &[&str]) {
        let mut records = json!({"schema": 1});
        for slot in slots {
            records[slot] = json!({
                "disk_guid": DISK_GUID, "partuuid": if *slot == "a" { A } else { B }, "version": 7,
                "sha256": "00", "size_bytes": 4096, "masked": [], "loader_sha256": "0e", "verified_at": "2026-11-23T00:00:00Z",
            });
        }
        fs::write(
            self.root().join("var/lib/labtools/slots.json"),
            records.to_string(),
        )
        .unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .arg("--root")
            .arg(self.root())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// A run under strace, which injects faults by these of its arguments.
    pub fn traced(&self, arguments: &[&str], inject: &[&str]) -> Ended {
        let command = self.command(arguments);
        let mut traced = Command::new("strace");
        traced.args(["-qq", "-o", "/dev/null"]).args(inject);
        traced
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null());
        Ended::of(traced.output().expect("strace is needed by this test"))
    }

    /// The section of a run that must end with 0.
    pub fn slots(&self, arguments: &[&str]) -> Value {
        let ended = self.run(arguments);
        assert_eq!(ended.status, 0, "{arguments:?}: {ended:?}");
        ended.section("slots")
    }

    /// A run that must be refused with this status and these words, and leave every byte.
    pub fn refused(&self, arguments: &[&str], status: i32, words: &str) {
        let before = self.bytes();
        let ended = self.run(arguments);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{arguments:?}: {ended:?}"
        );
        assert!(ended.stderr.contains(words), "{arguments:?}: {ended:?}");
        assert!(
            self.bytes() == before,
            "{arguments:?} was refused, and wrote"
        );
    }

    /// Changes bytes of the disk.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        poke(&self.disk(), offset, bytes);
    }

    /// Makes the header in this sector right again after its fields, or the entries, were changed.
    pub fn seal(&self, lba: u64) {
        seal(&self.disk(), self.sector_bytes, lba);
    }

    /// Moves a partition to other sectors, in both tables.
    pub fn move_partition(&self, number: u64, first: u64, last: u64) {
        move_partition(&self.disk(), self.sector_bytes, number, first, last);
    }

    /// The last sector, where the backup's header is.
    pub fn last(&self) -> u64 {
        LENGTH / self.sector_bytes - 1
    }

    /// The attributes of a partition, as the kernel's and everybody's parser would read them, in
    /// one of the tables.
    pub fn attributes(&self, number: u32) -> u64 {
        let gpt = GPT::read_from(&mut File::open(self.disk()).unwrap(), self.sector_bytes).unwrap();
        assert!(gpt.header.is_primary());
        gpt[number].attribute_bits
    }
}

/// Runs a program of a package that the tests need; what it printed on both.
pub fn program(name: &str, package: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(name);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{name}, from the package {package}, is needed by this test: {error}")
    });
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // who wants none reads none
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}
