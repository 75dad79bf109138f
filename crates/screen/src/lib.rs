//! The screen of a seat: asks a user for name, password and system, and tells why the session
//! before ended, in Portuguese or English: at the terminal, or by a graphical screen, which is a
//! program of its own.
//!
//! At the terminal, the keys are the user's only way to reach it, so none of them leads out or locks in: Ctrl-C,
//! Ctrl-D and Ctrl-Z begin anew, other control keys do nothing, and what is too long is refused.
//!
//! **Admission rule:** the terminal, its keys, and the questions belong here. What a failure means
//! to a user belongs to the tool that knows the failure; it brings its [`Words`].

mod ask;
mod graphical;
mod keys;
mod offer;
mod place;
mod terminal;
mod words;

pub use ask::ask;
pub use graphical::ask_screen;
pub use words::{Explanation, Language, Words};
