//! `seedctl seed`: an image that is there is offered to others.

use jsonpipe::signals;
use jsonpipe::{Answer, Common, Exit, ExitContext, Pipe};

use crate::aria2::Trust;
use crate::daemon;
use crate::get::transfer;
use crate::offer::Offer;
use crate::request::{Image, Seed};
use crate::settings::Settings;
use crate::store::Part;

/// `seedctl seed`: aria2 compares every piece with its hash, and then offers the image and its block map.
pub fn seed(common: &Common, pipe: &Pipe, options: &Seed) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the section image")?;
    let image: Image = document.require("image")?;
    let signals = signals::defer().exit(Exit::Software, || "blocking signals")?;
    let settings = Settings::read(common)?;
    let offer = Offer::verify(common, &image)?;
    let rpc = daemon::ensure(common, &settings.aria2)?;
    let mut changed = false;
    for part in [Part::Blocks, Part::Image] {
        changed |= offer.seed(&rpc, &signals, part, Trust::Check)?;
    }
    document.set("transfer", &transfer(common, &offer, "complete", changed))?;
    Ok(Answer::yes(document).holding(signals))
}
