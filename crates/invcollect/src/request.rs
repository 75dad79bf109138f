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
  invcollect changes; invcollect metrics FILE; invcollect push

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

/// `[base.NAME]` in bases.ini, as cowvol(8) reads it.
#[derive(Debug, Deserialize)]
pub struct OfferedBase {
    /// What the login screen shows.
    pub name: String,
    /// The kind of guest; of no use here.
    pub ostype: String,
    /// Whether it is taken where nothing is chosen; of no use here.
    #[serde(default)]
    pub default: bool,
    /// The generation that new sessions start from.
    pub generation: u64,
}
