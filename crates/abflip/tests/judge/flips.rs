//! The flips that are compared: ours, and what else changes attributes.

use std::fs;
use std::path::Path;
use std::process::Command;

use gptman::GPT;

use super::recorder::{Recording, record};
use super::replay::Log;
use crate::machine::{Machine, program};

/// The tools that are compared, in the order of the table.
pub const TOOLS: [&str; 5] = ["abflip", "sgdisk", "sfdisk", "parted", "gptman"];

/// The log of a tool's flip from slot a to slot b on the machine's disk, by partitions 1 and 2, with the BIOS's bit.
pub fn record_flip(tool: &str, machine: &Machine) -> Log {
    let disk = machine.disk();
    let path = disk.to_str().unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(tool);
        command.args(arguments);
        command
    };
    let (log, succeeded) = match tool {
        "abflip" => record(&machine.command(&["flip"]), "", &disk),
        "sgdisk" => record(&command(&[path, "-A", "1:clear:2", "-A", "2:set:2"]), "", &disk),
        "sfdisk" => record(&command(&["--no-reread", "--no-tell-kernel", "--quiet", path]), &script(path), &disk),
        "parted" => record(&command(&["-s", path, "set", "1", "legacy_boot", "off", "set", "2", "legacy_boot", "on"]), "", &disk),
        "gptman" => (gptman(&disk, machine.sector_bytes), true),
        _ => panic!("{tool} is not known"),
    };
    assert!(succeeded, "{tool} failed");
    log
}

/// The table as sfdisk prints it, with the bit on the other partition, so that one run writes it.
fn script(path: &str) -> String {
    let (ok, dump) = program("sfdisk", "fdisk", &["-d", path], "");
    assert!(ok, "{dump}");
    let changed = |line: &str| match line.strip_prefix(path).map(|rest| rest.as_bytes()[0]) {
        Some(b'1') => line.replace(", attrs=\"LegacyBIOSBootable\"", ""),
        Some(b'2') => format!("{line}, attrs=\"LegacyBIOSBootable\""),
        _ => line.to_owned(),
    };
    dump.lines().map(|line| changed(line) + "\n").collect()
}

/// gptman's own `write_into`.
fn gptman(disk: &Path, sector_bytes: u64) -> Log {
    let mut recording = Recording::new(&fs::read(disk).unwrap());
    let mut gpt = GPT::read_from(&mut recording, sector_bytes).unwrap();
    gpt[1].attribute_bits ^= 4;
    gpt[2].attribute_bits ^= 4;
    gpt.write_into(&mut recording).unwrap();
    fs::write(disk, recording.image.get_ref()).unwrap();
    recording.log
}
