//! The command line.

use std::net::IpAddr;

use clap::Subcommand;

use crate::time::Time;

/// Law 12.965/2014, article 13: one year.
const LEGAL_MINIMUM_DAYS: u32 = 365;

/// What to do with the register.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record that the session of the login on standard input begins
    #[command(after_help = "\
The line is on the disk before this ends. Safe to repeat. A login that was
refused is passed on, and not recorded: exit status 1.

Example:
  nm-8021x-login login < login.json | nm-8021x-login register start")]
    Start {
        /// Check the document; record nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Record that the session on standard input has ended
    #[command(after_help = "\
Reads the section login as nm-8021x-login logout writes it. Safe to repeat: a
session whose end was seen keeps it.

Example:
  nm-8021x-login logout | nm-8021x-login register end shutdown")]
    End {
        /// How it ended: shutdown, died, failed, terminated, ...
        #[arg(value_parser = how)]
        how: String,
        /// Check the document; record nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Record that the login on standard input was refused
    #[command(after_help = "\
Reads the section login as nm-8021x-login login writes it.

Example:
  nm-8021x-login login < login.json > answer.json ||
    nm-8021x-login register refused < answer.json")]
    Refused {
        /// Check the document; record nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Close the sessions that a power cut or a kill left open
    #[command(after_help = "\
Does not read standard input. Run it while no session runs: at boot, and before
the next login.")]
    Recover {
        /// Print what would be closed; close nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Find who had an address at a time
    #[command(after_help = "\
Does not read standard input. Exit status 1: no session had the address.

Example:
  nm-8021x-login register find --address 10.0.0.7 \\
    --at 2026-11-20T05:30:00-03:00")]
    Find {
        /// An address, IPv4 or IPv6
        #[arg(long, value_name = "A", value_parser = address)]
        address: IpAddr,
        /// A time in RFC 3339, with its offset from UTC
        #[arg(long, value_name = "TIME", value_parser = Time::parse)]
        at: Time,
    },
    /// Remove what is older than the law asks to keep
    #[command(after_help = "\
Does not read standard input. Removes whole sessions; a session that
ended within the last N days stays whole.")]
    Prune {
        /// Keep the last N days, at least 365
        #[arg(long, value_name = "N", default_value_t = LEGAL_MINIMUM_DAYS, value_parser = days)]
        days: u32,
        /// Print what would be removed; remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// One word, as the page lists them: the register's readers count them.
fn how(text: &str) -> Result<String, &'static str> {
    let is_word = (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word
        .then(|| text.to_owned())
        .ok_or("a word is wanted, such as shutdown, died, terminated, failed")
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse()
        .map_err(|_| "an address is wanted, such as 10.0.0.7 or 2001:db8::7")
}

fn days(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(days) if days >= LEGAL_MINIMUM_DAYS => Ok(days),
        Ok(_) => Err(format!(
            "the law asks to keep {LEGAL_MINIMUM_DAYS} days (12.965/2014, article 13)"
        )),
        Err(_) => Err("a number of days is wanted".into()),
    }
}
