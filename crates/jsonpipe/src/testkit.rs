//! The kit of the tools' tests: the checks of the contract that every tool applies to itself
//! ([`contract!`](crate::contract), [`Stage`]), a program run to its end ([`feed`], [`Ended`]), the
//! same recorded ([`traced`]) or stopped ([`stepped`]) at its system calls, a machine that is a
//! directory ([`common`]), a configuration of one file ([`configured`]), a program that signals end ([`heeding_signals`]), a lock that is held
//! ([`hold`]), cases as directories ([`assert_expected`]), and the checks of man pages.
//!
//! Belongs here: code that the tests of several tools need and that knows no tool. Not: a machine,
//! a disk or a server of one tool; these are modules of its tests.

#![allow(
    clippy::missing_panics_doc,
    reason = "a check panics when something does not hold; that is what it is for"
)]

mod cases;
mod common;
mod configured;
mod contract;
mod ended;
mod hold;
mod page;
mod signals;
mod stage;
pub mod stepped;
mod traced;

pub use cases::{assert_expected, copy};
pub use common::common;
pub use configured::configured;
pub use contract::Stages;
pub use ended::{Ended, feed, redirected};
pub use hold::hold;
pub use page::{help_fits_a_terminal, man_page_examples_work, man_page_names_every_flag};
pub use signals::heeding_signals;
pub use stage::Stage;
pub use traced::traced;
