//! Makes the origin of a generation from its published image.
//!
//! It is filled and compared under a name that offers it to nobody, and gets its snapshot; its rename
//! completes it. What an interrupted run leaves, the next one removes.

use images::bases::Entry;
use jsonpipe::signals::Deferred;
use jsonpipe::{Exit, sabotaged};

use super::origin::{self, Origin};
use super::program::zfs;
use super::{Zfs, node, properties, qemu_img};
use crate::backend::{GenerationId, Published};

/// The property with the SHA-256 of the published image, after the prefix.
const SHA256: &str = "sha256";

/// The largest block of a base's volume, as a power of two: 16 KiB, the default of OpenZFS since 2.2,
/// for every version. Smaller ones take more room for their tables, and larger ones are copied whole
/// for a guest's small write.
const BLOCK_BITS_MAX: u32 = 14;

/// Makes it, unless it is there; whether it did.
pub fn make(of: &Zfs, image: &Published<'_>, ending_signals: &Deferred) -> anyhow::Result<bool> {
    let id = generation_of(image.base);
    if let Some(origin) = origin::all(of)?.into_iter().find(|origin| origin.id == id) {
        check_is_of(of, &origin, image)?;
        return Ok(false);
    }
    let half_made = of.names.half_made(&id);
    if origin::half_made(of)?.iter().any(|left| left.id == id) {
        of.destroy(&half_made)?;
    }
    create(of, &half_made, image)?;
    let make = || -> anyhow::Result<()> {
        if sabotaged("snapshot-first") {
            complete(of, &half_made, &id)?;
            return fill(of, &of.names.generation(&id), image, ending_signals);
        }
        fill(of, &half_made, image, ending_signals)?;
        image.check_still_there()?; // qemu-img opens it by its name, and may have found another file
        complete(of, &half_made, &id)
    };
    make().inspect_err(|_| {
        let _ = of.destroy(&half_made); // the caller reports the original error
    })?;
    Ok(true)
}

/// Gives the current generation of each base its plain name and its labels.
pub fn name(of: &Zfs, bases: &[Entry]) -> anyhow::Result<()> {
    for entry in bases {
        let id = generation_of(entry);
        let origins = origin::all(of)?;
        let Some(current) = origins.iter().find(|origin| origin.id == id) else {
            continue;
        };
        let plain = of.names.base(&entry.name);
        if current.dataset != plain {
            if let Some(old) = origins.iter().find(|origin| origin.dataset == plain) {
                of.rename(&plain, &of.names.generation(&old.id))?;
            }
            of.rename(&current.dataset, &plain)?;
        }
        label(of, &plain, entry)?;
    }
    Ok(())
}

fn generation_of(base: &Entry) -> GenerationId {
    GenerationId {
        base: base.name.clone(),
        generation: base.generation,
    }
}

/// Refuses (65) an origin that was made from another image of the same name and number.
fn check_is_of(of: &Zfs, origin: &Origin, image: &Published<'_>) -> anyhow::Result<()> {
    let sha256 = of.label(SHA256);
    let found = properties::get(&origin.dataset, &[], &[&sha256])?.unwrap_or_default();
    let recorded = found
        .get(&origin.dataset)
        .and_then(|found| found.local(&sha256));
    if recorded == Some(&image.sha256) && origin.virtual_bytes == image.virtual_bytes {
        return Ok(());
    }
    Err(Exit::Data.error(format_args!(
        "{}: it was made from another image than {}; give the image another generation, or remove its volumes and zfs destroy -r {}",
        origin.snapshot,
        image.path.display(),
        origin.dataset
    )))
}

/// Makes an empty volume, which takes no room.
fn create(of: &Zfs, dataset: &str, image: &Published<'_>) -> anyhow::Result<()> {
    let size = image.virtual_bytes.to_string();
    // A volume is a whole number of blocks, and the disk has to keep its size.
    let block = (1_u64 << image.virtual_bytes.trailing_zeros().min(BLOCK_BITS_MAX)).to_string();
    let digest = format!("{}={}", of.label(SHA256), image.sha256);
    let arguments = [
        "create", "-s", "-b", &block, "-V", &size, "-o", &digest, dataset,
    ];
    of.with_room(format_args!("making {dataset}"), || zfs(&arguments))
}

/// Converts the image, and compares the result with it.
fn fill(
    of: &Zfs,
    dataset: &str,
    image: &Published<'_>,
    ending_signals: &Deferred,
) -> anyhow::Result<()> {
    node::wait(&of.common, dataset)?;
    let node = of.common.path(node::path_of(dataset));
    qemu_img::convert(image.path, &node, image.virtual_bytes, ending_signals)?;
    qemu_img::compare(image.path, &node, image.virtual_bytes, ending_signals)
}

/// Offers a volume as a generation; each call is on the disk when it returns.
fn complete(of: &Zfs, half_made: &str, id: &GenerationId) -> anyhow::Result<()> {
    origin::take(of, half_made, id)?;
    if !sabotaged("snapshot-first") {
        of.set(half_made, "readonly=on")?;
    }
    of.rename(half_made, &of.names.generation(id))
}

/// Sets the labels that differ.
fn label(of: &Zfs, dataset: &str, entry: &Entry) -> anyhow::Result<()> {
    let labels = of.labels(entry);
    let names = labels.each_ref().map(|(name, _)| name.as_str());
    let found = properties::get(dataset, &[], &names)?.unwrap_or_default();
    for (name, value) in &labels {
        if found.get(dataset).and_then(|found| found.local(name)) != Some(value) {
            of.set(dataset, &format!("{name}={value}"))?;
        }
    }
    Ok(())
}
