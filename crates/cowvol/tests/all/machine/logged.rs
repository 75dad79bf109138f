//! A disk whose every write and flush is logged, and the disks that a power cut can leave of it.
//!
//! QEMU's driver blklogwrites writes the log, below a loop device: what reaches it is what the kernel's file
//! system hands to a real disk, in that order, flushes included.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::disk::{own_mounts, succeed};
use tempfile::TempDir;

/// The unit in which a disk loses writes: the physical sector of today's disks, which is never torn.
const BLOCK: usize = 4096;

/// The unit of the log's numbers.
const SECTOR: u64 = 512;

/// A mounted file system whose disk is logged, for the thread that made it alone.
pub struct LoggedDisk {
    directory: TempDir,
    mounted_at: PathBuf,
    daemon: Child,
}

impl LoggedDisk {
    /// Makes a file system of so many MiB, lets `fill` put into it what is there before the log begins, and
    /// mounts it at a directory, which is made.
    pub fn new(kind: &str, mib: u64, mounted_at: &Path, fill: impl FnOnce()) -> LoggedDisk {
        own_mounts();
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (disk, log, export) = (path("disk"), path("log"), path("export"));
        File::create(&disk).unwrap().set_len(mib << 20).unwrap();
        // Nothing that the kernel would make later on its own, between what is tested.
        let all_now: &[&str] = match kind {
            "ext4" => &["-E", "lazy_itable_init=0,lazy_journal_init=0"],
            _ => &[],
        };
        succeed(
            &format!("mkfs.{kind}"),
            &[&["-q"], all_now, &[&disk]].concat(),
        );
        fs::create_dir_all(mounted_at).unwrap();
        mount(&disk, mounted_at);
        fill();
        unmount(mounted_at);
        fs::copy(&disk, path("before")).unwrap();

        for file in [&log, &export] {
            File::create(file).unwrap();
        }
        let mut daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-storage-daemon"])
            .args(["--blockdev", &format!("driver=file,node-name=disk,filename={disk}")])
            .args(["--blockdev", &format!("driver=file,node-name=log,filename={log}")])
            .args(["--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1"])
            .args(["--export", &format!("type=fuse,id=export,node-name=logged,mountpoint={export},writable=on")])
            .args(["--chardev", "stdio,id=qmp", "--monitor", "qmp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv and qemu-storage-daemon are needed by this test");
        // Its greeting comes once all before it on the command line is there.
        let mut greeting = String::new();
        BufReader::new(daemon.stdout.as_mut().unwrap())
            .read_line(&mut greeting)
            .unwrap();
        assert!(greeting.contains("QMP"), "{greeting}");
        mount(&export, mounted_at);
        LoggedDisk {
            directory,
            mounted_at: mounted_at.to_owned(),
            daemon,
        }
    }

    /// The number of entries in the log so far.
    pub fn entries(&self) -> u64 {
        let log = File::open(self.directory.path().join("log")).unwrap();
        let mut number = [0; 8];
        log.read_exact_at(&mut number, 16).unwrap();
        u64::from_le_bytes(number)
    }

    /// Unmounts it, and reads the log.
    pub fn end(mut self) -> Log {
        unmount(&self.mounted_at);
        let quit = br#"{"execute":"qmp_capabilities"}{"execute":"quit"}"#;
        self.daemon.stdin.as_mut().unwrap().write_all(quit).unwrap();
        assert!(self.daemon.wait().unwrap().success());
        let bytes = fs::read(self.directory.path().join("log")).unwrap();
        Log {
            before: blocks(&self.directory.path().join("before")),
            disk_bytes: fs::metadata(self.directory.path().join("disk"))
                .unwrap()
                .len(),
            events: parse(&bytes, self.entries()),
        }
    }
}

impl Drop for LoggedDisk {
    fn drop(&mut self) {
        // All this is done already where all went well.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        for mounted in [&self.mounted_at, &self.directory.path().join("export")] {
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(mounted)
                .stderr(Stdio::null())
                .status();
        }
    }
}

pub fn mount(disk: &str, at: &Path) {
    succeed("mount", &["-o", "loop", disk, at.to_str().unwrap()]);
}

pub fn unmount(at: &Path) {
    succeed("umount", &[at.to_str().unwrap()]);
}

/// The blocks of a disk that are not all zeros, by their number.
type Blocks = BTreeMap<u64, Vec<u8>>;

fn blocks(disk: &Path) -> Blocks {
    let bytes = fs::read(disk).unwrap();
    let numbered = (0..).zip(bytes.chunks(BLOCK));
    numbered
        .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        .map(|(number, block)| (number, block.to_vec()))
        .collect()
}

