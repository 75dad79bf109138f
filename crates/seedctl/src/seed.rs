//! `seedctl seed`: offers an image of the store to others.

use jsonpipe::signals::{self, Deferred};
use jsonpipe::{Answer, Common, Document, Pipe};

use crate::aria2::{Rpc, Trust};
use crate::daemon;
use crate::get::transfer;
use crate::introduction::{self, Failure};
use crate::origin::Account;
use crate::request::{Image, Seed};
use crate::settings::Settings;
use crate::signed_image::SignedImage;
use crate::status::transfers;
use crate::store::{Files, Part};

const PARTS: [Part; 2] = [Part::Blocks, Part::Image];

/// `seedctl seed`: aria2 compares every piece with its hash, and then offers the image and its
/// block map.
pub fn seed(common: &Common, pipe: &Pipe, options: &Seed) -> anyhow::Result<Answer> {
    if options.all {
        return seed_all(common, pipe, options);
    }
    let mut document = pipe.document("a document with the section image, or --all")?;
    let section: Image = document.require("image")?;
    let signals = signals::defer()?;
    let settings = Settings::read(common)?;
    let image = SignedImage::of(common, &section)?;
    for part in PARTS {
        image.files.require(part, image.torrent(part).length)?;
    }
    let changed = if options.dry_run {
        !is_offered(daemon::connect(common, &settings.aria2)?.as_ref(), &image)?
    } else {
        offer_to_others(&daemon::ensure(common, &settings.aria2)?, &signals, &image)?
    };
    if !options.dry_run
        && let Err(Failure::Refused(refused)) =
            introduction::ask(&image.torrent.trackers, image.base.infohash, None)
    {
        // It is offered, but the tracker introduces no host to it.
        pipe.warn(format_args!(
            "offering {} {}: {refused}",
            image.base.name, image.base.generation
        ));
    }
    document.set(
        "transfer",
        &transfer(
            &image,
            &Account::read(common, image.base.infohash),
            "complete",
            changed,
        ),
    )?;
    Ok(Answer::yes(document).holding(signals))
}

/// Seeds the newest generation of every base in the store. Faults of single images are reported,
/// and the rest is seeded.
fn seed_all(common: &Common, pipe: &Pipe, options: &Seed) -> anyhow::Result<Answer> {
    let signals = signals::defer()?;
    let settings = Settings::read(common)?;
    let (mut changed, mut wrong) = (false, false);
    let mut rpc = daemon::connect(common, &settings.aria2)?;
    for files in Files::newest(common)? {
        let seeded = SignedImage::read(common, &files).and_then(|image| {
            if options.dry_run {
                return is_offered(rpc.as_ref(), &image).map(|offered| !offered);
            }
            if rpc.is_none() {
                rpc = Some(daemon::ensure(common, &settings.aria2)?);
            }
            rpc.as_ref()
                .map_or(Ok(false), |rpc| offer_to_others(rpc, &signals, &image))
        });
        match seeded {
            Ok(added) => changed |= added,
            Err(error) if signals.pending() => return Err(error),
            Err(error) => {
                pipe.warn(format_args!("{error:#}"));
                wrong = true;
            }
        }
    }
    let mut document = Document::default();
    document.set("transfers", &transfers(common, rpc.as_ref(), changed)?)?;
    let answer = if wrong {
        Answer::no(document)
    } else {
        Answer::yes(document)
    };
    Ok(answer.holding(signals))
}

fn is_offered(rpc: Option<&Rpc>, image: &SignedImage) -> anyhow::Result<bool> {
    let Some(rpc) = rpc else { return Ok(false) };
    for part in PARTS {
        if !rpc
            .download(image.torrent(part).infohash)?
            .is_some_and(|download| download.is_offered())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Offers both parts, or, on failure, neither that was not offered before.
fn offer_to_others(rpc: &Rpc, signals: &Deferred, image: &SignedImage) -> anyhow::Result<bool> {
    let mut added = Vec::new();
    for part in PARTS {
        match image.seed(rpc, signals, part, Trust::Check) {
            Ok(true) => added.push(part),
            Ok(false) => {}
            Err(error) => {
                for part in added {
                    let _ = rpc.leave(image.torrent(part).infohash); // only the first error is reported
                }
                return Err(error);
            }
        }
    }
    Ok(!added.is_empty())
}
