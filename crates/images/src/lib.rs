//! The places and file names of the images of bases, and the current generation of each base.
//!
//! `mkimg-torrent` publishes an image, `seedctl` fetches it, `cowvol` makes it the current one and
//! prunes it, `invcollect` lists it: all of them use this crate, so that they agree.
//!
//! **Admission rule.** Belongs here: a path, a file name's ending, a generation as a number in a
//! name, bases.ini, the lock that guards them. Not: the content of an image (`qcow2`) or of a
//! manifest (`manifest`), and code that reads, writes or removes an image.

pub mod bases;
pub mod edit;
mod place;

pub use place::{
    BACKING, Ending, POOL_LOCK, directory, file_name, image_path, parse_file_name,
    parse_generation, parse_path, path,
};
