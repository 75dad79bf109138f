//! What comes in: the command line and invcollect.ini.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jsonpipe::Common;
use serde::Deserialize;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "invcollect",
    version,
    about = "Tells what a machine is, and what changed on it",
    after_help = "\
What cron runs on a lab machine:
  invcollect changes; invcollect push --spread; invcollect metrics FILE

See invcollect(8) for every field, and labtools(7) for the other tools."
)]
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
    /// Show what this machine is
    #[command(after_help = "\
Reads no document: standard input is left alone. Writes the section host. What
is not known is absent, and host.missing says why.

Example: the memory that is installed, slot by slot
  invcollect collect | jq '.host.memory.modules[] | {slot, bytes}'")]
    Collect(Collect),
    /// Tell what changed since the baseline, each change once
    #[command(after_help = "\
Reads no document: standard input is left alone. Prints one JSON line for each
change that was not told before, and appends it to the event log. The first
call takes the machine as it is for the baseline. Status 1: the machine is not
as the baseline says, whether that is told now or was told before.

Example:
  invcollect changes | jq -r '.event.action + \" \" + .message'")]
    Changes {
        /// Print what would be told, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the machine as it is now for the baseline
    #[command(after_help = "\
Reads no document: standard input is left alone. A technician says by it that
what changed was meant to. Writes the section baseline.")]
    Accept {
        /// Say what would be accepted, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write a file of metrics that node_exporter serves
    #[command(after_help = "\
Reads no document: standard input is left alone. FILE appears whole or not at
all; its name has to end in .prom. Writes the section metrics.

Example:
  invcollect metrics /var/lib/prometheus/node-exporter/labtools.prom")]
    Metrics {
        /// The file, in the directory that node_exporter reads
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Say what would be written, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Send reports to the collector, and keep those that it cannot take
    #[command(after_help = "\
Reads no document: standard input is left alone. Makes a report of what collect
shows and of the events that changes told since, puts it into the spool, and
sends what waits there, the oldest first. Status 1: something waits, or was
refused. Writes the section push.

Example: what cron runs
  invcollect changes >/dev/null; invcollect push --spread >/dev/null")]
    Push(Push),
    /// Tell technicians what the reports say that a collector received
    #[command(after_help = "\
Reads no document: standard input is left alone. DIR is the collector's store.
Writes the section fleet: what somebody has to visit, what can be done from a
desk, and every room and machine. A report whose signature is not by the key
that its host is enrolled with is not believed, and counted.

Example: what is to be done today, as a page
  invcollect fleet /var/lib/labtools/collector --html today.html >/dev/null")]
    Fleet(fleet::Options),
}

/// `[model.NAME]` in models.ini, as vm-passthrough(8) reads it.
#[derive(Debug, Default, Deserialize)]
pub struct Model {
    /// The PCI addresses of what guests get: `0000:00:02.0`.
    #[serde(default)]
    pub devices: Vec<String>,
    /// The guest's memory; of no use here.
    pub memory: Option<String>,
    /// The guest's cores; of no use here.
    pub cores: Option<String>,
    /// Whether the case has an intrusion switch; false where the board has the pin for one, and nothing on it.
    pub intrusion_switch: Option<bool>,
}

/// The flags of `push`.
#[derive(Debug, Args)]
pub struct Push {
    /// Wait for this machine's turn within the quarter of an hour
    #[arg(long, conflicts_with = "now")]
    pub spread: bool,
    /// Try now, though the last try failed a moment ago
    #[arg(long)]
    pub now: bool,
    /// Say what would be sent, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `[push]` in invcollect.ini: where reports go.
#[derive(Clone, Debug, Deserialize)]
pub struct Destination {
    /// The collector: `https://collector.example`.
    pub url: String,
    /// How it takes them.
    #[serde(default)]
    pub method: Method,
    /// The certificates of which one signed the collector's, a PEM file in /etc/labtools.
    #[serde(default = "Destination::authorities")]
    pub authorities: PathBuf,
    /// How large the spool may get.
    #[serde(default = "Destination::spool_bytes")]
    pub spool_bytes: u64,
    /// Whether the access register goes to the collector, too (for its keeper alone).
    #[serde(default)]
    pub register: bool,
}

impl Destination {
    fn authorities() -> PathBuf {
        "collector.pem".into()
    }

    fn spool_bytes() -> u64 {
        16 << 20
    }
}

/// How a server takes reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Signed, by PUT to a name that carries the report's id; `collector setup` sets such a server up.
    #[default]
    Put,
    /// The inventory, by POST to GLPI.
    Glpi,
    /// The text and the headers of the thesis's script, by POST (Figure 28).
    Text,
}

/// The flags of `collect`.
#[derive(Debug, Args)]
pub struct Collect {
    /// Write the inventory for GLPI to FILE
    #[arg(long, value_name = "FILE")]
    pub glpi: Option<PathBuf>,
}

/// `[expected.MODEL]` in invcollect.ini: what a machine of that model left the factory with.
#[derive(Debug, Deserialize)]
pub struct Expected {
    /// Its memory, in MiB.
    pub memory_mib: u64,
}
