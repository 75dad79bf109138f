//! Input: the command lines.

use std::path::PathBuf;

use clap::Args;

/// `seedctl swarm`.
#[derive(Debug, Args)]
pub struct Swarm {
    /// Ask the tracker at URL
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:6969")]
    pub tracker: String,
}

/// `seedctl report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Read the tracker's samples from FILE, one per line
    #[arg(long, value_name = "FILE")]
    pub samples: PathBuf,
    /// Read the machines' answers from the files in DIR
    #[arg(long, value_name = "DIR")]
    pub hosts: PathBuf,
    /// Also write the page to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `seedctl hosts`.
#[derive(Debug, Args)]
pub struct Hosts {
    /// Only the machines in this room
    #[arg(long, value_name = "NAME")]
    pub room: Option<String>,
    /// Only the machines in this building
    #[arg(long, value_name = "NAME")]
    pub building: Option<String>,
    /// Only these machines
    #[arg(value_name = "HOST")]
    pub names: Vec<String>,
}
