//! Logs a user in over 802.1X through NetworkManager, proves it, and closes the port at logout.
//!
//! `login` turns a name and a password into a NetworkManager profile of the name's realm, hands the password over only when
//! NetworkManager's secret agent call asks for it, and believes nothing but the supplicant: "authenticated" means that the
//! device is past its link stage, that the supplicant is `completed`, and that it used the EAP method of the realm. `logout`
//! takes the profile away and sends an EAPOL-Logoff, so that the switch closes the port. (Thesis, sections 2.3 and 2.4.)

use clap::{Parser, Subcommand};
use jsonpipe::{Answer, Common, Pipe, Tool};

mod bundle;
mod bus;
mod eapol;
mod login;
mod logout;
mod network_manager;
mod profile;
mod realm;
mod report;
mod request;
mod secret_agent;
mod supplicant;

/// This tool and its section.
pub const TOOL: Tool = Tool { name: "nm-8021x-login", section: "login" };

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
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Log in the user of the document on standard input
    ///
    /// Reads login.username and login.password (JSON only) from standard input,
    /// and writes the section `login` with the answer. Exit status 0: the user
    /// is authenticated, and the port is open. 1: refused; login.reason has the
    /// reason, and nothing is left behind.
    #[command(verbatim_doc_comment)]
    Login {
        /// Print which realm and interface would be used; send nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Close the port and remove every profile that login made
    ///
    /// Reads nothing. Safe to repeat, and after a crash: exit status 0 means
    /// that no profile of a login is left on this machine.
    #[command(verbatim_doc_comment)]
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

/// Does what the arguments ask for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    match arguments.command {
        Command::Login { dry_run } => login::login(&arguments.common, pipe, dry_run),
        Command::Logout { dry_run } => logout::logout(pipe, dry_run),
    }
}
