//! Input: the command line, the sections of the document, and the configuration.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use confined::Identity;
use images::BACKING;
use jsonpipe::Common;
use manifest::InfoHash;
use serde::Deserialize;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "seedctl",
    version,
    about = "Fetch and seed images on the machines of a campus",
    after_help = "\
On every machine, an image from the server's document:
  seedctl get < windows.json | cowvol install-base

See seedctl(8), seedctl-track(8) and seedctl-report(8) for every field, and
labtools(7) for the other tools."
)]
pub struct Arguments {
    /// The flags of every tool.
    #[command(flatten)]
    pub common: Common,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

impl AsRef<Common> for Arguments {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the tracker, which keeps the traffic inside the buildings
    #[command(after_help = format!("\
Does not read standard input. Runs until SIGTERM or SIGINT,
then writes the section tracker. Serves the images whose signed manifests are
in {BACKING} to the networks of /etc/labtools/campus.ini; SIGHUP reads the
images again. Its knowledge of hosts rebuilds itself after a restart.

Example: the metrics for Prometheus
  seedctl track &
  curl -s http://127.0.0.1:6969/metrics

See seedctl-track(8) for the policy of introductions, and for its files."))]
    Track,
    /// Get an image from the old one, the building and the servers
    #[command(after_help = "\
Reads a document with the section image, as mkimg-torrent create writes it.
Trusts only the manifest, and only if a key in /etc/labtools/keys/base-*.pub
signed it. Writes the same document with the section transfer: where the image
is, and where its bytes came from. The next call continues an interrupted one.

Example, on every machine:
  seedctl get < windows.json | cowvol install-base")]
    Get(Get),
    /// Seed an image of the store
    #[command(after_help = "\
Reads a document with the section image, as get does, and writes the section
transfer. With --all it does not read standard input, and seeds every image in
the store that has a signed manifest and its torrents beside it; the section
transfers, as of status, lists them.

Examples: on the server; and on every machine after its start
  seedctl seed < windows.json
  seedctl seed --all")]
    Seed(Seed),
    /// Show the transfers of this host
    #[command(after_help = "\
Does not read standard input. Writes the section transfers.

Example: where the bytes came from
  seedctl status | jq '.transfers.transfers[] | {name,building_bytes,
    outside_bytes,reused_bytes}'")]
    Status,
    /// Wait until the whole building has an image
    #[command(after_help = "\
Reads a document with the section transfer, as get writes it, and passes it on.
Ends when the tracker reports that every participating host of this building has
the whole image, and the other conditions hold.

Example: seed until the building is complete, and half an hour longer
  seedctl get < windows.json | seedctl wait --seconds 1800 | seedctl stop")]
    Wait(Wait),
    /// Stop seeding an image
    #[command(after_help = "\
Reads a document with the section transfer, as get and seed write it, and passes
it on with the state stopped. With --all it does not read standard input, stops
every image, and ends aria2.

Example:
  seedctl stop --all")]
    Stop(Stop),
    /// Ask the tracker for the progress of each building
    #[command(after_help = "\
Does not read standard input. Writes the section swarm: the hosts of every
image, by building, as the tracker knows them now.

Example: how many hosts of each building have each image
  seedctl swarm | jq -r '.swarm.swarms[] | .name as $image | .buildings[] |
    [$image, .building, .complete, .incomplete] | @tsv'")]
    Swarm(campaign::request::Swarm),
    /// Report on a distribution, as a document and as a page
    #[command(after_help = "\
Reads the document that was distributed (section image) on standard input;
its manifest is verified. Writes the section campaign: the results of every
room, building and host, how often the image crossed each uplink, slow hosts
and likely causes. A host of --hosts has up to three files:
  HOST.status  one word: getting, done, failed, lost, hung, no_login, no_link,
               no_ping or no_agent; after failed the exit status
  HOST.json    the document that the machine answered with
  HOST.err     its errors

Example:
  cd /var/lib/labtools/campaigns/windows-7
  seedctl report --samples samples.jsonl --hosts hosts --html campaign.html \\
    < document.json > campaign.json")]
    Report(campaign::request::Report),
    /// Run a command on many machines by ssh, at the same time
    #[command(after_help = "\
Does not read standard input. Prints JSON Lines: an event answer for each host
as soon as it is known, with its state, exit status, document and last words.
ssh reads /etc/labtools/ssh_config if that exists, and asks no questions.

Example: which machines of a room answer?
  seedctl ask --most-seconds 15 $(seedctl hosts --room 101 |
    jq -r '.hosts.hosts[].name') -- true | jq -r '\"\\(.host) \\(.state)\"'

See seedctl-ask(8) for the states.")]
    Ask(fanout::request::Ask),
    /// List the machines of the campus, of a room, of a building
    #[command(after_help = "\
Does not read standard input. Writes the section hosts:
the selected machines of /etc/labtools/hosts.ini.

Example: the addresses of a room
  seedctl hosts --room 101 | jq -r '.hosts.hosts[].address'")]
    Hosts(campaign::request::Hosts),
    /// List the networks of the campus
    #[command(after_help = "\
Does not read standard input. Writes the section nets: the
networks of /etc/labtools/campus.ini.

Example: their addresses
  seedctl nets | jq -r '.nets.nets[].cidr'")]
    Nets,
}

