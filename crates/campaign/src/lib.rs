//! Reports the distribution of an image, as a document and as a page: `seedctl report`.
//!
//! `samples` reads the tracker's answers during the distribution, `machines` the machines' answers
//! at its end. `known` combines both, `outcome` sums them up by room and building, `diagnosis`
//! lists the findings, and `sections` writes the page. `seedctl swarm` asks the tracker for a
//! sample; `seedctl hosts` lists the machines of the campus, `seedctl nets` its networks.

mod ask;
mod diagnosis;
mod hosts;
mod known;
mod machines;
mod nets;
mod outcome;
mod report;
pub mod request;
mod samples;
mod sections;

use std::io::Write;

use jsonpipe::{Answer, Common, Exit, Missing, Pipe, atomic};
use manifest::{Base, Keys, Kind, Signed};
use serde::Deserialize;

pub use ask::swarm;
pub use hosts::hosts;
pub use nets::nets;

use request::Report;
use samples::Samples;

/// The keys of the section `image` that are needed here.
#[derive(Deserialize)]
struct Image {
    manifest: String,
    signature: String,
}

/// `seedctl report`: status 65 when the document's manifest is not signed, 66 when a named file
/// does not exist.
pub fn report(common: &Common, pipe: &Pipe, options: &Report) -> anyhow::Result<Answer> {
    let mut document = pipe.document("the document that was distributed (section image)")?;
    let image: Image = document.require("image")?;
    let keys = Keys::read(&common.config("keys"), Kind::Base)?;
    let base: Base = Signed::from_base64(&image.manifest, &image.signature)?.verify(&keys)?;

    let samples = Samples::read(&options.samples, base.infohash)?;
    let said = machines::read(&options.hosts, base.infohash)?;
    let mut missing = Vec::new();
    let mut lacks = |key: &str, reason: String| {
        missing.push(Missing {
            key: key.into(),
            reason,
        })
    };
    let listed = match campus::hosts::read(common) {
        Err(error) if Exit::of(&error) == Exit::NoInput => {
            lacks(
                "machines",
                "there is no hosts.ini: machines are known by their announces, and by address"
                    .into(),
            );
            Vec::new()
        }
        listed => listed?,
    };
    if samples.bad_lines > 0 {
        lacks(
            "curves",
            format!(
                "lines of the samples that are not a snapshot, left out: {}",
                samples.bad_lines
            ),
        );
    }
    if samples.span.is_none() {
        lacks("curves", "the tracker was never asked".into());
    }

    let campaign = outcome::campaign(base, &samples, said, listed, missing);
    for finding in campaign
        .findings
        .iter()
        .filter(|finding| finding.name.is_none())
    {
        pipe.warn(format_args!("{}: {}", finding.building, finding.seen));
    }
    if let Some(path) = &options.html {
        atomic::write(path, 0o644, |file| {
            file.write_all(sections::page(&campaign).as_bytes())
        })?;
    }
    document.set("campaign", &campaign)?;
    Ok(Answer::yes(document))
}
