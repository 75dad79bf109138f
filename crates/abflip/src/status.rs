//! `abflip status`: which slot runs, which boots next, and how the table is.

use std::path::Path;

use jsonpipe::{Answer, Common, Document};

use crate::TOOL;
use crate::disk::Access;
use crate::gpt::Tables;
use crate::machine::{Content, Machine};

/// Reads, and changes nothing. Status 1 when there is something to repair.
pub fn status(common: &Common, disk: Option<&Path>, content: Content) -> anyhow::Result<Answer> {
    let machine = Machine::open(common, disk, Access::Read)?;
    let report = machine.report(&Tables::read(&machine.disk)?, false, content)?;
    let mut document = Document::default();
    document.set(TOOL.section, &report)?;
    Ok(if report.table.faults.is_empty() { Answer::yes(document) } else { Answer::no(document) })
}
