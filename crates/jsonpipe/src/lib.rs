//! The contract between the labtools: one document in, one document out, an exit status.
//!
//! A *document* is a JSON object of objects (or its INI form, for people). A tool reads the
//! sections it needs, replaces its own and passes every other one on, byte for byte. This crate
//! contains only the code of that contract; `labtools(7)` describes it. A tool's `main` is
//! [`main`](fn@main); its work returns an [`Answer`] or an error that carries an [`Exit`].
//!
//! **INI** stands for JSON in which every value is a string, and leaves as that JSON. In a section
//! written by a person (without `schema`, JSON or INI, however many tools ago), a string is
//! accepted where it spells the expected number, boolean or comma-separated list; any other wrong
//! type is an error. In a section written by a tool, values have their types.
//!
//! **Admission rule:** code lives here only if *every* tool needs it *and* it is about standard
//! input, standard output, standard error, the form of values in documents, files that must appear
//! atomically, files of JSON Lines, locks, or how a process ends and the line in the event log about
//! that. Disk, D-Bus and HTTP code stays in its tool.

pub mod atomic;
mod document;
pub mod event_log;
mod exit;
mod file;
pub mod ini;
pub mod json_lines;
pub mod lock;
mod node;
mod process;
mod sabotage;
mod shown;
pub mod signals;
mod stage;
mod stdout;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod timestamp;

pub use document::{Document, Missing};
pub use exit::{Exit, ExitContext, io_error};
pub use file::{read, read_if_there, read_text};
pub use process::{Answer, Common, Pipe, Tool, main};
pub use sabotage::sabotaged;
pub use shown::{is_hidden, shown};
