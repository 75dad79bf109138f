//! Input besides the reports: the command line.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};

/// The flags.
#[derive(Debug, Args)]
pub struct Options {
    /// The collector's store, /var/lib/labtools/collector
    #[arg(value_name = "DIR")]
    pub store: PathBuf,
    /// Only the machines in this room
    #[arg(long, value_name = "NAME")]
    pub room: Option<String>,
    /// Only the machines in this building
    #[arg(long, value_name = "NAME")]
    pub building: Option<String>,
    /// Start of the period: a time, or its distance: 30days
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    pub since: Option<Since>,
    /// Length of the period: 1h, 7days; by default until now
    #[arg(long, value_name = "LENGTH", value_parser = humantime::parse_duration)]
    pub period: Option<Duration>,
    /// Draw the received bytes, from Prometheus at URL
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<String>,
    /// One line per campus, building, room, host, interface
    #[arg(long, value_name = "LABEL", value_enum, default_value_t = Label::Host, requires = "prometheus")]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub by: Label,
    /// The document printed by wake-lab
    #[arg(long, value_name = "FILE")]
    pub wake: Option<PathBuf>,
    /// A manifest that machines should have, .sig beside
    #[arg(long, value_name = "FILE")]
    pub manifest: Vec<PathBuf>,
    /// Write a page to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The beginning of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// At a time.
    At(SystemTime),
    /// A distance from now.
    Ago(Duration),
}

impl Since {
    fn parse(text: &str) -> Result<Since, String> {
        humantime::parse_rfc3339(text)
            .map(Since::At)
            .or_else(|_| humantime::parse_duration(text).map(Since::Ago))
            .map_err(|_| "neither a time, 2026-11-23T00:00:00Z, nor a distance, 7days".into())
    }
}

/// A label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Label {
    /// Each campus.
    Campus,
    /// Each building.
    Building,
    /// Each room.
    Room,
    /// Each computer.
    Host,
    /// Each interface of each computer.
    Interface,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Label::Campus => "campus",
            Label::Building => "building",
            Label::Room => "room",
            Label::Host => "host",
            Label::Interface => "interface",
        })
    }
}
