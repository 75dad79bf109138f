//! Input: the command line, and the section `login`.

use clap::{Parser, Subcommand};
use jsonpipe::Common;
use secrecy::SecretString;
use serde::Deserialize;

use crate::TOOL;

/// Log a user in over 802.1X through NetworkManager, and out again
#[derive(Debug, Parser)]
#[command(name = TOOL.name, version, max_term_width = 80)]
#[command(after_help = "\
The name's realm (after the @) chooses /etc/labtools/realms.d/REALM.ini.

Examples:
  nm-8021x-login login < login.json | cowvol clone
  nm-8021x-login logout

See nm-8021x-login(8) for the documents and labtools(7) for exit statuses.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The flags that every tool has.
    #[command(flatten)]
    pub common: Common,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log in the user of the document on standard input
    #[command(after_help = "\
Reads login.username and login.password (JSON only) from standard input, and
writes the section login with the answer. Exit status 0: the user is
authenticated, and the port is open. 1: refused; login.reason has the reason,
and nothing is left behind.

Example:
  nm-8021x-login login < login.json | cowvol clone")]
    Login {
        /// Print the realm and the interface; send nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Close the port and remove every profile that login made
    #[command(after_help = "\
Does not read standard input. Safe to repeat, and after a crash: exit status 0
means that no profile of a login is left on this machine. Writes the section
login.")]
    Logout {
        /// Print what would be closed; close nothing
        #[arg(long)]
        dry_run: bool,
    },
}

impl AsRef<Common> for Arguments {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

/// The section `login` as the login screen writes it.
#[derive(Debug, Deserialize)]
pub struct Credentials {
    /// `user@realm`, as typed.
    pub username: String,
    /// Never printed, logged or passed on.
    pub password: SecretString,
}
