//! The tests of the binary: one program, so that it links once. Those in `laboratory` bring up
//! namespaces or emulated machines.

mod cases;
mod changes;
mod collect;
mod contract;
mod firmware;
mod fleet;
mod glpi;
mod laboratory;
mod machine;
mod metrics;
mod name;
mod push;
mod rules;
mod store;
mod supported;
