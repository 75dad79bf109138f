//! `cowvol export` and `import`: a user's volume goes to another machine, as a stream of what it
//! changes of its base.

pub mod export;
pub mod import;
mod origin;
mod place;
pub mod stream;

pub use origin::Origin;

use crate::backend::{Backend, State, VolumeId};

/// What a part of the disk contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// So many zeros.
    Zeros(u64),
}

impl Part<'_> {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        match self {
            Part::Data(bytes) => bytes.len() as u64,
            Part::Zeros(bytes) => *bytes,
        }
    }
}

/// Takes the changed parts of a disk, in its order: an offset, which is a multiple of 64 KiB, and the
/// content from there on. Empty data shows how far the look at a large disk has come.
pub type Visit<'a> = dyn FnMut(u64, Part<'_>) -> anyhow::Result<()> + 'a;

/// A volume that is being filled. No other program can see it.
pub trait Filling {
    /// Puts content at an offset of the disk, a multiple of 64 KiB; in the order of the disk.
    fn put(&mut self, offset: u64, content: Part<'_>) -> anyhow::Result<()>;
    /// All is there; makes it durable.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// A mechanism whose volumes can be carried to another machine.
pub trait Carrier: Backend {
    /// What a base is on every machine.
    fn origin(&self, base: &Self::Base) -> anyhow::Result<Origin>;
    /// Visits what a volume changes of its base, each part once. Status 65 when it is not a volume
    /// on this base.
    fn for_each_change(
        &self,
        held: &Self::Held,
        base: &Self::Base,
        visit: &mut Visit<'_>,
    ) -> anyhow::Result<()>;
    /// Makes a volume as [`create`](Backend::create) does, and lets `fill` fill it before it has its
    /// name. Then it takes the place of the volume that had the name; until then, and on failure, that
    /// one stays.
    fn create_filled(
        &self,
        id: &VolumeId,
        base: &Self::Base,
        reserve: Option<u64>,
        fill: impl FnOnce(&mut dyn Filling) -> anyhow::Result<()>,
    ) -> anyhow::Result<State>;
    /// Frees the room of a volume whose place another one has taken.
    fn remove_replaced(&self, held: Self::Held) -> anyhow::Result<()>;
}
