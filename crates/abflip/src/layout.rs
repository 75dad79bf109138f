//! `abflip layout`: partitions the disks of a new machine, and makes its file systems.
//!
//! 1. Read the document, and check it.
//! 2. Find the disks, choose one or two, and place the partitions.
//! 3. Look at what the chosen disks hold. Nothing is written yet.
//! 4. Write the tables; each begins with a header that shows whose the disk is from now on.
//! 5. Make the file systems; then let the kernel read the tables.
//!
//! Cut at any place, the same call does it all again.

mod document;
mod filesystem;
mod found;
mod fstab;
mod part;
mod plan;
mod slots;
mod table;

use std::path::Path;

use jsonpipe::{Answer, Common, Exit, Pipe, signals};
use uuid::Uuid;

use crate::disk::Access;
use crate::machine;
use crate::report::layout::{Disk, Held, Partition, Partitioning};
use crate::request::{Firmware, Layout};
use document::{SECTION, Wanted};
use found::Found;
use part::{Content, Part};
use plan::{Parts, Placed};
use table::Ends;

/// A disk that is used, with its table.
struct Planned<'a> {
    found: &'a Found,
    guid: Uuid,
    held: Held,
    places: Vec<Placed>,
    ends: Ends,
}

/// Prints the fstab or abflip.ini, or makes the layout; a dry run makes all its checks.
pub fn layout(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: &Layout,
) -> anyhow::Result<Answer> {
    let pipe = pipe.owning(SECTION);
    let mut document = pipe.document("layout.ini")?;
    let wanted = Wanted::read(&document)?;
    if options.fstab {
        return Ok(Answer::events(fstab::fstab(&wanted)));
    }
    if options.slots {
        return Ok(Answer::events(slots::slots(&wanted)));
    }
    let (_lock, access) = if options.dry_run {
        (None, Access::Read)
    } else {
        (Some(machine::lock(common)?), Access::Write)
    };
    let disks = match disk {
        Some(path) => vec![found::named(common, path, access)?],
        None => found::all(common, access)?,
    };
    let firmware = if common.path("/sys/firmware/efi").exists() {
        Firmware::Uefi
    } else {
        Firmware::Bios
    };
    let (planned, refusal) = plan(&wanted, firmware, &disks)?;
    let mut report = report(&wanted, firmware, &planned);
    if refusal.is_some() {
        report.reason = refusal;
        document.set(SECTION, &report)?;
        if let Some(reason) = &report.reason {
            pipe.warn(reason);
        }
        return Ok(Answer::no(document));
    }
    report.changed = true;
    if options.dry_run {
        document.set(SECTION, &report)?;
        return Ok(Answer::yes(document));
    }

    let signals = signals::defer()?;
    let made = planned
        .iter()
        .try_for_each(|planned| planned.make(&pipe, &wanted));
    if let Err(error) = &made {
        pipe.warn(format_args!("{error:#}; run it again"));
        report.reason = Some(format!("{error:#}"));
    }
    document.set(SECTION, &report)?;
    let answer = match made {
        Ok(()) => Answer::yes(document),
        Err(_) => Answer::no(document),
    };
    Ok(answer.staying(true).holding(signals))
}

/// Plans the disks, and the reason why one of them is refused. Status 73 when all are too small, 69
/// when a program is missing.
fn plan<'a>(
    wanted: &Wanted,
    firmware: Firmware,
    disks: &'a [Found],
) -> anyhow::Result<(Vec<Planned<'a>>, Option<String>)> {
    let candidates: Vec<_> = disks.iter().map(Found::candidate).collect();
    let chosen =
        plan::choose(wanted, &Parts::of(wanted, firmware), &candidates).map_err(|lacking| {
            let each = disks.iter().zip(lacking);
            let each: Vec<_> = each
                .map(|(found, bytes)| format!("{} is {bytes} bytes too small", found.shown))
                .collect();
            Exit::CantCreate.error(format_args!("placing the partitions: {}", each.join(", ")))
        })?;
    let guids = [
        wanted.partitioning.system_guid,
        wanted.partitioning.user_guid,
    ];
    let (mut planned, mut refusals) = (Vec::new(), Vec::new());
    for (chosen, guid) in chosen.into_iter().zip(guids) {
        let found = &disks[chosen.candidate];
        let geometry = (found.disk.size_bytes, found.sector_bytes());
        let (held, foreign) = found::held(&found.disk, wanted)?;
        if let Some(why) = foreign.filter(|_| !wanted.partitioning.replace) {
            let path = &found.shown;
            refusals.push(format!(
                "refusing to partition {path}: {why}; partitioning.replace=true gives it up"
            ));
        }
        planned.push(Planned {
            found,
            guid,
            held,
            ends: Ends::of(geometry, guid, wanted, &chosen.places, firmware)?,
            places: chosen.places,
        });
    }
    let parts = planned.iter().flat_map(|planned| &planned.places);
    filesystem::require_programs(parts.map(|place| place.part))?;
    let refusal = (!refusals.is_empty()).then(|| refusals.join("; "));
    Ok((planned, refusal))
}

impl Planned<'_> {
    /// Writes the table and the file systems.
    fn make(&self, pipe: &Pipe, wanted: &Wanted) -> anyhow::Result<()> {
        let Found {
            disk, shown, lock, ..
        } = self.found;
        pipe.note(format_args!("writing the table of {shown}"));
        self.ends.write(disk, &self.places)?;
        for place in &self.places {
            let filesystem = wanted.of(place.part).and_then(|wanted| wanted.filesystem);
            if let Some(filesystem) = filesystem {
                let name = place.part.name();
                pipe.note(format_args!("making the file system of partition {name}"));
                let sector_bytes = self.found.sector_bytes();
                filesystem::make(disk.path(), lock, sector_bytes, place, filesystem)?;
            }
        }
        disk.flush()?;
        disk.reread_partitions()?;
        table::verify(disk)
    }
}

/// The plan as it is printed, without a change.
fn report(wanted: &Wanted, firmware: Firmware, planned: &[Planned]) -> Partitioning {
    let disks = planned.iter().map(|planned| Disk {
        path: planned.found.shown.clone(),
        guid: planned.guid,
        size_bytes: planned.found.disk.size_bytes,
        sector_bytes: planned.found.sector_bytes(),
        rotating: planned.found.rotating,
        held: planned.held,
    });
    let partitions = planned.iter().flat_map(|planned| {
        let numbered = (1..).zip(&planned.places);
        numbered.filter_map(|(number, place)| partition(wanted, planned.found, number, place))
    });
    Partitioning {
        changed: false,
        firmware,
        store: wanted.partitioning.store,
        disks: disks.collect(),
        partitions: partitions.collect(),
        reason: None,
    }
}

fn partition(wanted: &Wanted, found: &Found, number: u32, place: &Placed) -> Option<Partition> {
    let wanted = wanted.of(place.part)?;
    let is_image = found.disk.device == 0;
    Some(Partition {
        name: place.part.name(),
        disk: found.shown.clone(),
        number,
        device: (!is_image).then(|| found::partition_name(&found.shown, number)),
        partuuid: wanted.partuuid,
        first_sector: place.start_bytes / found.sector_bytes(),
        size_bytes: place.size_bytes,
        filesystem: wanted.filesystem.map(document::Filesystem::name),
        uuid: wanted.filesystem.map(document::Filesystem::uuid),
        mount_point: mount_point(place.part),
    })
}

fn mount_point(part: Part) -> Option<&'static str> {
    match part.content() {
        Content::Ext4 { mount_point, .. } => Some(mount_point),
        _ => None,
    }
}
