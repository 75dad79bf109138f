//! Starts a program as a user that can do nothing else, with nothing open but what it is handed.
//! Belongs here: what must hold between fork and exec, whatever the program. Not: which program,
//! how it is watched, how it ends.

mod identity;
mod start;
mod system;

pub use identity::Identity;
pub use start::{Life, Start};
pub use system::renumber;
