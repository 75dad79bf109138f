//! `logout`: closes the port and removes every profile that login made.

use jsonpipe::{Answer, Document, Pipe, signals};

use crate::bus::Bus;
use crate::report::{Link, Login};
use crate::{TOOL, network_manager};

/// Closes every open login of this machine. A seat has one; after a crash this finds it all the
/// same.
pub fn logout(pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let deferred = signals::defer()?;
    let bus = Bus::connect()?;
    bus.owner(network_manager::SERVICE, "start NetworkManager")?;
    let mut report = Login::default();
    let mut kept = Vec::new();
    for open in network_manager::open_profiles(&bus)? {
        let closed = if dry_run {
            Ok(())
        } else {
            network_manager::close(&bus, &open)
        };
        match closed {
            Ok(()) => report
                .links
                .push(Link::closed(open.interface, Some(open.uuid))),
            Err(why) => kept.push(why),
        }
    }
    for why in &kept {
        pipe.warn(format_args!("{why:#}"));
    }
    report.changed = !report.links.is_empty();
    let mut document = Document::default();
    document.set(TOOL.section, &report)?;
    let answer = if kept.is_empty() {
        Answer::yes(document)
    } else {
        Answer::no(document)
    };
    Ok(answer.holding(deferred))
}
