//! Every disk that a cut of a log can leave.

use std::collections::{BTreeMap, BTreeSet};

/// A sector, by which writes tear. Disks with larger ones tear less.
pub const SECTOR: u64 = 512;

/// The ordered log of what a program did to a disk.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes went to a place; `durable` when the call came back only after they were on the medium.
    Write {
        offset: u64,
        bytes: Vec<u8>,
        durable: bool,
    },
    /// Everything before is on the medium.
    Flush,
}

/// A disk, by the sectors that differ from how it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub sectors: BTreeMap<u64, Vec<u8>>,
}

impl State {
    /// Bytes of the disk; `None` when it ends before.
    pub fn read(&self, base: &[u8], offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        let mut bytes = base.get(start..start.checked_add(length)?)?.to_vec();
        let end = offset + length as u64;
        for (sector, content) in self.sectors.range(offset / SECTOR..end.div_ceil(SECTOR)) {
            let (from, to) = (offset.max(sector * SECTOR), end.min((sector + 1) * SECTOR));
            bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(
                &content[(from - sector * SECTOR) as usize..(to - sector * SECTOR) as usize],
            );
        }
        Some(bytes)
    }

    /// What tells two disks apart: the sectors that really differ from the base.
    pub fn of(&self, base: &[u8]) -> BTreeMap<u64, Vec<u8>> {
        let differs = |(sector, bytes): &(&u64, &Vec<u8>)| {
            base[(*sector * SECTOR) as usize..][..SECTOR as usize] != bytes[..]
        };
        self.sectors
            .iter()
            .filter(differs)
            .map(|(sector, bytes)| (*sector, bytes.clone()))
            .collect()
    }
}

/// A part of a write that lies in one sector.
struct Piece<'a> {
    sector: u64,
    at: usize,
    bytes: &'a [u8],
}

/// What a write does, by the sectors that it touches, in order.
fn pieces(offset: u64, bytes: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < bytes.len() {
        let place = offset + done as u64;
        let at = (place % SECTOR) as usize;
        let length = (SECTOR as usize - at).min(bytes.len() - done);
        pieces.push(Piece {
            sector: place / SECTOR,
            at,
            bytes: &bytes[done..done + length],
        });
        done += length;
    }
    pieces
}

/// A sector as it is in the base.
fn original(base: &[u8], sector: u64) -> Vec<u8> {
    base[(sector * SECTOR) as usize..][..SECTOR as usize].to_vec()
}

impl Log {
    /// Everything in order, cut between any two sectors: as many states as sectors were written,
    /// and one.
    pub fn prefixes(&self, base: &[u8]) -> Vec<State> {
        let mut now = State::default();
        let mut states = vec![now.clone()];
        for event in &self.events {
            let Event::Write { offset, bytes, .. } = event else {
                continue;
            };
            for piece in pieces(*offset, bytes) {
                let sector = now
                    .sectors
                    .entry(piece.sector)
                    .or_insert_with(|| original(base, piece.sector));
                sector[piece.at..piece.at + piece.bytes.len()].copy_from_slice(piece.bytes);
                states.push(now.clone());
            }
        }
        states
    }

    /// What a disk that writes in any order leaves: between two flushes every sector is as it was,
    /// or as any of the writes since has left it, whatever the others are. A write that was durable
    /// when its call came back is where it belongs from then on.
    pub fn reorderings(&self, base: &[u8]) -> Vec<State> {
        let mut pending = Pending::default();
        let mut states = Vec::new();
        for event in &self.events {
            match event {
                Event::Flush => {
                    states.extend(pending.states());
                    pending.settle(|_| true);
                }
                Event::Write {
                    offset,
                    bytes,
                    durable,
                } => {
                    let pieces = pieces(*offset, bytes);
                    for piece in &pieces {
                        pending.write(base, piece);
                    }
                    if *durable {
                        states.extend(pending.states());
                        let written: BTreeSet<u64> =
                            pieces.iter().map(|piece| piece.sector).collect();
                        pending.settle(|sector| written.contains(&sector));
                    }
                }
            }
        }
        states.extend(pending.states());
        states
    }
}

/// The versions of each sector that was written: the one that is on the medium, and those after it.
#[derive(Default)]
struct Pending {
    versions: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl Pending {
    fn write(&mut self, base: &[u8], piece: &Piece<'_>) {
        let versions = self
            .versions
            .entry(piece.sector)
            .or_insert_with(|| vec![original(base, piece.sector)]);
        let mut version = versions.last().cloned().unwrap();
        version[piece.at..piece.at + piece.bytes.len()].copy_from_slice(piece.bytes);
        if versions.last() != Some(&version) {
            versions.push(version);
        }
    }

    /// Nothing is left open about these sectors.
    fn settle(&mut self, which: impl Fn(u64) -> bool) {
        for (_, versions) in self
            .versions
            .iter_mut()
            .filter(|(sector, _)| which(**sector))
        {
            versions.drain(..versions.len() - 1);
        }
    }

    /// Every combination; none when nothing is open.
    fn states(&self) -> Vec<State> {
        let count: usize = self.versions.values().map(Vec::len).product();
        assert!(
            count <= 1 << 16,
            "{count} combinations; flush more often, or judge a sample"
        );
        if count == 1 {
            return Vec::new();
        }
        let combination = |mut number: usize| {
            let mut choose = |versions: &Vec<Vec<u8>>| {
                let chosen = versions[number % versions.len()].clone();
                number /= versions.len();
                chosen
            };
            State {
                sectors: self
                    .versions
                    .iter()
                    .map(|(sector, versions)| (*sector, choose(versions)))
                    .collect(),
            }
        };
        (0..count).map(combination).collect()
    }
}