enum Event {
    Write { offset: u64, bytes: Vec<u8> },
    Zero { offset: u64, length: u64 },
    Flush,
}

/// Reads the log's entries: each a sector with four numbers (first sector, sectors, flags, bytes), then the data.
fn parse(log: &[u8], entries: u64) -> Vec<Event> {
    let number = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().unwrap());
    let [flush, fua, discard] = [1, 2, 4];
    assert_eq!(number(0), 0x006a_7366_7773_6872, "a log of writes");
    let mut at = SECTOR as usize;
    let mut events = Vec::new();
    for _ in 0..entries {
        let (offset, length, flags) = (
            number(at) * SECTOR,
            number(at + 8) * SECTOR,
            number(at + 16),
        );
        at += SECTOR as usize;
        assert_eq!(flags & fua, 0, "a loop device has no such writes");
        if flags & flush != 0 {
            events.push(Event::Flush);
        } else if flags & discard != 0 {
            events.push(Event::Zero { offset, length });
        } else {
            let bytes = log[at..at + length as usize].to_vec();
            events.push(Event::Write { offset, bytes });
            at += length as usize;
        }
    }
    events
}

/// What a disk was before, and what came to it since.
pub struct Log {
    before: Blocks,
    disk_bytes: u64,
    events: Vec<Event>,
}

/// A moment at which the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The number of events before it.
    pub after: usize,
    /// Chooses the blocks, written since the last flush, that are lost; `None` when none is.
    pub lost: Option<u64>,
}

impl Log {
    /// A cut after each flush, and `subsets` cuts at random places before it that lose a part of what was not flushed.
    pub fn cuts(&self, seed: u64, subsets: usize) -> Vec<Cut> {
        let mut random = Random(seed);
        let mut cuts = Vec::new();
        let mut first = 0;
        for (at, event) in self.events.iter().enumerate() {
            if !matches!(event, Event::Flush) {
                continue;
            }
            if at > first {
                cuts.extend((0..subsets).map(|_| Cut {
                    after: first + 1 + random.below((at - first) as u64) as usize,
                    lost: Some(random.next()),
                }));
                cuts.push(Cut {
                    after: at + 1,
                    lost: None,
                });
            }
            first = at + 1;
        }
        cuts
    }

    /// Calls `judge` with each of these cuts, which are in order, and the disk that it leaves, which it may change.
    pub fn replay(&self, cuts: &[Cut], mut judge: impl FnMut(Cut, &Path)) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let disk = directory.path().join("disk");
        let (mut flushed, mut durable) = (self.before.clone(), 0);
        for cut in cuts {
            let until = self.events[..cut.after]
                .iter()
                .rposition(|event| matches!(event, Event::Flush))
                .map_or(0, |at| at + 1);
            for event in &self.events[durable..until.max(durable)] {
                apply(&mut flushed, event, &mut |_| true);
            }
            durable = until.max(durable);
            let mut left = flushed.clone();
            let mut random = cut.lost.map(Random);
            for event in &self.events[durable..cut.after] {
                apply(&mut left, event, &mut |_| {
                    random.as_mut().is_none_or(|random| random.below(2) == 0)
                });
            }
            let file = File::create(&disk).unwrap();
            file.set_len(self.disk_bytes).unwrap();
            for (number, block) in &left {
                file.write_all_at(block, number * BLOCK as u64).unwrap();
            }
            drop(file);
            judge(*cut, &disk);
        }
    }
}

/// Makes an event happen in those of its blocks that `arrives` selects by their number.
fn apply(disk: &mut Blocks, event: &Event, arrives: &mut impl FnMut(u64) -> bool) {
    let (start, length) = match event {
        Event::Flush => return,
        Event::Write { offset, bytes } => (*offset as usize, bytes.len()),
        Event::Zero { offset, length } => (*offset as usize, *length as usize),
    };
    let mut at = start;
    while at < start + length {
        let end = (at - at % BLOCK + BLOCK).min(start + length);
        let number = (at / BLOCK) as u64;
        if arrives(number) {
            let block = disk.entry(number).or_insert_with(|| vec![0; BLOCK]);
            let place = &mut block[at % BLOCK..][..end - at];
            match event {
                Event::Write { bytes, .. } => {
                    place.copy_from_slice(&bytes[at - start..end - start])
                }
                _ => place.fill(0),
            }
        }
        at = end;
    }
}

/// Numbers that a seed gives again. (SplitMix64)
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
