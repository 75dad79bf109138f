//! What a lab machine reports, in the form in which it travels and lies at the collector.
//!
//! **Admission rule:** a form belongs here if a lab machine writes it and a server reads it: signed reports and their seals, events.
//! The making and the sending of reports belong to invcollect, and all that is concluded from them to the reader.

mod event;
mod key;
mod report;

pub use event::{Action, Change, Event, EventAbout, EventDetails, EventHost, Part};
pub use key::Key;
pub use report::{Cursor, Header, Kind, Opened, Seal, hex, host_id, open, seal};
