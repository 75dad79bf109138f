//! Input: the command line, and the section `login`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
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
        /// Print the realm and the interfaces; send nothing
        #[arg(long)]
        dry_run: bool,
        /// Log out when the process PID ends
        #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
        until_pid: Option<i32>,
    },
    /// End the session and close its ports
    #[command(after_help = "\
Does not read standard input. Safe to repeat, and after a crash: exit status 0
means that no port of a login is open on this machine. Writes the section login,
with what the session had.")]
    Logout {
        /// Print what would be closed; close nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Ask for name, password and system at the terminal of a seat
    #[command(after_help = "\
Requires a document, from which it reads catalog and explanation. Writes the
first document of a session, with the sections login and choice, to a pipe.
With --screen, exit status 1: the user wants to switch the machine off, and
power.action has how.

Example:
  cowvol list | nm-8021x-login prompt | login-session")]
    Prompt {
        /// Ask by the screen that reads TO and writes FROM, both pipes
        #[arg(long, num_args = 2, value_names = ["TO", "FROM"])]
        screen: Vec<PathBuf>,
    },
    /// Tell a user why a session did not go as it should
    #[command(after_help = "\
Requires a document, from which it reads login and guest. Writes the section
explanation, in Portuguese or English as LANG says.

Example:
  login-session < login.json > end.json; status=$?
  nm-8021x-login explain --status $status < end.json")]
    Explain {
        /// The exit status of the session
        #[arg(long, value_name = "N")]
        status: u8,
    },
    /// List the realms that are installed, and when their CAs expire
    #[command(after_help = "\
Does not read standard input. Writes the section realms. Exit status 1: there is
no realm, a CA has expired or will within the days, or a file is broken.

Example:
  nm-8021x-login realms --days 60")]
    Realms {
        /// Report a CA that expires within N days
        #[arg(long, value_name = "N", default_value_t = 30)]
        days: u32,
    },
    /// Make accounts for visitors, for the desk of the RADIUS server
    #[command(after_help = "\
Does not read standard input. Writes a file for FreeRADIUS and one to print,
both with the passwords, and the section vouchers, without them.

Example:
  nm-8021x-login guest-voucher --realm uni-a.example --count 20 \\
    --users visitors --slips slips.txt")]
    GuestVoucher(GuestVoucher),
    /// Turn institutions' eap-configs into the files of realms
    #[command(after_help = "\
Reads each FILE, and in each DIRECTORY the files *.eap-config and *.xml. Adds
REALM.ini and REALM.pem of each institution to this machine's set of realms.
Does not read standard input. Writes the section import. Exit status 1: some
were refused; import.refused has the reasons, and the others are installed.

Example:
  nm-8021x-login import uni-a.eap-config")]
    Import(Import),
    /// Fetch the federation's set of realms
    #[command(after_help = "\
Reads the address from [update] in nm-8021x-login.ini, and believes what one of
the keys realms-*.pub signed. Does not read standard input. Writes the section
update. Exit status 1: some files were refused, and their realms stay as they
were. If anything else fails, the present set stays.

Example:
  nm-8021x-login update-realms --log")]
    UpdateRealms {
        /// Do all but the switch to the next set
        #[arg(long)]
        dry_run: bool,
    },
    /// Sign a directory of eap-configs, for machines to fetch
    #[command(after_help = "\
Writes realms.json and realms.sig into DIRECTORY, for a web server to show it.
Does not read standard input. Writes the section publication. Exit status 1:
some files were refused. If one of them is in the published set, nothing is
published: mend or remove it.

Example:
  nm-8021x-login publish-realms --key realms.key /srv/realms")]
    PublishRealms(PublishRealms),
    /// Keep the access register: who used the network, and when
    #[command(after_help = "\
See nm-8021x-login-register(8).")]
    Register {
        /// What to do with it.
        #[command(subcommand)]
        command: register::Command,
    },
    /// Watch over the process that holds a session
    #[command(hide = true)]
    Keep {
        /// As of login; standard output is the pidfd of that process
        #[arg(long)]
        until_pid: bool,
    },
    /// Hold a session
    #[command(hide = true)]
    Hold,
}

/// What to publish.
#[derive(Debug, Args)]
pub struct PublishRealms {
    /// The directory of eap-configs
    pub directory: PathBuf,
    /// Sign with the private key in FILE
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Do all, but write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What to import, and where to.
#[derive(Debug, Args)]
pub struct Import {
    /// The eap-configs
    #[arg(required = true, value_name = "FILE|DIRECTORY")]
    pub from: Vec<PathBuf>,
    /// Install the one file for REALM, whatever realm it names
    #[arg(long, value_name = "REALM")]
    pub realm: Option<String>,
    /// Put the realms into DIR, not into this machine's set
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Do all but the switch to the next set
    #[arg(long)]
    pub dry_run: bool,
}

/// What the desk wants.
#[derive(Debug, Args)]
pub struct GuestVoucher {
    /// The campus's own realm
    #[arg(long, value_name = "REALM")]
    pub realm: String,
    /// Make N accounts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Have them expire after N hours
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=8784))]
    pub hours: u16,
    /// Write the entries for FreeRADIUS to FILE, a new one
    #[arg(long, value_name = "FILE")]
    pub users: PathBuf,
    /// Write the slips for the visitors to FILE, a new one
    #[arg(long, value_name = "FILE")]
    pub slips: PathBuf,
    /// Look at the files; write nothing
    #[arg(long)]
    pub dry_run: bool,
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
