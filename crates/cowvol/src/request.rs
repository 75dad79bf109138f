//! What comes in: the command line, the sections of the document, and bases.ini.

use clap::{Parser, Subcommand};
use jsonpipe::Common;
use serde::Deserialize;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "cowvol",
    version,
    about = "Gives each user a copy-on-write disk of a base",
    after_help = "\
A session, in which cowvol is the second stage:
  nm-8021x-login login | cowvol clone | vm-passthrough run

See cowvol(8) for every field, and labtools(7) for the other tools."
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
    /// Show the bases and the volumes on them
    #[command(after_help = "\
Reads no document: standard input is left alone. Writes the section catalog:
the bases of /qcow2/backing/bases.ini, each with the volumes made on it, and
under orphans the volumes whose base is not in bases.ini.

Example: what each volume holds on the disk
  cowvol list | jq -r '.catalog.bases[].volumes[] | [.token,.held_bytes]|@tsv'")]
    List,
    /// Make the user's volume of a base, or find it
    #[command(after_help = "\
Reads a document (JSON or INI) on standard input:
  login.user           the user's full name, alice@uni-a.example
  login.authenticated  true; if false, the document is passed on (status 1)
  choice.base          which base; without it, the default of bases.ini
Writes the same document with the section volume: where the disk is, what it
is based on, whether it was created now.

Example:
  printf '[login]\\nuser=alice@uni-a.example\\nauthenticated=true\\n' |
    cowvol clone --dry-run")]
    Clone {
        /// Say what would be done, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// The section `login`: who is there.
#[derive(Debug, Deserialize)]
pub struct Login {
    /// The full name with its realm, `alice@uni-a.example`; absent where a login was refused before a name was known.
    pub user: Option<String>,
    /// The realm, which the full name holds already.
    pub realm: Option<String>,
    /// Whether the user is who they say.
    pub authenticated: bool,
}

/// The section `choice`: what the user wants.
#[derive(Debug, Default, Deserialize)]
pub struct Choice {
    /// The name of a base; absent for the default one.
    pub base: Option<String>,
}

/// `[base.NAME]` in bases.ini: a base that is offered.
#[derive(Debug, Deserialize)]
pub struct OfferedBase {
    /// What the login screen shows: `Windows 10`.
    pub name: String,
    /// The kind of guest, which chooses its profile: `windows`.
    pub ostype: String,
    /// Whether it is taken where nothing is chosen; at most one is.
    #[serde(default)]
    pub default: bool,
    /// The generation that new sessions start from: `GENERATION.qcow2` in the base's directory.
    pub generation: u64,
}
