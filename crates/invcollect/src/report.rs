//! What goes out: the section `host`, and the events of `changes`.
//!
//! What is not known is absent, and where it matters `missing` says why. Lists are never missing.

mod baseline;
mod host;
pub mod metrics;
mod network;
mod pushed;

pub use baseline::Baseline;
pub use host::*;
pub use network::*;
pub use pushed::Pushed;
