//! The hand-over on trees of files. A tree is a fake: no write in it binds a driver, so what needs
//! one is shown in an emulated machine (scripts/lab).

mod journal;
mod pages;
mod release;
mod tree;
