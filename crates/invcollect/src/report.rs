//! Output: the section `host`, and the events of `changes`.
//!
//! Unknown values are absent, and where it matters `missing` has the reason. Lists are never
//! missing.

mod baseline;
mod host;
pub mod metrics;
mod network;
mod pushed;

pub use baseline::Baseline;
pub use host::*;
pub use network::*;
pub use pushed::Pushed;
