//! Volumes on ZFS are not carried.

use jsonpipe::Exit;

use super::origin::Base;
use super::{Held, Zfs};
use crate::backend::{State, VolumeId};
use crate::carry::{Carrier, Filling, Origin, Visit};

impl Carrier for Zfs {
    fn origin(&self, _base: &Base) -> anyhow::Result<Origin> {
        Err(unsupported())
    }

    fn for_each_change(
        &self,
        _held: &Held,
        _base: &Base,
        _visit: &mut Visit<'_>,
    ) -> anyhow::Result<()> {
        Err(unsupported())
    }

    fn create_filled(
        &self,
        _id: &VolumeId,
        _base: &Base,
        _reserve: Option<u64>,
        _fill: impl FnOnce(&mut dyn Filling) -> anyhow::Result<()>,
    ) -> anyhow::Result<State> {
        Err(unsupported())
    }
}

fn unsupported() -> anyhow::Error {
    Exit::Config.error("carrying a volume on ZFS: this release does not; use zfs send and receive")
}
