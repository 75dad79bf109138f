//! Where the images of bases lie, what their files are called, and which generation of each base is
//! offered.
//!
//! `mkimg-torrent` publishes an image, `seedctl` fetches it, `cowvol` makes it the current one and
//! prunes it, `invcollect` lists it: all of them ask here, so that they agree.
//!
//! **Admission rule.** Belongs here: a path, the ending of a file's name, a generation as a number
//! in a name, bases.ini, the lock that guards them. Not: what an image contains (`qcow2`), what a
//! manifest says (`manifest`), and whatever reads, writes or removes an image.

pub mod bases;
pub mod edit;
mod place;

pub use place::{
    BACKING, Ending, POOL_LOCK, directory, file_name, image_path, parse_file_name,
    parse_generation, parse_path, path,
};
