//! Input: the command line and invcollect.ini.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jsonpipe::Common;
use serde::Deserialize;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "invcollect",
    version,
    about = "Take a machine's inventory, and report what changed",
    after_help = "\
On a lab machine cron runs:
  invcollect changes; invcollect push --spread; invcollect metrics FILE

See invcollect(8) for every field, and labtools(7) for the other tools."
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
    /// Print the inventory of this machine
    #[command(after_help = "\
Does not read standard input. Writes the section host. Unknown values are
absent, and host.missing has the reasons.

Example: the installed memory, slot by slot
  invcollect collect | jq '.host.memory.modules[] | {slot, bytes}'")]
    Collect(Collect),
    /// Report changes since the baseline, each once
    #[command(after_help = "\
Does not read standard input. Prints one JSON line for each change that was not
reported before, and appends it to the event log. The first call takes the
machine's current state as the baseline. Status 1: the machine differs from its
baseline, whether that is reported now or was before.

Example:
  invcollect changes | jq -r '.event.action + \" \" + .message'")]
    Changes {
        /// Print what would be reported, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the machine's current state as the baseline
    #[command(after_help = "\
Does not read standard input. A technician confirms that the changes are
intended. Writes the section baseline.")]
    Accept {
        /// Print what would be accepted, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write a file of metrics that node_exporter serves
    #[command(after_help = "\
Does not read standard input. FILE appears whole or not at all; its name must
end in .prom. Writes the section metrics.

Example:
  invcollect metrics /var/lib/prometheus/node-exporter/labtools.prom")]
    Metrics {
        /// The file, in the directory that node_exporter reads
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print what would be written, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Give the firmware's settings the values that firmware.ini wants
    #[command(after_help = "\
Does not read standard input. Writes the section firmware: each setting, wanted,
before and now. Status 1: a setting has another value than wanted. Status 78,
and nothing is written: an unknown model, a BIOS older than the model's, or a
name or value that this firmware does not have.

Example: the settings that firmware.ini wants
  invcollect firmware --dry-run | jq '.firmware.settings[]'

See invcollect-firmware(8), also for the setup password.")]
    Firmware {
        /// Print the settings, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Send reports to the collector, and keep those it cannot take
    #[command(after_help = "\
Does not read standard input. Makes reports of the output of collect and of new
events, puts them into the spool, and sends the waiting reports, the oldest
first. Status 1: a report waits, or was refused. Writes the section push.

Example: as cron runs it
  invcollect changes >/dev/null; invcollect push --spread >/dev/null")]
    Push(Push),
    /// Say whether models.ini lists this machine, before it is installed
    #[command(after_help = "\
Does not read standard input. Writes the section model. Status 78: models.ini
does not list the model, or the BIOS is older than the tested ones.

Example: as the installer runs it
  invcollect supported || exit")]
    Supported,
    /// Give this machine its name, as hosts.ini has it
    #[command(after_help = "\
Does not read standard input. Writes the section machine: the name, and in
hosts.ini the building and the room. Without an entry there, the name is made
of the Ethernet address. Status 1: hosts.ini is wrong, or no port was found,
and the machine keeps its name.

Example: as labtools-name.service runs it at boot
  invcollect name --log >/dev/null")]
    Name {
        /// Print the name, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Summarize the collected reports for technicians
    #[command(after_help = "\
Does not read standard input. DIR is the collector's store. Writes the section
fleet: tasks that need a visit, tasks for a desk, and every room and machine.
A report that is not signed by the key of its enrolled host does not count; the
section has the number of such reports.

Example: today's tasks, as a page
  invcollect fleet /var/lib/labtools/collector --html today.html >/dev/null")]
    Fleet(fleet::Options),
}

/// The flags of `push`.
#[derive(Debug, Args)]
pub struct Push {
    /// Wait for this machine's turn within the quarter of an hour
    #[arg(long, conflicts_with = "now")]
    pub spread: bool,
    /// Try now, even if the last try failed a moment ago
    #[arg(long)]
    pub now: bool,
    /// Print what would be sent, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `[push]` in invcollect.ini: the destination of reports.
#[derive(Clone, Debug, Deserialize)]
pub struct Destination {
    /// The collector: `https://collector.example`.
    pub url: String,
    /// The server's method.
    #[serde(default)]
    pub method: Method,
    /// The CA certificates, one of which signed the collector's; a PEM file in /etc/labtools.
    #[serde(default = "Destination::authorities")]
    pub authorities: PathBuf,
    /// The maximum size of the spool.
    #[serde(default = "Destination::spool_bytes")]
    pub spool_bytes: u64,
    /// Whether the access register is also sent to the collector (only for its keeper).
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

/// The method by which a server receives reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Signed, by PUT to a name that contains the report's id; `collector setup` configures such a
    /// server.
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
