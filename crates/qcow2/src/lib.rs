//! qcow2 images: what is read of one, whether it can be a base, and how a blank overlay on one is laid out.
//!
//! Images that may be published (`mkimg-torrent`) and installed (`cowvol`) must never differ, so both ask here.

mod format;
mod image;

pub use format::{CLUSTER_BYTES, Header, Layout, blank_overlay, is_qcow2};
pub use image::{Follow, Image, read_header};
