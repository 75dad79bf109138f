//! `invcollect collect`: what this machine is.

use std::time::SystemTime;

use jsonpipe::{Answer, Common, Document, timestamp};

use crate::TOOL;
use crate::report;
use crate::request;

/// `invcollect collect`.
pub fn collect(_common: &Common, _options: &request::Collect) -> anyhow::Result<Answer> {
    let host = report::Host {
        changed: false,
        collected_at: timestamp::rfc3339(SystemTime::now()),
        id: None,
        hostname: None,
        place: None,
        boot: report::Boot::default(),
        image: None,
        system: report::System::default(),
        firmware: report::Firmware::default(),
        board: report::Board::default(),
        chassis: report::Chassis::default(),
        processor: report::Processor::default(),
        memory: report::Memory::default(),
        disks: Vec::new(),
        filesystems: Vec::new(),
        interfaces: Vec::new(),
        routes: Vec::new(),
        temperatures: Vec::new(),
        devices: Vec::new(),
        guest: None,
        guest_failures: Vec::new(),
        bases: Vec::new(),
        changes: Vec::new(),
        missing: Vec::new(),
    };
    let mut document = Document::default();
    document.set(TOOL.section, &host)?;
    Ok(Answer::yes(document))
}
