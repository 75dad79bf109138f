//! The section `baseline`, of `accept`.

use envelope::Change;
use serde::Serialize;

/// The section `baseline`, of `accept`.
#[derive(Debug, Serialize)]
pub struct Baseline {
    /// Whether the baseline changed (in a dry run: would change).
    pub changed: bool,
    /// The time of its acceptance, RFC 3339.
    pub accepted_at: String,
    /// The accepted changes, in the order of their reports.
    pub accepted: Vec<Change>,
}
