//! Decides which disks are used, and where each partition lies: functions of numbers.

use super::document::{Length, Wanted};
use super::part::Part;
use crate::request::Firmware;
use crate::request::layout::Store;

/// The alignment of partitions, and what is kept for each copy of the table.
pub const MIB: u64 = 1 << 20;

/// A disk that could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its length.
    pub size_bytes: u64,
    /// Whether it rotates.
    pub rotating: bool,
}

/// A disk that is used.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its index among the candidates.
    pub candidate: usize,
    /// Its partitions, in the order of the table.
    pub places: Vec<Placed>,
}

/// The place of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The partition.
    pub part: Part,
    /// Its offset, a multiple of 1 MiB.
    pub start_bytes: u64,
    /// Its length, a multiple of 1 MiB.
    pub size_bytes: u64,
}

/// The partitions of a machine, by the disk that they are on where there are two.
#[derive(Debug)]
pub struct Parts {
    system: Vec<Part>,
    user: Vec<Part>,
}

impl Parts {
    /// The partitions of a machine that this program starts.
    pub fn of(wanted: &Wanted, firmware: Firmware) -> Parts {
        let is_needed = |part: &Part| match part {
            Part::EspA | Part::EspB => firmware == Firmware::Uefi,
            _ => wanted.of(*part).is_some(),
        };
        let needed = Part::ALL.into_iter().filter(is_needed);
        let (user, system) = needed.partition(|part| *part == Part::User);
        Parts { system, user }
    }

    fn all(&self) -> Vec<Part> {
        Part::ALL
            .into_iter()
            .filter(|part| self.system.contains(part) || self.user.contains(part))
            .collect()
    }
}

/// Chooses one disk, or two. The error has the bytes that each candidate lacks to hold everything.
///
/// Two are used if one holds all but the disks of users, another those, and the first is not the
/// slower one. A disk without rotation is preferred for the first, then a small one; for the second,
/// a large one. Among equal disks the first candidate comes first.
pub fn choose(
    wanted: &Wanted,
    parts: &Parts,
    candidates: &[Candidate],
) -> Result<Vec<Chosen>, Vec<u64>> {
    let chosen = |candidate: usize, parts: &[Part]| {
        let places = place(wanted, parts, candidates[candidate].size_bytes).ok()?;
        Some(Chosen { candidate, places })
    };
    let rotates = |&index: &usize| candidates[index].rotating;
    let size = |index: &usize| candidates[*index].size_bytes;
    let mut for_system: Vec<usize> = (0..candidates.len()).collect();
    for_system.sort_by_key(|index| (rotates(index), size(index)));
    let mut for_user: Vec<usize> = (0..candidates.len()).collect();
    for_user.sort_by_key(|index| std::cmp::Reverse(size(index)));
    if wanted.partitioning.store == Store::Qcow2 {
        for &system in &for_system {
            for &user in &for_user {
                let is_slower = rotates(&system) && !rotates(&user);
                if user != system
                    && !is_slower
                    && let (Some(system), Some(user)) =
                        (chosen(system, &parts.system), chosen(user, &parts.user))
                {
                    return Ok(vec![system, user]);
                }
            }
        }
    }
    let all = parts.all();
    match for_system.iter().find_map(|&index| chosen(index, &all)) {
        Some(one) => Ok(vec![one]),
        None => Err(candidates
            .iter()
            .map(|candidate| place(wanted, &all, candidate.size_bytes).err().unwrap_or(0))
            .collect()),
    }
}

/// Places partitions one behind the other, from 1 MiB on, up to the last whole MiB but one. What
/// remains is shared in equal parts by those that take the rest. The error is the number of bytes
/// that the disk lacks.
fn place(wanted: &Wanted, parts: &[Part], disk_bytes: u64) -> Result<Vec<Placed>, u64> {
    let lengths: Vec<(Part, Length)> = parts
        .iter()
        .filter_map(|&part| Some((part, wanted.of(part)?.length)))
        .collect();
    let least: u64 = lengths.iter().map(|(_, length)| length.min_bytes()).sum();
    // The tail of a disk whose length is no multiple of a MiB belongs to the last one.
    let needed = least + 2 * MIB;
    if disk_bytes < needed {
        return Err(needed - disk_bytes);
    }
    let takes_rest = |length: &Length| matches!(length, Length::AtLeast(_));
    let sharers = lengths
        .iter()
        .filter(|(_, length)| takes_rest(length))
        .count() as u64;
    let remaining = (disk_bytes - needed) / MIB;
    let share = remaining.checked_div(sharers).unwrap_or(0) * MIB;
    let mut start_bytes = MIB;
    Ok(lengths
        .into_iter()
        .map(|(part, length)| {
            let share = if takes_rest(&length) { share } else { 0 };
            let placed = Placed {
                part,
                start_bytes,
                size_bytes: length.min_bytes() + share,
            };
            start_bytes += placed.size_bytes;
            placed
        })
        .collect())
}

#[cfg(test)]
mod tests;
