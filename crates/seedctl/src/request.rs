//! What comes in: the command line, the sections of the document, and the configuration.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jsonpipe::Common;
use serde::{Deserialize, Serialize};

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
    #[command(after_help = "\
Reads the document that was distributed (section image) on standard input;
its manifest is verified. Writes the section campaign: what became of every
room, building and host, how often the image crossed each uplink, which hosts
were slow and why that may be. A host of --hosts has up to three files:
  HOST.status  one word: getting, done, failed, lost, no_link, no_ping or
               no_agent; after failed the exit status
  HOST.json    the document that the machine answered with
  HOST.err     its last words

Example:
  cd /var/lib/labtools/campaigns/windows-7
  seedctl report --samples samples.jsonl --hosts hosts --html campaign.html \\
    < document.json > campaign.json")]
    Report(Report),
    /// List the machines of the campus, of a room, of a building
    #[command(after_help = "\
Reads no document: standard input is left alone. Writes the section hosts:
the machines of /etc/labtools/hosts.ini that were asked for.

Example: the addresses of a room
  seedctl hosts --room 101 | jq -r '.hosts.hosts[].address'")]
    Hosts(Hosts),
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
pub struct Swarm {
    /// Ask the tracker at URL
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:6969")]
    pub tracker: String,
}

/// `seedctl report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Read what the tracker said from FILE, a document of seedctl swarm a line
    #[arg(long, value_name = "FILE")]
    pub samples: PathBuf,
    /// Read what the machines said from the files in DIR
    #[arg(long, value_name = "DIR")]
    pub hosts: PathBuf,
    /// Write the page to FILE, too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `seedctl hosts`.
#[derive(Debug, Args)]
pub struct Hosts {
    /// Only the machines in this room
    #[arg(long, value_name = "ROOM")]
    pub room: Option<String>,
    /// Only the machines in this building
    #[arg(long, value_name = "BUILDING")]
    pub building: Option<String>,
    /// Only these machines
    #[arg(value_name = "HOST")]
    pub names: Vec<String>,
}

/// `[host.NAME]` in hosts.ini: a machine of the campus.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Machine {
    /// The Ethernet address of its wired port, by which it is woken: `00:1b:21:0a:0b:0c`.
    pub mac: String,
    /// Its address, by which it is told what to do.
    pub address: IpAddr,
    /// The building that it stands in.
    pub building: String,
    /// The room.
    pub room: String,
    /// What its firmware calls it: `OptiPlex 7010`.
    pub model: Option<String>,
}

/// What a network is for (`role` of campus.ini).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Machines that share what they have with their building.
    #[default]
    Lab,
    /// The machines that images come from.
    Servers,
    /// Machines that fetch from the servers alone, and share with nobody.
    Wireless,
}
