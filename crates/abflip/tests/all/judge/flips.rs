//! The flips that are compared: ours, and what else changes attributes.

use std::fs;
use std::path::Path;
use std::process::Command;

use abflip::request::Firmware;
use gptman::GPT;

use super::recorder::{Recording, record};
use super::replay::Log;
use crate::machine::{Machine, program};

/// The tools that are compared, in the order of the table. parted has no name for the attribute
/// that UEFI goes by.
pub fn tools(firmware: Firmware) -> Vec<&'static str> {
    let is_able = |tool: &&str| firmware == Firmware::Bios || *tool != "parted";
    ["abflip", "sgdisk", "sfdisk", "parted", "gptman"]
        .into_iter()
        .filter(is_able)
        .collect()
}

/// The log of a tool's flip from slot a to slot b on the machine's disk, by partitions 1 and 2:
/// with the BIOS's bit the roots, with UEFI's the EFI system partitions.
pub fn record_flip(tool: &str, machine: &Machine, firmware: Firmware) -> Log {
    let disk = machine.disk();
    let path = disk.to_str().unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(tool);
        command.args(arguments);
        command
    };
    let (log, succeeded) = match (tool, firmware) {
        ("abflip", _) => record(
            &machine.command(&["flip", "--active", "b", "--disk", path]),
            "",
            &disk,
        ),
        ("sgdisk", Firmware::Bios) => record(
            &command(&[path, "-A", "1:clear:2", "-A", "2:set:2"]),
            "",
            &disk,
        ),
        ("sgdisk", Firmware::Uefi) => record(
            &command(&[path, "-A", "1:set:1", "-A", "2:clear:1"]),
            "",
            &disk,
        ),
        ("sfdisk", _) => record(
            &command(&["--no-reread", "--no-tell-kernel", "--quiet", path]),
            &script(path, firmware),
            &disk,
        ),
        ("parted", Firmware::Bios) => record(
            &command(&[
                "-s",
                path,
                "set",
                "1",
                "legacy_boot",
                "off",
                "set",
                "2",
                "legacy_boot",
                "on",
            ]),
            "",
            &disk,
        ),
        ("gptman", _) => (gptman(&disk, machine.sector_bytes, firmware), true),
        _ => panic!("{tool} cannot do that"),
    };
    assert!(succeeded, "{tool} failed");
    log
}

/// The table as sfdisk prints it, with the bit on the other partition, so that one run writes it.
fn script(path: &str, firmware: Firmware) -> String {
    let (ok, dump) = program("sfdisk", "fdisk", &["-d", path], "");
    assert!(ok, "{dump}");
    let (attribute, from, to) = match firmware {
        Firmware::Bios => (", attrs=\"LegacyBIOSBootable\"", b'1', b'2'),
        Firmware::Uefi => (", attrs=\"NoBlockIOProtocol\"", b'2', b'1'),
    };
    let changed = |line: &str| match line.strip_prefix(path).map(|rest| rest.as_bytes()[0]) {
        Some(number) if number == from => line.replace(attribute, ""),
        Some(number) if number == to => format!("{line}{attribute}"),
        _ => line.to_owned(),
    };
    dump.lines().map(|line| changed(line) + "\n").collect()
}

/// gptman's own `write_into`.
fn gptman(disk: &Path, sector_bytes: u64, firmware: Firmware) -> Log {
    let mut recording = Recording::new(&fs::read(disk).unwrap());
    let mut gpt = GPT::read_from(&mut recording, sector_bytes).unwrap();
    gpt[1].attribute_bits ^= 1 << firmware.bit();
    gpt[2].attribute_bits ^= 1 << firmware.bit();
    gpt.write_into(&mut recording).unwrap();
    fs::write(disk, recording.image.get_ref()).unwrap();
    recording.log
}
