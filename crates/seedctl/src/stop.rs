//! `seedctl stop`: stops seeding.

use jsonpipe::signals;
use jsonpipe::{Answer, Common, Document, Pipe};
use serde_json::{Map, Value};

use crate::daemon;
use crate::report::Transfers;
use crate::request::{Stop, Transferred};
use crate::settings::Settings;
use crate::status::transfers;

/// `seedctl stop`: aria2 informs the tracker and removes the image and its block map. The files in
/// the store stay.
pub fn stop(common: &Common, pipe: &Pipe, options: &Stop) -> anyhow::Result<Answer> {
    if options.all {
        return stop_all(common, options);
    }
    let mut document = pipe.document("a document with the section transfer, or --all")?;
    let transferred: Transferred = document.require("transfer")?;
    let signals = signals::defer()?;
    let settings = Settings::read(common)?;
    let mut changed = false;
    if let Some(rpc) = daemon::connect(common, &settings.aria2)? {
        for infohash in [transferred.infohash, transferred.blocks_infohash] {
            changed |= if options.dry_run {
                rpc.download(infohash)?.is_some()
            } else {
                rpc.leave(infohash)?
            };
        }
    }
    // The other keys of the section stay the same.
    let mut section: Map<String, Value> = document.require("transfer")?;
    section.insert("state".into(), "stopped".into());
    section.insert("changed".into(), changed.into());
    document.set("transfer", &section)?;
    Ok(Answer::yes(document).holding(signals))
}

/// Shuts aria2 down, and with it all transfers.
fn stop_all(common: &Common, options: &Stop) -> anyhow::Result<Answer> {
    let signals = signals::defer()?;
    let settings = Settings::read(common)?;
    let mut document = Document::default();
    if options.dry_run {
        let rpc = daemon::connect(common, &settings.aria2)?;
        let would = transfers(common, rpc.as_ref(), false)?;
        document.set(
            "transfers",
            &Transfers {
                changed: rpc.is_some(),
                ..would
            },
        )?;
    } else {
        let changed = daemon::shut_down(common, &settings.aria2)?;
        document.set("transfers", &transfers(common, None, changed)?)?;
    }
    Ok(Answer::yes(document).holding(signals))
}
