//! `seedctl wait`: waits until the building is complete.

use std::time::{Duration, Instant};

use jsonpipe::signals;
use jsonpipe::{Answer, Common, Exit, ExitContext, Pipe};

use crate::daemon;
use crate::fetch;
use crate::introduction::{self, Failure};
use crate::request::{Transferred, Wait};
use crate::settings::Settings;

/// Each host reports to the tracker every ten seconds or so.
const ASK_MILLISECONDS: u16 = 2000;

/// `seedctl wait`: returns when the tracker reports that no host of this building lacks anything,
/// and this host has seeded for the requested time or amount.
pub fn wait(common: &Common, pipe: &Pipe, options: &Wait) -> anyhow::Result<Answer> {
    if options
        .ratio
        .is_some_and(|ratio| !ratio.is_finite() || ratio < 0.0)
    {
        return Err(Exit::Usage.error("--ratio: not a number from 0 on"));
    }
    let document = pipe.document("a document with the section transfer")?;
    let transferred: Transferred = document.require("transfer")?;
    let signals = signals::defer()?;
    let settings = Settings::read(common)?;
    let since = Instant::now();
    let mut complete_since = None;
    loop {
        let Some(rpc) = daemon::connect(common, &settings.aria2)? else {
            return Err(Exit::Unavailable
                .error("waiting for the building: aria2 is not running; seedctl seed starts it"));
        };
        let download = rpc
            .download(transferred.infohash)?
            .filter(|download| download.is_offered());
        let download = download.exit(
            Exit::Unavailable,
            || "waiting for the building: the image is not seeded here; seedctl seed does",
        )?;
        match introduction::ask(&download.trackers(), transferred.infohash, None) {
            Ok(reached) => {
                let building = reached.building;
                let building = building.exit(
                    Exit::Unavailable,
                    || "asking the tracker for the building: it has no answer",
                )?;
                // A tracker that has just started knows no host, not even this one.
                if building.incomplete > 0 || building.complete == 0 {
                    complete_since = None;
                } else {
                    complete_since = complete_since.or(Some(Instant::now()));
                }
                pipe.note(format_args!(
                    "{} of {} are complete",
                    building.complete,
                    building.complete + building.incomplete
                ));
            }
            Err(Failure::Refused(refused)) => return Err(refused.error("waiting for the building")),
            Err(Failure::Away(error)) => pipe.note(format_args!("asking the tracker: {error}")),
        }
        let long_enough = complete_since
            .is_some_and(|since: Instant| since.elapsed() >= Duration::from_secs(options.seconds));
        let ratio = download.upload_length as f64 / download.total_length.max(1) as f64;
        if long_enough && options.ratio.is_none_or(|wanted| ratio >= wanted) {
            return Ok(Answer::yes(document).holding(signals));
        }
        if options
            .timeout
            .is_some_and(|timeout| since.elapsed() >= Duration::from_secs(timeout))
        {
            let why = match (complete_since, long_enough) {
                (None, _) => "it is not complete yet",
                (_, false) => "it is complete, but not for long enough",
                (_, true) => "it is complete, but this machine has not sent enough",
            };
            return Err(Exit::TemporaryFailure.error(format_args!(
                "waiting for the building: {why}; try again later"
            )));
        }
        if fetch::wait(&signals, ASK_MILLISECONDS) {
            return Err(fetch::interrupted());
        }
    }
}
