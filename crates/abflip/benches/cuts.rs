//! Where flips can be cut: ours against those of sgdisk, sfdisk, parted and gptman, in one run.
//!
//! `cargo bench -p abflip --bench cuts`. In order: the disk writes what it is given in its order, and the power fails between two
//! sectors (gptman writes entry by entry, and its cuts are counted by these). Reordered: between two flushes it writes in any order. A state is bad when gptmbr starts none of the slots, or Linux
//! then sees no partitions; "tables" counts the states in which one of both tables is not valid.
//!
//! ABFLIP_STATES names a directory that gets every distinct state as an image, with a list of what the judge says of each, to be
//! really booted. ABFLIP_DISK names the image of a bootable disk to begin from, whose partitions 1 and 2 are the slots, with the
//! PARTUUIDs of the tests; without it an empty one is taken.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/judge/mod.rs"]
mod judge;
#[path = "../tests/machine/mod.rs"]
mod machine;

use std::env;
use std::fs;
use std::path::Path;

use abflip::request::Firmware;
use judge::flips::{TOOLS, record_flip};
use judge::model::Slots;
use machine::{A, B, Machine, guid};

fn main() {
    let roots = [guid(A), guid(B)];
    let slots = Slots { firmware: Firmware::Bios, sector_bytes: 512, marks: roots, roots };
    println!("{:10}{:>14}{:>14}{:>12}{:>12}", "", "in order", "reordered", "tables", "distinct");
    let mut ours = None;
    for tool in TOOLS {
        let machine = Machine::new();
        if let Some(disk) = env::var_os("ABFLIP_DISK") {
            fs::copy(&disk, machine.disk()).expect("ABFLIP_DISK is an image");
        }
        let base = machine.bytes();
        let before = machine.root().join("before.img");
        fs::copy(machine.disk(), &before).expect("room for a copy");
        let log = record_flip(tool, &machine);
        let verdict = judge::judge(&base, &log, &slots);
        let of = |(bad, all): (usize, usize)| format!("{bad} of {all}");
        let (in_order, reordered) = (of(verdict.in_order), of(verdict.reordered));
        println!("{tool:10}{in_order:>14}{reordered:>14}{:>12}{:>12}", verdict.invalid, verdict.states.len());
        if let Some(directory) = env::var_os("ABFLIP_STATES") {
            judge::dump(&before, &verdict, Path::new(&directory), tool);
        }
        ours.get_or_insert((verdict.in_order.0 + verdict.reordered.0, verdict.invalid));
    }
    println!("goal, no bad state and both tables always valid: {}", if ours == Some((0, 0)) { "met" } else { "MISSED" });
}
