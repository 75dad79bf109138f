//! `abflip flip`: makes another slot boot next, by writing one sector.
//!
//! 1. Check that both tables are valid and agree; heal the backup first where it differs.
//! 2. Write the sector of the backup's entries, and flush.
//! 3. Write the sector of the primary's entries, durably, as one physical block: the commit point.
//!    Flush.
//! 4. Read both tables back past the cache and compare.
//!
//! The new sector has the checksum of the old one ([`crate::neutral`]), so both headers fit both
//! arrays at every instant.

use std::path::Path;

use jsonpipe::{Common, Exit, Pipe, sabotaged, signals};

use crate::disk::Access;
use crate::ended::{Ended, Written};
use crate::gpt::{FOREIGN_MBR, Mbr, Tables};
use crate::loader::{self, Loader};
use crate::machine::{self, Machine};
use crate::neutral::{self, NO_ROOM, NoRoom};
use crate::record::Records;
use crate::report::State;
use crate::request::{Firmware, Slot};
use crate::slots::{Marked, Places};
use crate::target::Target;
use crate::trial::Active;
use crate::writes::{self, Change, Failure};
use crate::{heal, trial};

/// The flags of `flip`.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The slot that will boot next; by default, the one that is not running.
    pub active: Option<Slot>,
    /// Refuse when the backup differs.
    pub no_repair: bool,
    /// Write nothing.
    pub dry_run: bool,
}

/// Makes a slot boot next. A dry run checks everything and reports the intended changes.
pub fn flip(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: Options,
) -> anyhow::Result<Ended> {
    // From here on, a signal ends the process only when both tables agree again.
    let ending_signals = signals::defer()?;
    let _lock = if options.dry_run {
        None
    } else {
        Some(machine::lock(common)?)
    };
    let mut machine = Machine::open_to_change(common, disk, options.dry_run)?;
    let tables = Tables::read(&machine.disk)?;
    let plan = plan(common, "flip", &machine, &tables, options)?;
    if !machine.disk.past_cache() && !options.dry_run {
        pipe.warn(format_args!(
            "{} cannot be read past the cache; the cache is verified instead",
            machine.disk.path().display()
        ));
    }
    let mut written = Written {
        changed: !plan.changes.is_empty(),
        ..Written::default()
    };
    if !options.dry_run {
        for change in &plan.changes {
            pipe.note(format_args!("writing {}", change.what));
        }
        let before = machine.records.clone();
        let made = end_trial(common, &mut machine, &tables, plan.target).and_then(|was_armed| {
            written.changed |= was_armed;
            let made = make(&machine, &plan);
            made.map_err(|failure| {
                failure.undoing(|| resume_trial(common, &mut machine, &tables, before, was_armed))
            })
        });
        match made {
            Ok(tables) => written.after = Some(tables),
            Err(Failure::Undone(error)) => return Err(error),
            Err(Failure::Stays(error)) => {
                (written.changed, written.failed) = (true, Some(error));
            }
        }
    }
    let ended = Ended::after_writes((&machine, pipe, "flip"), &tables, written, ending_signals)?;
    Ok(match options.dry_run {
        true => ended.foreseen(|slots| slots.next = Some(plan.target)),
        false => ended,
    })
}

