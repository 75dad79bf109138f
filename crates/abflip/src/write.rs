//! `abflip write`: writes an image to the slot that neither runs nor boots next.
//!
//! 1. Check the signed manifest, and that the slot can take the image. Nothing is written yet.
//! 2. Remove the slot's record and zero its first MiB: from here on it holds nothing that could be
//!    booted or flipped to.
//! 3. Write the image without its first MiB, and compare its digest with the manifest's.
//! 4. Write the first MiB, read everything back past the cache, and compare again.
//! 5. Set the slot fields to this slot's values, and nothing else.
//! 6. Record the result.
//!
//! In every case the other slot stays untouched, and this one is complete or has no record.

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use jsonpipe::{Answer, Common, Document, Exit, Pipe, sabotaged, timestamp};
use manifest::{Host, Keys, Kind, Signed, SlotField, SlotFieldKind};
use progress::Progress;

use crate::TOOL;
use crate::digest::{self, hex};
use crate::disk::Access;
use crate::gpt::{Place, Tables};
use crate::machine::{self, Machine};
use crate::record::{Masked, Record, Records};
use crate::report::State;
use crate::request::{Slot, Write};
use crate::slots::{Marked, Places};
use crate::source;
use crate::status::{self, Content};
use crate::stream::{self, HEAD_BYTES};
use crate::target::Target;
use crate::trial::{self, Trial};
use crate::writes::Failure;

/// Writes an image and verifies it; a dry run makes all checks that do not need the image.
pub fn write(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: &Write,
) -> anyhow::Result<Answer> {
    let host = manifest(common, options)?;
    manifest::check_model(
        model::of_machine(common),
        &host.models,
        &format!("write {}", host.name),
    )?;
    let _lock = if options.dry_run {
        None
    } else {
        Some(machine::lock(common)?)
    };
    let mut machine = Machine::open(common, disk, Access::Read)?;
    let tables = Tables::read(&machine.disk)?;
    let chosen = choose(&machine, &tables)?;
    check_trial(&machine, &tables)?;
    check_version(&machine.records, &chosen, &host, options)?;
    check_size(&chosen, &host, &machine)?;
    let access = if options.dry_run {
        Access::Read
    } else {
        Access::Write
    };
    let target = Target::open(common, &machine.disk, chosen.place, access)?;
    if !target.past_cache() {
        pipe.warn(format_args!(
            "{} cannot be read past the cache; the cache is verified instead",
            machine.disk.path().display()
        ));
    }

    let changed = !is_there(&machine.records, &chosen, &host, &target)?;
    let mut failed = None;
    if changed && !options.dry_run {
        let source = source::open(&options.from, options.ca_cert.as_deref())?;
        let before = machine.records.clone();
        let removed = if sabotaged("keep-record") {
            Ok(())
        } else {
            machine.records.set(common, chosen.slot, None)
        };
        let removed = removed.map_err(|error| {
            Failure::Undone(error).undoing(|| machine.records.restore(common, before))
        });
        let written = match removed {
            Ok(()) => fill(source, &host, &chosen, &target)
                .and_then(|record| machine.records.set(common, chosen.slot, Some(record))),
            Err(Failure::Undone(error)) => return Err(error),
            Err(Failure::Stays(error)) => Err(error),
        };
        if let Err(error) = written {
            // The written image may look complete, and its record may exist without being durable.
            let cleared = machine
                .records
                .set(common, chosen.slot, None)
                .and_then(|()| target.forget(HEAD_BYTES));
            let now = match cleared {
                Ok(()) => format!("slot {} holds no image now", chosen.slot),
                Err(also) => format!("slot {} cannot be cleared ({also:#})", chosen.slot),
            };
            pipe.warn(format_args!("{error:#}; {now}, write it again"));
            failed = Some(error);
        }
    }
    let mut report = status::report(&machine, &tables, changed, Content::Recorded)?;
    let version = format!("{}.version", chosen.slot);
    if let (Some(error), Some(missing)) = (
        &failed,
        report
            .missing
            .iter_mut()
            .find(|missing| missing.key == version),
    ) {
        missing.reason = format!("{error:#}");
    }
    let mut document = Document::default();
    document.set(TOOL.section, &report)?;
    let answer = if failed.is_some() {
        Answer::no(document)
    } else {
        Answer::yes(document)
    };
    Ok(answer.staying(changed && !options.dry_run))
}

