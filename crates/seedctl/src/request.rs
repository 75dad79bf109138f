//! What comes in: the command line, the sections of the document, and the configuration.

use clap::{Args, Parser, Subcommand};
use jsonpipe::Common;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "seedctl", version, about = "The swarm of a campus: room-first, controlled, reported")]
pub struct Arguments {
    /// The flags that every tool has.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl AsRef<Common> for Arguments {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the tracker, which introduces the hosts of a room to each other
    Track(Track),
    /// Get an image: from the old one, from the own building, from the servers
    Get(Get),
    /// Seed an image that is there
    Seed(Seed),
    /// Show what aria2 does on this host
    Status(Status),
    /// Wait until the whole building has an image
    Wait(Wait),
    /// Stop seeding an image
    Stop(Stop),
    /// Ask the tracker how far each building is
    Swarm(Swarm),
    /// Report on a distribution, as a document and as a page
    Report(Report),
}

/// `seedctl track`.
#[derive(Debug, Args)]
pub struct Track {}

/// `seedctl get`.
#[derive(Debug, Args)]
pub struct Get {}

/// `seedctl seed`.
#[derive(Debug, Args)]
pub struct Seed {}

/// `seedctl status`.
#[derive(Debug, Args)]
pub struct Status {}

/// `seedctl wait`.
#[derive(Debug, Args)]
pub struct Wait {}

/// `seedctl stop`.
#[derive(Debug, Args)]
pub struct Stop {}

/// `seedctl swarm`.
#[derive(Debug, Args)]
pub struct Swarm {}

/// `seedctl report`.
#[derive(Debug, Args)]
pub struct Report {}
