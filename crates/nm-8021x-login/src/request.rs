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

/// RFC 2865, section 5: what an attribute can hold.
pub const USER_NAME_MAX_BYTES: usize = 253;

/// What NetworkManager takes for wpa_supplicant, of a password too: its
/// src/core/supplicant/nm-supplicant-settings-verify.c. It refuses more when the profile is active,
/// and says why only in its log.
pub const VALUE_MAX_BYTES: usize = 255;

/// A user name taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct UserName {
    /// What the RADIUS server is told, as typed.
    pub identity: String,
    /// The whole name in lower case: the same person always has the same disk and register entry.
    pub user: String,
    /// What follows the `@`, in lower case.
    pub realm: String,
}

impl UserName {
    /// `None` unless there is exactly one `@`, something on both sides of it, nothing invisible,
    /// and room for it in RADIUS.
    pub fn parse(name: &str) -> Option<UserName> {
        let (local, realm) = name.split_once('@')?;
        // With a character that shows nothing one name can be made to look like another.
        let visible = !name
            .chars()
            .any(|c| c.is_whitespace() || jsonpipe::is_hidden(c));
        if local.is_empty()
            || realm.is_empty()
            || realm.contains('@')
            || !visible
            || name.len() > USER_NAME_MAX_BYTES
        {
            return None;
        }
        Some(UserName {
            identity: name.to_owned(),
            user: name.to_lowercase(),
            realm: realm.to_lowercase(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_has_one_at_and_two_sides() {
        let name = UserName::parse("Alice@Uni-A.example").unwrap();
        assert_eq!(
            (name.identity.as_str(), name.user.as_str()),
            ("Alice@Uni-A.example", "alice@uni-a.example")
        );
        assert_eq!(name.realm, "uni-a.example");
        let long = format!("{}@uni-a.example", "a".repeat(4096));
        for bad in [
            &long,
            "",
            "alice",
            "@",
            "alice@",
            "@uni-a.example",
            "a@b@c",
            "a b@c",
            "a\0@c",
            "a@c\n",
            "../../x",
            "a\u{200b}@c",
            "a\u{202e}@c",
            "a\u{3164}@c",
            "\u{34f}a@c",
        ] {
            assert_eq!(UserName::parse(bad), None, "{bad:?}");
        }
    }
}