/// The slot to write.
struct Chosen {
    slot: Slot,
    partuuid: uuid::Uuid,
    disk_guid: uuid::Uuid,
    place: Place,
    /// The other slot's partition.
    other: uuid::Uuid,
}

/// The manifest, if one of our keys signed it. Status 66 when a file does not exist, 65 when the
/// signature or the manifest is invalid.
fn manifest(common: &Common, options: &Write) -> anyhow::Result<Host> {
    let keys = Keys::read(&common.config("keys"), Kind::Host)?;
    Signed::read(&options.manifest, options.signature.as_deref())?.verify(&keys)
}

/// The slot that neither runs nor boots next, by a valid table. Status 78 when there is none.
fn choose(machine: &Machine, tables: &Tables) -> anyhow::Result<Chosen> {
    let path = machine.disk.path().display();
    let refuse = |why: &str, way_out: &str| {
        Exit::Config.error(format_args!(
            "refusing to write to {path}: {why}; {way_out}"
        ))
    };
    let table = tables.primary.as_ref().map_err(|fault| {
        refuse(
            &format!("its primary table is not valid ({fault})"),
            fault.way_out(),
        )
    })?;
    if let Some(conflict) = tables.conflict() {
        return Err(Exit::Config.error(format_args!("refusing to write to {path}: {conflict}")));
    }
    let places = Places::find(table, &machine.slots)
        .map_err(|fault| refuse(&fault, "correct abflip.ini"))?;
    let next = match places.marked(table) {
        Marked::One(slot) => slot,
        Marked::None => {
            return Err(refuse(
                "no slot is marked",
                "run abflip repair --active SLOT",
            ));
        }
        Marked::Several => {
            return Err(refuse(
                "more than one partition is marked",
                "run abflip repair --active SLOT",
            ));
        }
    };
    let slot = next.other();
    match machine.booted(tables) {
        Ok(booted) if booted == slot => {
            let why = format!("slot {slot} runs and slot {next} boots next");
            return Err(refuse(
                &why,
                &format!("boot it, or run abflip flip --active {slot}"),
            ));
        }
        Err(why) if machine.is_running() => return Err(refuse(&why, "boot one of its slots")),
        _ => {}
    }
    let index = places.root(slot);
    let place = table.place(index, tables.sector_bytes);
    let (partuuid, other) = (machine.partuuid(slot), machine.partuuid(next));
    Ok(Chosen {
        slot,
        partuuid,
        disk_guid: table.disk_guid(),
        place,
        other,
    })
}

/// Refuses a slot that is armed for the next boot.
fn check_trial(machine: &Machine, tables: &Tables) -> anyhow::Result<()> {
    match trial::find(machine, tables)? {
        Some(Trial { slot, state: State::Armed, .. }) => Err(Exit::Config.error(format_args!(
            "refusing to write to {}: slot {slot} is armed for the next boot; reboot, or run abflip rollback",
            machine.disk.path().display()
        ))),
        _ => Ok(()),
    }
}

/// Refuses an image older than the one that boots next.
fn check_version(
    records: &Records,
    chosen: &Chosen,
    host: &Host,
    options: &Write,
) -> anyhow::Result<()> {
    let other = chosen.slot.other();
    let current = records
        .of(other, chosen.other, chosen.disk_guid)
        .map_or(0, |record| record.version);
    if host.version >= current || options.allow_downgrade {
        return Ok(());
    }
    Err(Exit::Data.error(format_args!(
        "refusing to write version {} of {}: {current} is in slot {other}; to go back, use --allow-downgrade",
        host.version, host.name
    )))
}

fn check_size(chosen: &Chosen, host: &Host, machine: &Machine) -> anyhow::Result<()> {
    let Place {
        number, size_bytes, ..
    } = chosen.place;
    if host.size_bytes <= size_bytes {
        return Ok(());
    }
    let path = machine.disk.path().display();
    Err(Exit::CantCreate.error(format_args!(
        "refusing to write {}: it is {} bytes long, and partition {number} of {path} {size_bytes}",
        host.name, host.size_bytes
    )))
}

