//! Where flips can be cut: ours against those of sgdisk, sfdisk, parted and gptman, in one run.
//!
//! `cargo bench -p abflip --bench cuts`. In order: the disk writes what it is given in its order,
//! and the power fails between two sectors (gptman writes entry by entry, and its cuts are counted
//! by these). Reordered: between two flushes it writes in any order. A state is bad when gptmbr or
//! EDK2 starts none of the slots, or Linux then sees no partitions; "tables" counts the states in
//! which one of both tables is not valid.
//!
//! ABFLIP_DISK names the image of a bootable disk to begin from, as scripts/lab/abdisk makes it:
//! its partitions are called root_a, root_b, esp_a and esp_b, and those that choose the slot are 1
//! and 2. ABFLIP_STATES then names a directory that gets as many distinct states as ABFLIP_MOST
//! says, with what the judge says of each, to be really booted (scripts/lab/test-cuts). Without
//! ABFLIP_DISK, disks of empty partitions are taken.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/all/judge/mod.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod judge;
#[path = "../tests/all/machine/mod.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod machine;

use std::env;
use std::fs;
use std::path::Path;

use abflip::request::Firmware;
use gptman::GPT;
use judge::Verdict;
use judge::flips::{record_flip, tools};
use judge::model::Slots;
use machine::{A, B, DISK_GUID, ESP_A, ESP_B, Machine, bios, guid, uefi};
use uuid::Uuid;

fn main() {
    let disk = env::var_os("ABFLIP_DISK");
    let installed = disk.as_ref().map(|disk| Installed::read(Path::new(disk)));
    let all = match &installed {
        Some(installed) => vec![installed.slots.clone()],
        None => vec![empty(Firmware::Bios), empty(Firmware::Uefi)],
    };
    let mut is_met = true;
    for slots in all {
        let heading = if slots.firmware == Firmware::Bios {
            "BIOS"
        } else {
            "UEFI"
        };
        println!(
            "{heading:10}{:>14}{:>14}{:>12}{:>12}",
            "in order", "reordered", "tables", "distinct"
        );
        let machine = || {
            installed
                .as_ref()
                .map_or_else(|| empty_machine(slots.firmware), Installed::machine)
        };
        let before = machine();
        let base = before.bytes();
        let mut verdicts = Vec::new();
        for tool in tools(slots.firmware) {
            let machine = machine();
            let log = record_flip(tool, &machine, slots.firmware);
            let verdict = judge::judge(&base, &log, &slots);
            print(tool, &verdict);
            if tool == "abflip" {
                is_met &= (verdict.in_order.0, verdict.reordered.0, verdict.invalid) == (0, 0, 0);
            }
            verdicts.push((tool, verdict));
        }
        if let Some(directory) = env::var_os("ABFLIP_STATES") {
            let most = env::var("ABFLIP_MOST")
                .ok()
                .and_then(|most| most.parse().ok())
                .expect("ABFLIP_MOST is a number");
            judge::dump(
                &before.disk(),
                &judge::choose(&base, &verdicts, most),
                Path::new(&directory),
            );
        }
    }
    println!(
        "goal, no bad state and both tables always valid: {}",
        if is_met { "met" } else { "MISSED" }
    );
}

fn print(tool: &str, verdict: &Verdict) {
    let of = |(bad, all): (usize, usize)| format!("{bad} of {all}");
    let (in_order, reordered) = (of(verdict.in_order), of(verdict.reordered));
    println!(
        "{tool:10}{in_order:>14}{reordered:>14}{:>12}{:>12}",
        verdict.invalid,
        verdict.states.len()
    );
}

fn empty(firmware: Firmware) -> Slots {
    let roots = [guid(A), guid(B)];
    let marks = if firmware == Firmware::Bios {
        roots
    } else {
        [guid(ESP_A), guid(ESP_B)]
    };
    Slots {
        firmware,
        sector_bytes: 512,
        marks,
        roots,
    }
}

fn empty_machine(firmware: Firmware) -> Machine {
    Machine::with(
        512,
        &if firmware == Firmware::Bios {
            bios()
        } else {
            uefi()
        },
    )
}

/// A bootable disk.
struct Installed {
    disk: Vec<u8>,
    disk_guid: [u8; 16],
    slots: Slots,
}

impl Installed {
    fn read(path: &Path) -> Installed {
        let disk = fs::read(path).expect("ABFLIP_DISK is an image");
        let gpt = GPT::read_from(&mut std::io::Cursor::new(&disk), 512)
            .expect("ABFLIP_DISK has a partition table");
        let named = |name: &str| {
            let found = gpt
                .iter()
                .find(|(_, entry)| entry.partition_name.as_str() == name);
            found.map(|(_, entry)| entry.unique_partition_guid)
        };
        let roots = [named("root_a"), named("root_b")]
            .map(|root| root.expect("ABFLIP_DISK has root_a and root_b"));
        let (firmware, marks) = match (named("esp_a"), named("esp_b")) {
            (Some(a), Some(b)) => (Firmware::Uefi, [a, b]),
            _ => (Firmware::Bios, roots),
        };
        Installed {
            disk_guid: gpt.header.disk_guid,
            slots: Slots {
                firmware,
                sector_bytes: 512,
                marks,
                roots,
            },
            disk,
        }
    }

    /// A machine with a copy of it, where nothing runs, and both slots were written.
    fn machine(&self) -> Machine {
        let machine = empty_machine(self.slots.firmware);
        fs::write(machine.disk(), &self.disk).expect("room for a copy");
        fs::remove_file(machine.root().join("proc/self/mountinfo")).expect("it was there");
        let text = |guid: [u8; 16]| Uuid::from_bytes_le(guid).to_string();
        for file in ["etc/labtools/abflip.ini", "var/lib/labtools/slots.json"] {
            let path = machine.root().join(file);
            let mut content = fs::read_to_string(&path).expect("it was there");
            let tests = [
                (A, self.slots.roots[0]),
                (B, self.slots.roots[1]),
                (DISK_GUID, self.disk_guid),
            ];
            let esps = [(ESP_A, self.slots.marks[0]), (ESP_B, self.slots.marks[1])];
            for (of_tests, here) in tests.into_iter().chain(esps) {
                content = content.replace(of_tests, &text(here));
            }
            fs::write(path, content).expect("it was there");
        }
        machine
    }
}
