//! What comes in: the command line, the sections of the document, and the configuration.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
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

/// `[net.NAME]` in campus.ini: a network of the campus.
#[derive(Clone, Debug, Deserialize)]
pub struct Net {
    /// Its addresses: `10.0.3.0/24`.
    pub cidr: String,
    /// The campus.
    pub campus: String,
    /// The building, which stands on one campus.
    pub building: String,
    /// The room.
    pub room: String,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
}

/// `[tracker]` in seedctl.ini.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Tracker {
    /// The address and port to listen at: `[::]:6969`, which is IPv4, too.
    pub listen: SocketAddr,
    /// How often a client announces itself while its building is not complete.
    pub interval_seconds: u64,
    /// How many hosts of a building are told the servers and the other buildings' gateways.
    pub gateways: usize,
    /// How many wireless hosts are told the servers at a time, of each torrent.
    pub wireless_hosts: usize,
}

impl Default for Tracker {
    fn default() -> Tracker {
        let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 6969));
        Tracker { listen, interval_seconds: 10, gateways: 1, wireless_hosts: 4 }
    }
}

/// `[building.NAME]` in seedctl.ini: what differs in a building.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Building {
    /// Instead of the tracker's own number.
    pub gateways: Option<usize>,
    /// What its gateways together may fetch from outside; absent for no limit.
    pub uplink_bytes_per_second: Option<u64>,
}

/// `[aria2]` in seedctl.ini.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Aria2 {
    /// The unprivileged user that it runs as.
    pub user: String,
    /// The program.
    pub binary: PathBuf,
    /// The port of its JSON-RPC, on loopback.
    pub rpc_port: u16,
    /// The port that other peers connect to.
    pub listen_port: u16,
}

impl Default for Aria2 {
    fn default() -> Aria2 {
        Aria2 { user: "nobody".into(), binary: "/usr/bin/aria2c".into(), rpc_port: 6800, listen_port: 6881 }
    }
}
