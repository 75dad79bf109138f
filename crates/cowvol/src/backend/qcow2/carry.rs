//! A volume on its way to or from another machine.

use std::path::Path;

use jsonpipe::{Exit, io_error};
use qcow2::{Extent, Fill, Image};

use super::in_use::Locked;
use super::overlay::check_is_on;
use super::{Base, Qcow2};
use crate::backend::{State, VolumeId};
use crate::carry::{Carrier, Filling, Origin, Part, Visit};

const BUFFER_BYTES: usize = 1 << 20;

impl Carrier for Qcow2 {
    fn origin(&self, base: &Base) -> anyhow::Result<Origin> {
        Origin::of(&self.common, &base.entry, &base.image)
    }

    fn for_each_change(
        &self,
        held: &Locked,
        base: &Base,
        visit: &mut Visit<'_>,
    ) -> anyhow::Result<()> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", held.path().display()),
            )
        };
        let image = Image::read(held.path(), held.file().try_clone().map_err(failed)?)?;
        check_is_on(&image, &base.entry, &base.image)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        image.for_each_change(
            |Extent {
                 offset,
                 bytes,
                 place,
             }| {
                let Some(place) = place else {
                    return visit(offset, Part::Zeros(bytes));
                };
                for done in (0..bytes).step_by(BUFFER_BYTES) {
                    let piece = &mut buffer[..(bytes - done).min(BUFFER_BYTES as u64) as usize];
                    image.read_content(place + done, piece)?;
                    visit(offset + done, Part::Data(piece))?;
                }
                Ok(())
            },
        )
    }

    fn create_filled(
        &self,
        id: &VolumeId,
        base: &Base,
        reserve: Option<u64>,
        fill: impl FnOnce(&mut dyn Filling) -> anyhow::Result<()>,
    ) -> anyhow::Result<State> {
        let overlay = self.overlay(id);
        let path = self.common.path(&overlay.path);
        let virtual_bytes = base.image.header.virtual_bytes;
        overlay.create_filled(&base.entry, &base.image, reserve, |file, blank| {
            fill(&mut Filled {
                fill: Fill::new(file, blank, virtual_bytes),
                path: &path,
            })
        })
    }

    /// Its file has no name any more.
    fn remove_replaced(&self, held: Locked) -> anyhow::Result<()> {
        drop(held);
        Ok(())
    }
}

/// An overlay that is being filled.
struct Filled<'a> {
    fill: Fill<'a>,
    path: &'a Path,
}

impl Filling for Filled<'_> {
    fn put(&mut self, offset: u64, content: Part<'_>) -> anyhow::Result<()> {
        let put = match content {
            Part::Data(bytes) => self.fill.data(offset, bytes),
            Part::Zeros(bytes) => self.fill.zeros(offset, bytes),
        };
        put.map_err(|error| self.failed(error))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.fill.finish().map_err(|error| self.failed(error))
    }
}

impl Filled<'_> {
    fn failed(&self, error: std::io::Error) -> anyhow::Error {
        io_error(
            error,
            Exit::of_write,
            format_args!("filling {}", self.path.display()),
        )
    }
}
