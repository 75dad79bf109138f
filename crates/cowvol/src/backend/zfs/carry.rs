//! A volume on its way to or from another machine: read by comparing it with its base, and made under
//! a name that offers it to nobody.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use jsonpipe::{Exit, ExitContext, io_error};
use qcow2::CLUSTER_BYTES;

use super::origin::Base;
use super::program::zfs;
use super::{Held, Zfs, node, properties};
use crate::backend::{State, VolumeId};
use crate::base;
use crate::carry::{Carrier, Filling, Origin, Part, Visit};

/// The bytes that are compared or written at once: whole clusters.
const PIECE_BYTES: usize = 1 << 20;

impl Carrier for Zfs {
    /// That of the published image, which the base was made from.
    fn origin(&self, base: &Base) -> anyhow::Result<Origin> {
        let image = base::open(&self.common, &base.entry)?;
        let (image_bytes, virtual_bytes) = (image.header.virtual_bytes, base.origin.virtual_bytes);
        if image_bytes != virtual_bytes {
            return Err(Exit::Data.error(format_args!(
                "reading {}: a disk of {image_bytes} bytes, but {} has {virtual_bytes}",
                image.path().display(),
                base.origin.snapshot
            )));
        }
        Origin::of(&self.common, &base.entry, &image)
    }

    fn for_each_change(
        &self,
        held: &Held,
        base: &Base,
        visit: &mut Visit<'_>,
    ) -> anyhow::Result<()> {
        let volume = self.require_item(&held.item)?;
        if volume.origin != base.origin.snapshot {
            return Err(Exit::Data.error(format_args!(
                "reading {}: it was made for {}, and not for {}",
                volume.dataset, volume.origin, base.origin.snapshot
            )));
        }
        let below = self.open_origin(base)?;
        let failed = |error| {
            let doing = format_args!("comparing {} with {}", volume.dataset, volume.origin);
            io_error(error, Exit::of_read, doing)
        };
        let [mut bytes, mut of_base] = [vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]];
        for offset in (0..volume.virtual_bytes).step_by(PIECE_BYTES) {
            let length = (volume.virtual_bytes - offset).min(PIECE_BYTES as u64) as usize;
            let (bytes, of_base) = (&mut bytes[..length], &mut of_base[..length]);
            held.node.read_exact_at(bytes, offset).map_err(failed)?;
            below.read_exact_at(of_base, offset).map_err(failed)?;
            visit(offset, Part::Data(&[]))?;
            changes(bytes, of_base, &mut |at, content| {
                visit(offset + at, content)
            })?;
        }
        Ok(())
    }

    fn create_filled(
        &self,
        id: &VolumeId,
        base: &Base,
        reserve: Option<u64>,
        fill: impl FnOnce(&mut dyn Filling) -> anyhow::Result<()>,
    ) -> anyhow::Result<State> {
        let half_made = self.names.half_made_volume(id);
        self.remove_remains(id)?;
        self.clone_to(&half_made, base, reserve)?;
        let make = || -> anyhow::Result<State> {
            let mut filled = Filled::open(self, &half_made)?;
            fill(&mut filled)?;
            drop(filled);
            self.take_place(id, &half_made)?;
            self.require(id).map(|made| made.state)
        };
        make().inspect_err(|_| {
            // Failures are ignored: the caller reports the original error.
            let _ = self.destroy(&half_made);
            let _ = zfs(&["destroy", &self.names.user(&id.token)]);
        })
    }

    /// It was moved aside.
    fn remove_replaced(&self, held: Held) -> anyhow::Result<()> {
        let id = held.item.id.clone();
        drop(held); // ZFS removes no open volume
        self.remove_remains(&id)
    }
}

impl Zfs {
    /// The device of a base, which reads as its snapshot while it cannot be written.
    fn open_origin(&self, base: &Base) -> anyhow::Result<File> {
        let dataset = &base.origin.dataset;
        let found = properties::get(dataset, &[], &["readonly"])?.unwrap_or_default();
        let readonly = found.get(dataset).and_then(|of| of.text("readonly"));
        if readonly != Some("on") {
            return Err(Exit::Config.error(format_args!(
                "{dataset}: it can be written; zfs set readonly=on {dataset}"
            )));
        }
        node::open(&self.common, dataset)?.exit(Exit::Config, || {
            format!(
                "{}: not the device of the base; is udev running, with the rules of zfsutils-linux?",
                node::path_of(dataset)
            )
        })
    }
}

