//! The section `push`.

use serde::Serialize;

/// The outcome of a run.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// Whether anything was spooled, sent or refused (in a dry run: would be spooled).
    pub changed: bool,
    /// The sender: `host.id`.
    pub host: String,
    /// The sequence numbers of the reports that this run made.
    pub spooled: Vec<u64>,
    /// The number of reports that this run delivered.
    pub sent_reports: u64,
    /// The number of reports that were refused, unreadable, or damaged without their log in this
    /// run; they are in /var/lib/labtools/spool/rejected. Refused ones are offered again.
    pub rejected_reports: u64,
    /// The number of reports dropped to make room, or because they were damaged.
    pub dropped_reports: u64,
    /// The number of waiting reports.
    pub waiting_reports: u64,
    /// Their total size.
    pub waiting_bytes: u64,
    /// The time before which nothing is sent, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// Why a report waits, was refused or not spooled; several reasons are separated by semicolons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
