//! Output: the sections `host` and `firmware`, and the events of `changes`.
//!
//! Unknown values are absent, and where it matters `missing` has the reason. Lists are never
//! missing.

mod baseline;
mod host;
pub mod metrics;
mod network;
mod pushed;
mod settings;

pub use baseline::Baseline;
pub use host::*;
pub use network::*;
pub use pushed::Pushed;
pub use settings::{Setting, Settings};
