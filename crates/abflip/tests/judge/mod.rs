//! What a flip does to a disk that loses its power in the middle: a recorder, a replayer and a judge.
//!
//! The recorder runs any program under strace and keeps the ordered log of what it wrote to an image, and when it made sure that
//! it was there ([`recorder`]). The replayer rebuilds the disk at every place where the log can be cut ([`replay`]). The judge says
//! of each such disk what would boot from it ([`model`]).

#![allow(dead_code, reason = "the test and the benchmark each use their part")]

pub mod flips;
pub mod model;
pub mod recorder;
pub mod replay;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use model::{Judged, Slots};
use replay::{Log, State};

/// What the cuts of a log do.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Cut anywhere, with everything in the order in which it was written: states that do not boot, and all.
    pub in_order: (usize, usize),
    /// The same, where the disk wrote in any order what nobody had flushed.
    pub reordered: (usize, usize),
    /// States, of both kinds, in which a table is not valid.
    pub invalid: usize,
    /// Every distinct state, with what the judge says.
    pub states: Vec<(State, Judged)>,
}

/// Judges every state that a cut of the log can leave.
pub fn judge(base: &[u8], log: &Log, slots: &Slots) -> Verdict {
    let mut verdict = Verdict::default();
    let mut known = BTreeSet::new();
    for (states, count) in [(log.prefixes(base), &mut verdict.in_order), (log.reorderings(base), &mut verdict.reordered)] {
        for state in states {
            let judged = slots.judge(base, &state);
            *count = (count.0 + usize::from(judged.boots.is_err()), count.1 + 1);
            verdict.invalid += usize::from(!judged.tables_valid);
            if known.insert(state.of(base)) {
                verdict.states.push((state, judged));
            }
        }
    }
    verdict
}

/// Writes every distinct state as an image, with a list of what the judge says of each, to be really booted.
pub fn dump(base: &Path, verdict: &Verdict, directory: &Path, name: &str) {
    fs::create_dir_all(directory).unwrap();
    let mut list = String::new();
    for (number, (state, judged)) in verdict.states.iter().enumerate() {
        let image = directory.join(format!("{name}-{number:03}.img"));
        // Sparse where the file system can.
        let copied = std::process::Command::new("cp").arg("--sparse=always").args([base, &image]).status().unwrap();
        assert!(copied.success());
        let file = fs::File::options().write(true).open(&image).unwrap();
        for (sector, bytes) in &state.sectors {
            file.write_all_at(bytes, sector * replay::SECTOR).unwrap();
        }
        let boots = judged.boots.as_ref().map_or_else(|why| format!("-\t{why}"), |slot| format!("{slot}\t"));
        list += &format!("{}\t{boots}\n", image.display());
    }
    fs::write(directory.join(format!("{name}.tsv")), list).unwrap();
}
