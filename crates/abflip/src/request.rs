//! Input: the command line, abflip.ini, and the document of `layout`.

pub mod layout;

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jsonpipe::Common;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "abflip",
    version,
    about = "Switch a machine between its two root slots with one sector write",
    after_help = "\
Which slot runs, and which boots next:
  abflip status | jq -r '.slots | .booted, .next'

See abflip(8) for every field, and labtools(7) for the other tools."
)]
pub struct Arguments {
    /// The flags of every tool.
    #[command(flatten)]
    pub common: Common,
    /// Work on this disk or image, not on the root's disk
    #[arg(long, global = true, display_order = 899, value_name = "PATH")]
    pub disk: Option<PathBuf>,
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
    /// Show which slot runs, which boots next, and the state of the table
    #[command(after_help = "\
Does not read standard input. Writes the section slots.
Status 1 when the table needs repair.

Example: an image file, without root
  abflip status --disk lab.img --config . | jq -r .slots.next")]
    Status {
        /// Compare the slots with the images written to them
        #[arg(long)]
        digest: bool,
    },
    /// Write an image to the slot that neither runs nor boots next
    #[command(after_help = "\
Does not read standard input. Checks the signed manifest,
then that the slot can take the image, before it writes anything. In every
case the running slot is untouched, and the other one is complete or has no
record, so that flip refuses it. Writes the section slots;
status 1 when the slot holds no image afterwards, and the section says why.

Example: from the server, verified on the way in and once more on the disk
  abflip write --manifest lab-8.manifest \\
    --from https://server.example/lab-8.zst")]
    Write(Write),
    /// Make the slot that is not running boot next
    #[command(after_help = "\
Does not read standard input. Refuses, before it writes
anything, unless both copies of the table are valid, both slots are in one
sector of it, exactly one of them is marked, abflip write has written and
verified the slot that will boot, and something starts that slot; with UEFI,
abflip try installs that. Writes the section slots.

Example: go back to the slot that is running
  abflip flip --active a")]
    Flip {
        /// Make this slot boot next, whichever is running
        #[arg(long, value_name = "SLOT")]
        active: Option<Slot>,
        /// Refuse when the backup table differs, instead of repairing it first
        #[arg(long)]
        no_repair: bool,
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Boot the other slot once, to see whether it is healthy
    #[command(after_help = "\
Does not read standard input. The slot that boots next stays
the same; only the next boot starts the other slot, by extlinux's boot-once or
the firmware's BootNext. Unless that slot runs abflip commit, the boot after it
is as before. Refuses like flip. Writes the section slots.

Example: try a new version
  abflip write --manifest lab-8.manifest --from lab-8.zst &&
    abflip try && reboot")]
    Try {
        /// Try an image that was tried before, and did not commit
        #[arg(long)]
        again: bool,
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep the slot that runs on trial: from now on it boots next
    #[command(after_help = "\
Does not read standard input. Refuses in a slot that is not
on trial; does nothing in one that has committed. Writes the section slots.

Example: by hand; at boot, abflip settle does it
  if my-check; then abflip commit; else abflip rollback; reboot; fi")]
    Commit {
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// End a trial: restore the next boot that was set before it
    #[command(after_help = "\
Does not read standard input. Disarms a trial that was not
booted. One that was booted is recorded as rejected, and try refuses it. No flip
is needed. Writes the section slots.

Example: reject this version
  abflip rollback && reboot")]
    Rollback {
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Decide at boot whether the slot that runs on trial stays
    #[command(after_help = "\
Does not read standard input. Writes the section settlement,
whose verdict is one of:
  stay     nothing is on trial; or the trial has ended, and this slot stays
  check    this slot is on trial: check its health, and call it again
  back     this slot does not stay: reboot, into the other one
  unsure   a trial is on record, but its state is not known: reboot, once
Status 1 for all but stay, and for stay when a trial is not cleared up.

Example: what commit-trial does at boot
  abflip settle | jq -r .settlement.verdict")]
    Settle(Settle),
    /// Partition the disks of a new machine, and make its file systems
    #[command(after_help = "\
Reads layout.ini from standard input. Chooses one disk, or two, by size and
rotation, and writes their tables and all file systems but those of the roots.
Refuses a disk that holds anything else, unless replace=true. Destroys what the
disks hold. Writes the section partitioning; status 1 when a disk is refused, or
something failed after the first write.

Example: show what would become of this machine's disks
  abflip layout --dry-run < layout.ini | jq .partitioning.partitions")]
    Layout(Layout),
    /// Heal what an interrupted run or a foreign tool left
    #[command(after_help = "\
Does not read standard input. Heals the backup table from
the primary one or the primary from the backup, and the protective MBR; with
--active, marks one slot where both or none are marked. Writes the section
slots; reports each repair on standard error.

Example: show the intended changes
  abflip repair --dry-run")]
    Repair {
        /// Mark this slot, where both are marked or none is
        #[arg(long, value_name = "SLOT")]
        active: Option<Slot>,
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// `abflip write`.
#[derive(Debug, Args)]
pub struct Write {
    /// The image, raw or zstd: file, FIFO or https URL
    #[arg(long, value_name = "SOURCE")]
    pub from: String,
    /// The manifest of the image
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Its signature; without it, that FILE ending in .sig
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Trust servers of this CA (PEM), and no others
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Accept an image older than the one that boots next
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `abflip layout`.
#[derive(Debug, Args)]
pub struct Layout {
    /// Print the fstab of these machines, and do nothing
    #[arg(long, conflicts_with_all = ["dry_run", "slots"])]
    pub fstab: bool,
    /// Print the abflip.ini of these machines, and do nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub slots: bool,
    /// Print the plan, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `abflip settle`.
#[derive(Debug, Args)]
pub struct Settle {
    /// The slot on trial passed its checks: commit
    #[arg(long, conflicts_with = "sick")]
    pub healthy: bool,
    /// The slot on trial failed its checks: roll back
    #[arg(long)]
    pub sick: bool,
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// One of the two roots of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// The other one.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Slot::A => "a",
            Slot::B => "b",
        })
    }
}

/// `[slots]` in abflip.ini, the same on every machine: partitions have standard PARTUUIDs.
#[derive(Clone, Debug, Deserialize)]
pub struct Configured {
    /// The program that starts the machine; absent in a file for both kinds of machines.
    pub firmware: Option<Firmware>,
    /// The root of slot a.
    pub a: Uuid,
    /// The root of slot b.
    pub b: Uuid,
    /// The EFI system partition of slot a; not with `firmware=bios`.
    pub esp_a: Option<Uuid>,
    /// The EFI system partition of slot b; not with `firmware=bios`.
    pub esp_b: Option<Uuid>,
}

/// The program that starts a machine; it determines the partitions that carry the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// gptmbr of Syslinux starts the partition whose attribute bit 2, legacy BIOS bootable, is set:
    /// the active root.
    Bios,
    /// The firmware ignores an EFI system partition whose attribute bit 1, no block IO protocol, is
    /// set: the inactive slot's.
    Uefi,
}

impl Firmware {
    /// The attribute bit that marks (UEFI specification 2.10, table 5.8).
    pub fn bit(self) -> u32 {
        match self {
            Firmware::Bios => 2,
            Firmware::Uefi => 1,
        }
    }
}
