//! The session, from the order to the closed port: the process that holds it, the one that watches
//! over that, what both leave in /run/labtools, and the closing of what is open, also after a kill.
//!
//! It makes the attempt, and keeps the links that let the user in.

pub mod closing;
pub mod holder;
pub mod keeper;
pub mod lock;
mod memory;
pub mod order;
pub mod outside;
mod resident;
pub mod state;
mod wiping;