/// Visits the clusters of a piece that differ from those of the base, joined where they have the same
/// kind of content.
fn changes(
    bytes: &[u8],
    of_base: &[u8],
    visit: &mut dyn FnMut(u64, Part<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    /// What a cluster has: `None` when it is that of the base, `Some(true)` when it is all zeros.
    fn kind(cluster: &[u8], of_base: &[u8]) -> Option<bool> {
        (cluster != of_base).then(|| cluster.iter().all(|byte| *byte == 0))
    }
    let cluster_bytes = CLUSTER_BYTES as usize;
    let kinds: Vec<Option<bool>> = bytes
        .chunks(cluster_bytes)
        .zip(of_base.chunks(cluster_bytes))
        .map(|(cluster, of_base)| kind(cluster, of_base))
        .collect();
    let mut first = 0;
    for run in kinds.chunk_by(|a, b| a == b) {
        let begin = first * cluster_bytes;
        first += run.len();
        let part = &bytes[begin..bytes.len().min(first * cluster_bytes)];
        match run[0] {
            None => {}
            Some(true) => visit(begin as u64, Part::Zeros(part.len() as u64))?,
            Some(false) => visit(begin as u64, Part::Data(part))?,
        }
    }
    Ok(())
}

/// A volume that is being filled.
struct Filled {
    dataset: String,
    /// Kept open: it shows other programs that the volume is in use.
    _locked: File,
    /// `None` when it is complete.
    file: Option<File>,
}

impl Filled {
    fn open(of: &Zfs, dataset: &str) -> anyhow::Result<Filled> {
        let locked = node::lock_out(&of.common, dataset)?.exit(Exit::TemporaryFailure, || {
            format!("filling {dataset}: a program has opened it")
        })?;
        let path = of.common.path(node::path_of(dataset));
        let file = File::options().write(true).open(&path).map_err(|error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("opening {}", path.display()),
            )
        })?;
        Ok(Filled {
            dataset: dataset.to_owned(),
            _locked: locked,
            file: Some(file),
        })
    }

    fn write(&self, offset: u64, content: Part<'_>) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        match content {
            Part::Data(bytes) => file.write_all_at(bytes, offset),
            Part::Zeros(bytes) => {
                let zeros = vec![0; PIECE_BYTES];
                for done in (0..bytes).step_by(PIECE_BYTES) {
                    let length = (bytes - done).min(PIECE_BYTES as u64) as usize;
                    file.write_all_at(&zeros[..length], offset + done)?;
                }
                Ok(())
            }
        }
    }

    fn failed(&self, error: io::Error) -> anyhow::Error {
        io_error(
            error,
            Exit::of_write,
            format_args!("filling {}", self.dataset),
        )
    }
}

impl Filling for Filled {
    fn put(&mut self, offset: u64, content: Part<'_>) -> anyhow::Result<()> {
        let written = self.write(offset, content);
        written.map_err(|error| self.failed(error))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let synced = self.file.take().map_or(Ok(()), |file| file.sync_all());
        synced.map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_that_differ_are_visited_joined() {
        const CLUSTER: usize = CLUSTER_BYTES as usize;
        let of_base = vec![5; 6 * CLUSTER + 512];
        let mut bytes = of_base.clone();
        bytes[CLUSTER + 7] = 6;
        bytes[2 * CLUSTER] = 7;
        bytes[3 * CLUSTER..5 * CLUSTER].fill(0);
        bytes[6 * CLUSTER..].fill(0);
        let mut found = Vec::new();
        changes(&bytes, &of_base, &mut |at, content| {
            let is_data =
                matches!(content, Part::Data(data) if data == &bytes[at as usize..][..data.len()]);
            found.push((at as usize / CLUSTER, content.bytes() as usize, is_data));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            found,
            [
                (1, 2 * CLUSTER, true),
                (3, 2 * CLUSTER, false),
                (6, 512, false)
            ]
        );
        changes(&of_base, &of_base, &mut |_, _| panic!("nothing differs")).unwrap();
    }
}
