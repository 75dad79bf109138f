//! qcow2 images: what is read of one, whether it can be a base, and how a blank overlay on one is
//! laid out.
//!
//! **Admission rule.** Belongs here: what images that may be published (`mkimg-torrent`) and
//! installed (`cowvol`) must agree on, so that both ask here. Not: where an image lies, its
//! digests, and when a file is made or removed.

mod format;
mod image;

pub use format::{CLUSTER_BYTES, Header, Layout, blank_overlay, is_qcow2};
pub use image::{Follow, Image, read_header};
