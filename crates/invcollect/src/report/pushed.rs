//! The section `push`.

use serde::Serialize;

/// What became of the reports.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// Whether anything was spooled, sent or refused (in a dry run: would be spooled).
    pub changed: bool,
    /// Whose reports: `host.id`.
    pub host: String,
    /// The reports that this run made, by their sequence.
    pub spooled: Vec<u64>,
    /// How many the collector has now.
    pub sent_reports: u64,
    /// How many it refused now, or could not be read, or were damaged and are not in their log any
    /// more; they are in /var/lib/labtools/spool/rejected. What was refused is offered again.
    pub rejected_reports: u64,
    /// How many were thrown away to make room, or because they were damaged.
    pub dropped_reports: u64,
    /// How many wait.
    pub waiting_reports: u64,
    /// How long they are together.
    pub waiting_bytes: u64,
    /// Before then nothing is sent, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// Why something waits, or was refused or not spooled; several reasons are parted by a
    /// semicolon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
