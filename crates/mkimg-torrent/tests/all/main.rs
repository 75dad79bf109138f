//! The tests of the binary: one program, so that it links once. Those in `laboratory` bring up
//! namespaces or emulated machines.

mod agreement;
mod answer_file;
mod check;
mod contract;
mod create;
mod delta;
mod host;
mod killed;
mod server;
mod verify;
