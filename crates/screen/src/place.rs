//! Where the machine stands.

use serde::{Deserialize, Serialize};

/// The section `machine` of `invcollect name`, as far as it is read here.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The room in hosts.ini; absent where that has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
}