/// `seedctl get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Accept an image that is older than the current one
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Give up after N seconds without progress (3600)
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3600,
        hide_default_value = true
    )]
    pub timeout: u64,
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `seedctl seed`.
#[derive(Debug, Args)]
pub struct Seed {
    /// Seed every image in the store, and read no document
    #[arg(long)]
    pub all: bool,
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `seedctl wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Then wait N seconds more
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seconds: u64,
    /// Wait until this host has also sent R times the image
    #[arg(long, value_name = "R")]
    pub ratio: Option<f64>,
    /// Give up, with status 75, after N seconds
    #[arg(long, value_name = "N")]
    pub timeout: Option<u64>,
}

/// `seedctl stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Stop every image and end aria2; read no document
    #[arg(long)]
    pub all: bool,
    /// Print the intended actions, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The section `image`: all the files that describe an image, each in Base64 of its exact bytes.
#[derive(Debug, Deserialize)]
pub struct Image {
    /// The manifest.
    pub manifest: String,
    /// Its signature.
    pub signature: String,
    /// The torrent of the image.
    pub torrent_file: String,
    /// The torrent of its block map.
    pub blocks_torrent_file: String,
    /// The comparison with the generation before, where the server had one.
    pub delta: Option<Delta>,
}

/// `image.delta`. It is not signed: it decides about time only.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Delta {
    /// The bytes to fetch with the earlier generation, the block map included.
    pub fetched_bytes: u64,
    /// The bytes to fetch without it.
    pub whole_bytes: u64,
}

/// The keys of the section `transfer` that `wait` and `stop` need.
#[derive(Debug, Deserialize)]
pub struct Transferred {
    /// The torrent of the image.
    pub infohash: InfoHash,
    /// The torrent of its block map.
    pub blocks_infohash: InfoHash,
}

/// `[aria2]` in seedctl.ini.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Aria2 {
    /// The unprivileged user that aria2 runs as.
    pub user: String,
    /// The path of aria2c.
    pub binary: PathBuf,
    /// The port of its JSON-RPC, on loopback.
    pub rpc_port: u16,
    /// The port that other peers connect to.
    pub listen_port: u16,
}

impl Aria2 {
    /// The user that aria2 runs as. Status 78 when there is no such user, and for root.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        Identity::resolve("aria2.user", &self.user)
    }
}

impl Default for Aria2 {
    fn default() -> Aria2 {
        Aria2 {
            user: "nobody".into(),
            binary: "/usr/bin/aria2c".into(),
            rpc_port: 6800,
            listen_port: 6881,
        }
    }
}