/// Ends a trial that the flip would turn into another one: a trial that is armed, or one of the
/// slot that will boot next. This happens before the flip, since a trial armed in an inactive slot
/// stays there, and would start when that slot is active again. Returns whether one was armed.
fn end_trial(
    common: &Common,
    machine: &mut Machine,
    tables: &Tables,
    target: Slot,
) -> Result<bool, Failure> {
    let Some(active) = Active::of(machine, tables) else {
        return Ok(false);
    };
    let disk_guid = active.table.disk_guid();
    let trial = trial::find(machine, tables).map_err(Failure::Undone)?;
    let before = machine.records.clone();
    if let Some(sha256) = trial::committed(machine, &active).map(|tried| tried.image.sha256.clone())
        && let Err(error) = machine.records.accept(common, disk_guid, &sha256)
    {
        return Err(Failure::Undone(error).undoing(|| machine.records.restore(common, before)));
    }
    let Some(trial) = trial else { return Ok(false) };
    let is_armed = trial.state == State::Armed;
    if !is_armed && trial.slot != target {
        return Ok(false);
    }
    let disarmed = match is_armed {
        true => machine
            .records
            .disarm_trial(common, disk_guid)
            .map_err(Failure::Undone),
        false => Ok(()),
    };
    if let Err(failure) = disarmed.and_then(|()| trial::disarm(machine, tables, active.slot)) {
        return Err(failure.undoing(|| machine.records.restore(common, before)));
    }
    match machine.records.end_trial(common, disk_guid) {
        Ok(()) => Ok(is_armed),
        Err(error) => Err(Failure::Undone(error)
            .undoing(|| resume_trial(common, machine, tables, before, is_armed))),
    }
}

/// Undoes [`end_trial`].
fn resume_trial(
    common: &Common,
    machine: &mut Machine,
    tables: &Tables,
    before: Records,
    is_armed: bool,
) -> anyhow::Result<()> {
    if is_armed {
        trial::arm_again(machine, tables)?;
    }
    machine.records.restore(common, before)
}

/// Writes the planned changes, and verifies them.
pub fn make(machine: &Machine, plan: &Plan) -> Result<Tables, Failure> {
    writes::make(&machine.disk, &plan.changes, || {
        verify(machine, plan.target)
    })
}

/// Reads both tables again: they must be valid and agree, and `target` must boot next.
fn verify(machine: &Machine, target: Slot) -> anyhow::Result<Tables> {
    let tables = Tables::read(&machine.disk)?;
    let table = tables.primary.as_ref().ok().filter(|_| tables.agree());
    let marked =
        table.and_then(|table| Some(Places::find(table, &machine.slots).ok()?.marked(table)));
    if marked == Some(Marked::One(target)) {
        return Ok(tables);
    }
    let path = machine.disk.path().display();
    Err(Exit::Io.error(format_args!(
        "verifying {path}: its tables differ from what was written; replace the disk"
    )))
}

/// The changes that make a slot boot next.
#[derive(Debug)]
pub struct Plan {
    /// The slot.
    pub target: Slot,
    /// Empty where it already boots next.
    pub changes: Vec<Change>,
    /// What could not be checked about the loader of the slot that commits.
    pub doubt: Option<anyhow::Error>,
}

