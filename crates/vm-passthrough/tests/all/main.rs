//! The tests of the binary: one program, so that it links once. Those in `laboratory` bring up
//! namespaces or emulated machines.

mod argv;
mod bench_guest;
mod check;
mod contract;
mod documents;
mod fresh;
mod laboratory;
mod plan;
mod probe;
mod restore;
