//! Makes file systems, by mke2fs and mkfs.fat. They write to the whole disk at an offset: so it
//! does not matter when the kernel, or udev, knows the partitions.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use jsonpipe::{Exit, ExitContext, io_error};

use super::document::Filesystem;
use super::part::{Content, Part};
use super::plan::Placed;

/// A program, the package that has it, and arguments with which it does nothing.
const PROGRAMS: [(&str, &str, &str); 2] = [
    ("mke2fs", "e2fsprogs", "-V"),
    ("mkfs.fat", "dosfstools", "--help"),
];

/// Starts the programs that these partitions need. Status 69 when one is missing.
pub fn require_programs(parts: impl Iterator<Item = Part>) -> anyhow::Result<()> {
    let contents: Vec<Content> = parts.map(Part::content).collect();
    let needed = [
        contents
            .iter()
            .any(|content| matches!(content, Content::Ext4 { .. })),
        contents.contains(&Content::Vfat),
    ];
    for ((program, package, harmless), _) in
        PROGRAMS.iter().zip(needed).filter(|(_, needed)| *needed)
    {
        let mut command = Command::new(program);
        command.arg(harmless).stdin(Stdio::null());
        let started = command.output();
        started.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Exit::Unavailable.error(format_args!(
                "starting {program}: no such program; install {package}"
            )),
            _ => io_error(
                error,
                |_| Exit::Software,
                format_args!("starting {program}"),
            ),
        })?;
    }
    Ok(())
}

/// Makes a file system. Status 74 when the program fails.
///
/// The program keeps `lock` as its standard input, which it does not read: so the disk stays locked
/// as long as it writes, even if this process is killed.
pub fn make(
    disk: &Path,
    lock: &File,
    sector_bytes: u64,
    place: &Placed,
    filesystem: Filesystem,
) -> anyhow::Result<()> {
    let mut command = match filesystem {
        Filesystem::Ext4(uuid) => ext4(disk, place, &uuid.to_string()),
        Filesystem::Vfat(id) => vfat(disk, place, sector_bytes, id.0),
    };
    let making = || {
        format!(
            "making the file system of partition {} of {}",
            place.part.name(),
            disk.display()
        )
    };
    let lock = lock.try_clone().exit(Exit::Software, making)?;
    let output = command
        .env("LC_ALL", "C")
        .stdin(Stdio::from(lock))
        .process_group(0) // Ctrl-C must not end it halfway
        .output()
        .exit(Exit::Software, making)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let program = command.get_program().display();
    Err(Exit::Io.error(format_args!(
        "{}: {program}: {}: {}",
        making(),
        output.status,
        said.trim().replace('\n', "; ")
    )))
}

fn ext4(disk: &Path, place: &Placed, uuid: &str) -> Command {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-U", uuid]);
    command.args(["-L", place.part.name()]);
    if let Content::Ext4 {
        has_large_files: true,
        ..
    } = place.part.content()
    {
        // A file has gigabytes, and the rest of the disk is for the disks of users.
        command.args(["-i", "1048576", "-m", "0"]);
    }
    // Without discard, which some releases do not move by the offset.
    let offset = format!("offset={},nodiscard", place.start_bytes);
    command.args(["-E", &offset]).arg(disk);
    command.arg(format!("{}k", place.size_bytes >> 10));
    command
}

fn vfat(disk: &Path, place: &Placed, sector_bytes: u64, id: u32) -> Command {
    let (fat, cluster) = fat(place.size_bytes / sector_bytes, sector_bytes);
    let mut command = Command::new("mkfs.fat");
    command.args(["-I", "-F", &fat.to_string(), "-s", &cluster.to_string()]);
    command.args(["-S", &sector_bytes.to_string()]);
    command.args([
        "-i",
        &format!("{id:08X}"),
        "-n",
        &place.part.name().to_uppercase(),
    ]);
    command.arg(format!("--offset={}", place.start_bytes / sector_bytes));
    command.arg(disk).arg((place.size_bytes >> 10).to_string());
    command
}

/// The kind of FAT, and the sectors in a cluster, for so many sectors.
///
/// Firmware must read FAT32 (UEFI specification 2.10, section 13.3), which has 65525 clusters at
/// least. A smaller one is FAT16, which firmware reads as well, and which has 65524 at most. The
/// bounds leave room for the FATs themselves.
fn fat(sectors: u64, sector_bytes: u64) -> (u32, u64) {
    let page = 4096 / sector_bytes;
    match sectors {
        _ if sectors / page >= 67_000 => (32, page),
        67_000.. => (32, 1),
        65_000..67_000 => (16, 2),
        _ => (16, 1),
    }
}