/// Plans the flip and makes all its checks before anything is written. Status 78, or 2 where a slot
/// has to be named. `verb` is the action that an error refuses.
pub fn plan(
    common: &Common,
    verb: &str,
    machine: &Machine,
    tables: &Tables,
    options: Options,
) -> anyhow::Result<Plan> {
    let path = machine.disk.path().display();
    let refuse = |why: &str, way_out: &str| {
        Exit::Config.error(format_args!("refusing to {verb} {path}: {why}; {way_out}"))
    };
    let refuse_for =
        |why: String| Exit::Config.error(format_args!("refusing to {verb} {path}: {why}"));
    let repair = "run abflip repair";
    match tables.protective_mbr() {
        Mbr::Protects => {}
        Mbr::Free => return Err(refuse("it has no protective MBR", repair)),
        Mbr::Foreign => return Err(refuse_for(FOREIGN_MBR.into())),
    }
    let primary = tables.primary.as_ref().map_err(|fault| {
        refuse(
            &format!("its primary table is not valid ({fault})"),
            fault.way_out(),
        )
    })?;
    let places = Places::find(primary, &machine.slots)
        .map_err(|fault| refuse(&fault, "correct abflip.ini"))?;
    let next = match places.marked(primary) {
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
    if let Some(conflict) = tables.conflict() {
        return Err(refuse_for(conflict));
    }
    let booted = machine.booted(tables);
    let is_other = !machine.is_running();
    let is_image = is_other && machine.disk.device == 0;
    let target = match (booted, options.active) {
        (Ok(_), Some(active)) => active,
        (Ok(booted), None) => booted.other(),
        (Err(_), Some(active)) if is_image => active,
        // An installer runs from neither slot.
        (Err(_), Some(active)) if is_other => {
            for slot in Slot::ALL {
                let place = primary.place(places.root(slot), tables.sector_bytes);
                Target::open(common, &machine.disk, place, Access::Read)?;
            }
            active
        }
        (Err(why), None) if is_image => {
            return Err(Exit::Usage.error(format_args!(
                "refusing to {verb} {path}: {why}; name the slot with --active"
            )));
        }
        (Err(why), _) => return Err(refuse(&why, "boot one of its slots")),
    };
    let mut changes = Vec::new();
    if !tables.agree() {
        let why = match &tables.backup {
            Err(fault) => format!("its backup table is not valid ({fault})"),
            Ok(_) => "its backup table is not the same as the primary".into(),
        };
        if options.no_repair {
            return Err(refuse(&why, repair));
        }
        changes = heal::backup(machine, tables, primary)
            .map_err(|fault| refuse_for(format!("{why}, and {fault}")))?;
    }
    if next == target {
        return Ok(Plan {
            target,
            changes,
            doubt: None,
        });
    }
    let runs = machine.booted(tables) == Ok(target);
    if !runs
        && machine
            .records
            .of(target, machine.partuuid(target), primary.disk_guid())
            .is_none()
    {
        return Err(refuse(
            &format!("no verified write of slot {target} is recorded"),
            "run abflip write",
        ));
    }
    let mut doubt = None;
    // The slot that runs was started, and a trial by UEFI brings its own loader. A commit needs the
    // check: the trial was started in another way.
    let is_started = match verb {
        "flip" => runs,
        "try" => machine.slots.firmware == Firmware::Uefi,
        _ => false,
    };
    if !is_started {
        match loader::find(common, machine, tables, (primary, &places), target)? {
            Loader::There => {}
            Loader::Missing(why) => return Err(refuse_for(why)),
            // The slot runs, which counts for more than a failed check.
            Loader::Unknown(error) if runs => doubt = Some(error),
            Loader::Unknown(error) => {
                return Err(error.context(format!("refusing to {verb} {path}")));
            }
        }
    }
    if verb != "commit"
        && let Some(why) = loader::order_fault(machine, tables, &places, target)?
    {
        return Err(refuse_for(why));
    }
    let toggles = places.toggles(primary, target, tables.sector_bytes);
    let [(sector, toggles)] = toggles.as_slice() else {
        return Err(refuse(
            "its slots are not in one sector of the table",
            "partition it anew, the slots among the first four",
        ));
    };
    let at = *sector as u64 * tables.sector_bytes;
    let bytes = neutral::toggle(primary.sector(*sector, tables.sector_bytes), toggles).map_err(
        |NoRoom| Exit::Config.error(format_args!("refusing to {verb} {path}: {NO_ROOM}")),
    )?;
    let offset = |entries_lba: u64| entries_lba * tables.sector_bytes + at;
    let backup_entries = match (&tables.backup, changes.first()) {
        (_, Some(healed)) => healed.offset + at,
        (Ok(backup), None) => offset(backup.header.partition_entry_lba),
        (Err(fault), None) => return Err(refuse(&fault.to_string(), repair)),
    };
    changes.push(Change {
        what: "the slots' sector of the backup table",
        offset: backup_entries,
        bytes: bytes.clone(),
    });
    let commit = Change {
        what: "the slots' sector of the primary table",
        offset: offset(primary.header.partition_entry_lba),
        bytes,
    };
    changes.push(commit);
    if sabotaged("skip-backup") {
        changes.remove(changes.len() - 2);
    }
    Ok(Plan {
        target,
        changes,
        doubt,
    })
}