/// Whether the slot already holds this image, by reading it.
fn is_there(
    records: &Records,
    chosen: &Chosen,
    host: &Host,
    target: &Target,
) -> anyhow::Result<bool> {
    let Some(record) = records.of(chosen.slot, chosen.partuuid, chosen.disk_guid) else {
        return Ok(false);
    };
    let sha256 = host.sha256.to_string();
    if record.version != host.version
        || record.sha256 != sha256
        || record.size_bytes != host.size_bytes
    {
        return Ok(false);
    }
    for field in &host.slot_fields {
        let found = target.read_few(field.offset_bytes, field.length_bytes)?;
        if value(field.kind, chosen).is_some_and(|value| value != found) {
            return Ok(false);
        }
    }
    let (disk, start) = target.disk();
    Ok(digest::of_slot(
        disk,
        start,
        record,
        format_args!("comparing slot {}", chosen.slot),
    )? == sha256)
}

/// Steps 2 to 5; returns the new record.
fn fill(
    mut source: Box<dyn Read + Send>,
    host: &Host,
    chosen: &Chosen,
    target: &Target,
) -> anyhow::Result<Record> {
    target.forget(HEAD_BYTES)?;
    let slot = chosen.slot;
    let mut progress = Progress::new(TOOL);
    let show = |done| progress.show(format_args!("writing slot {slot}"), done, host.size_bytes);
    let mut copied = stream::copy(&mut *source, target, host.size_bytes, show)?;
    drop(source); // frees its buffers
    drop(progress);
    if copied.sha256 != host.sha256.0 {
        let found = hex(&copied.sha256);
        return Err(Exit::Data.error(format_args!(
            "comparing the image with the manifest: its digest is {found}"
        )));
    }
    let head = target.round_up(0, host.size_bytes.min(HEAD_BYTES) as usize);
    target.write(0, &copied.head.bytes()[..head])?;
    target.flush()?;

    let masked = host.slot_fields.iter().map(|field| {
        let shipped = hex(&target.read_few(field.offset_bytes, field.length_bytes)?);
        Ok(Masked {
            offset_bytes: field.offset_bytes,
            shipped,
        })
    });
    let record = Record {
        disk_guid: chosen.disk_guid,
        partuuid: chosen.partuuid,
        version: host.version,
        sha256: host.sha256.to_string(),
        size_bytes: host.size_bytes,
        masked: masked.collect::<anyhow::Result<_>>()?,
        loader_sha256: None,
        verified_at: timestamp::rfc3339(SystemTime::now()),
    };
    let (disk, start) = target.disk();
    let found = digest::of_slot(disk, start, &record, format_args!("verifying slot {slot}"))?;
    if found != record.sha256 {
        return Err(Exit::Io.error(format_args!(
            "reading slot {slot} back: its digest is {found}; replace the disk"
        )));
    }
    for &SlotField {
        offset_bytes, kind, ..
    } in &host.slot_fields
    {
        if let Some(value) = value(kind, chosen) {
            target.change_few(offset_bytes, &value)?;
        }
    }
    target.flush()?;
    Ok(record)
}

/// The value of a field in a slot, as many bytes as the field has; `None` for a field that is not
/// set here.
///
/// The UUID of the file system is the slot's PARTUUID, which is the same on every machine, and
/// unique among the file systems of one machine.
fn value(kind: SlotFieldKind, chosen: &Chosen) -> Option<Vec<u8>> {
    match kind {
        SlotFieldKind::FilesystemUuid => Some(chosen.partuuid.as_bytes().to_vec()),
        SlotFieldKind::FilesystemLabel => {
            let mut label = format!("root-{}", chosen.slot).into_bytes();
            label.resize(kind.length_bytes() as usize, 0);
            Some(label)
        }
        SlotFieldKind::RootPartuuid => Some(chosen.partuuid.to_string().into_bytes()),
        SlotFieldKind::BootOnce => None,
    }
}
