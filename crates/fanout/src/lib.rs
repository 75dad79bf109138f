//! Runs one command on many machines by ssh at the same time, and records the answer of each as it
//! arrives: `seedctl ask`.
//!
//! Some machines hang with an open connection, some never fall silent, some send gigabytes. Each has
//! limits, and none delays another.
//!
//! **Admission rule.** Belongs here: the commands that a machine runs, the states, and the form of an
//! answer, with its one writer and its one reader. Not: the choice of machines and commands, and the
//! consequences of an answer; these are in the scripts, and in the crates that read answers.

mod ask;
mod job;
mod outcome;
mod report;
pub mod request;
mod ssh;
mod system;

pub use ask::ask;
pub use report::{Answer, Begun, Event, Object, State, read};
