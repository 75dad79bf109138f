//! Starts a program as an unprivileged user, with no open files except those handed to it. Belongs
//! here: the steps between fork and exec, whatever the program. Not: the choice of the program, its
//! supervision, its end.

mod identity;
mod start;
mod system;

pub use identity::Identity;
pub use start::{Life, Start};
pub use system::renumber;
