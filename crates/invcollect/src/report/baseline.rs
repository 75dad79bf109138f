//! The section `baseline`, of `accept`.

use envelope::Change;
use serde::Serialize;

/// The section `baseline`, of `accept`.
#[derive(Debug, Serialize)]
pub struct Baseline {
    /// Whether the baseline is (in a dry run: would be) another one than before.
    pub changed: bool,
    /// When it was accepted, RFC 3339.
    pub accepted_at: String,
    /// The changes that are accepted by it, in the order in which they were told.
    pub accepted: Vec<Change>,
}
