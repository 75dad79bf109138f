//! qcow2 images: reads the metadata of one, checks whether it can be a base, lays out a blank overlay
//! on one, gives it a restore point and goes back to that, calculates the room that an overlay can come
//! to need, finds what one changes of its base, and fills a blank one with such changes.
//!
//! **Admission rule.** Belongs here: the bytes of the format, and the rules on which publishing
//! (`mkimg-torrent`) and installing (`cowvol`) images must agree. Not: the place of an image, its
//! digests, or making and removing files.

mod change;
mod fill;
mod format;
mod image;
mod need;
mod point;
mod references;
mod rewrite;

pub use change::Extent;
pub use fill::Fill;
pub use format::{CLUSTER_BYTES, Header, Layout, blank_overlay, is_qcow2};
pub use image::{Follow, Image, header_of, read_header, read_point};
pub use need::{full_bytes, need_bytes};
pub use point::Point;
pub use rewrite::{Content, Rewrite};
