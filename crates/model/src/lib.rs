//! The model of this machine in its firmware, the properties of each model in models.ini, and the
//! differences between the two.
//!
//! Images are restricted to models, the model determines a guest's devices, and the inventory knows
//! what a model lacks: they all compare this one string, and read this one table.
//!
//! **Admission rule.** Belongs here: the string, models.ini, the types of its values but for the PCI
//! bus (`pci`), the comparison of a machine with its entry, and a new entry made from a machine.
//! Not: the inventory of a machine (`invcollect`), a guest's use of it (`vm-passthrough`), what a
//! difference prevents (`blockers`), and the models of an image (`manifest`).

mod bios;
mod entry;
mod firmware;
mod hardware;
mod listed;
mod memory;
mod models;

pub use bios::Bios;
pub use entry::Entry;
pub use firmware::{PRODUCT_NAME, of_machine};
pub use hardware::{Amount, Difference, Hardware, bios_difference, differences};
pub use listed::Listed;
pub use memory::Memory;
pub use models::{FILE, Model, read, read_all};

/// Whether a text is one line that people can see and compare.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains(jsonpipe::is_hidden)
}
