//! What a flip does to a disk that loses its power in the middle: a recorder, a replayer and a
//! judge.
//!
//! The recorder runs any program under strace and keeps the ordered log of what it wrote to an
//! image, and when it made sure that it was there ([`recorder`]). The replayer rebuilds the disk at
//! every place where the log can be cut ([`replay`]). The judge says of each such disk what would
//! boot from it ([`model`]).

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
    /// Cut anywhere, with everything in the order in which it was written: states that do not boot,
    /// and all.
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
    for (states, count) in [
        (log.prefixes(base), &mut verdict.in_order),
        (log.reorderings(base), &mut verdict.reordered),
    ] {
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

/// A state that is worth a boot: the tool that left it, and what the judge says of it.
pub type Chosen<'a> = (&'a str, &'a State, &'a Judged);

/// Of the distinct states of all tools `most`, the same ones every time: of every word of the judge
/// the first, then of everything that it says together, then the rest of ours, then evenly of what
/// is left.
pub fn choose<'a>(base: &[u8], verdicts: &'a [(&'a str, Verdict)], most: usize) -> Vec<Chosen<'a>> {
    let mut known = BTreeSet::new();
    let mut left: Vec<Chosen<'a>> = Vec::new();
    for (tool, verdict) in verdicts {
        let states = verdict
            .states
            .iter()
            .filter(|(state, _)| known.insert(state.of(base)));
        left.extend(states.map(|(state, judged)| (*tool, state, judged)));
    }
    let mut chosen: Vec<Chosen<'a>> = Vec::new();
    let mut take = |is_next: &dyn Fn(&[Chosen<'a>], &Chosen<'a>) -> bool| {
        let mut at = 0;
        while at < left.len() {
            if is_next(&chosen, &left[at]) {
                chosen.push(left.remove(at));
            } else {
                at += 1;
            }
        }
        chosen.len()
    };
    let words = take(&|chosen, (_, _, judged)| {
        chosen
            .iter()
            .all(|(_, _, other)| other.boots != judged.boots)
    });
    assert!(
        words <= most,
        "the judge has {words} words, and only {most} states are wanted"
    );
    take(&|chosen, (_, _, judged)| !chosen.iter().any(|(_, _, other)| other == judged));
    take(&|_, (tool, ..)| *tool == "abflip");
    let room = most.saturating_sub(chosen.len()).min(left.len());
    chosen.extend((0..room).map(|number| left[number * left.len() / room]));
    chosen.truncate(most);
    chosen
}

/// Writes states as images, to be really booted, and a list: image, tool, what the judge says (the
/// slot, or who stops and why), `valid` or `invalid` tables, and `complains` or `silent`, the
/// kernel.
pub fn dump(base: &Path, chosen: &[Chosen<'_>], directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let mut list = String::new();
    for (number, (tool, state, judged)) in chosen.iter().enumerate() {
        let image = directory.join(format!("{number:02}.img"));
        // Sparse where the file system can.
        let copied = std::process::Command::new("cp")
            .arg("--sparse=always")
            .args([base, &image])
            .status()
            .unwrap();
        assert!(copied.success());
        let file = fs::File::options().write(true).open(&image).unwrap();
        for (sector, bytes) in &state.sectors {
            file.write_all_at(bytes, sector * replay::SECTOR).unwrap();
        }
        let boots = judged
            .boots
            .as_ref()
            .map_or_else(Clone::clone, ToString::to_string);
        let tables = if judged.tables_valid {
            "valid"
        } else {
            "invalid"
        };
        let kernel = if judged.complains {
            "complains"
        } else {
            "silent"
        };
        list += &format!("{}\t{tool}\t{boots}\t{tables}\t{kernel}\n", image.display());
    }
    fs::write(directory.join("states.tsv"), list).unwrap();
}
