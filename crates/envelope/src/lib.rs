//! The reports of a lab machine, in the form in which they are sent and stored at the collector.
//!
//! **Admission rule:** a form belongs here if a lab machine writes it and a server reads it: signed
//! reports and their seals, events, the text of the thesis's script, and the rule for numbers that
//! identify a machine. Making and sending reports belongs to invcollect; conclusions belong to the
//! reader.

mod event;
pub mod identity;
mod key;
mod report;
pub mod text;

pub use event::{Action, Change, Event, EventAbout, EventDetails, EventHost, Part};
pub use key::Key;
pub use report::{Cursor, HOST_ID, Header, Kind, Opened, Seal, hex, host_id, open, seal};
