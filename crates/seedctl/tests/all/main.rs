//! The tests of the binary: one program, so that it links once. Those in `laboratory` bring up
//! namespaces or emulated machines.

mod ask;
mod contract;
mod laboratory;
mod nets;
mod offered;
mod refusals;
mod report;
mod track;
mod tracker;
