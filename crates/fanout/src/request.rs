//! Input: the command line.

use std::path::PathBuf;

use clap::Args;

/// `seedctl ask`.
#[derive(Debug, Args)]
pub struct Ask {
    /// Send FILE as standard input; several, one after another
    #[arg(long, value_name = "FILE")]
    pub send: Vec<PathBuf>,
    /// Give COMMAND N seconds (60)
    #[arg(
        long,
        value_name = "N",
        default_value_t = 60,
        hide_default_value = true,
        value_parser = seconds()
    )]
    pub most_seconds: u64,
    /// Give up a machine that was silent for N seconds
    #[arg(long, value_name = "N", value_parser = seconds())]
    pub quiet_seconds: Option<u64>,
    /// After COMMAND, wait for its result with this command
    #[arg(long, value_name = "COMMAND")]
    pub wait: Option<String>,
    /// Wait N seconds for the result (86400)
    #[arg(
        long,
        value_name = "N",
        default_value_t = 86400,
        hide_default_value = true,
        requires = "wait",
        value_parser = seconds()
    )]
    pub wait_seconds: u64,
    /// Wait again when that failed, as after a reboot
    #[arg(long, requires = "wait")]
    pub again: bool,
    /// Done only if the answer has these keys and values
    #[arg(long, value_name = "JSON")]
    pub expect: Option<String>,
    /// Ask at most N machines at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub at_once: Option<u16>,
    /// Also write each machine's answer to DIR/HOST.json
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// The machines, by their names to ssh
    #[arg(required = true, value_name = "HOST")]
    pub hosts: Vec<String>,
    /// What to run there
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// From one second to three years: later times may overflow.
fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=100_000_000)
}
