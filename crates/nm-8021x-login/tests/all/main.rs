//! The tests of the binary: one program, so that it links once. Those in `laboratory` bring up
//! namespaces or emulated machines.

mod contract;
mod graphical;
mod import;
mod laboratory;
mod prompt;
mod realms;
mod register;
mod seat;
mod seat_screen;
mod terminal;
mod update;
mod vouchers;
