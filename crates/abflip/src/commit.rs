//! `abflip commit` and `abflip rollback`: the two ways to end a trial.

use std::path::Path;

use jsonpipe::{Common, Exit, ExitContext, Pipe, signals};

use crate::ended::{Ended, Written};
use crate::flip;
use crate::gpt::Tables;
use crate::machine::{self, Machine};
use crate::report::State;
use crate::trial::{self, Active, Trial};
use crate::writes::Failure;

/// Flips to the slot that runs on trial, so that it boots next. Does nothing if it already does.
///
/// 1. Write the table's sector: the commit point.
/// 2. Remove the rest of the trial from the boot-once area and the firmware.
/// 3. Remove the record of the trial.
pub fn commit(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    dry_run: bool,
) -> anyhow::Result<Ended> {
    let ending_signals = signals::defer()?;
    let _lock = if dry_run {
        None
    } else {
        Some(machine::lock(common)?)
    };
    let mut machine = Machine::open_to_change(common, disk, dry_run)?;
    let tables = Tables::read(&machine.disk)?;
    let path = machine.disk.path().display().to_string();
    let refuse = |why: &str, way_out: &str| {
        Exit::Config.error(format_args!("refusing to commit {path}: {why}; {way_out}"))
    };
    let booted = machine
        .booted(&tables)
        .map_err(|why| refuse(&why, "boot the slot that is on trial"))?;
    let trial = trial::find(&machine, &tables)?;
    let target = flip::Options {
        active: Some(booted),
        no_repair: false,
        dry_run,
    };
    let plan = flip::plan(common, "commit", &machine, &tables, target)?;
    let active = Active::of(&machine, &tables).exit(
        Exit::Software,
        || "a table that can be flipped says which slot is active",
    )?;
    if let Some(doubt) = &plan.doubt {
        pipe.warn(format_args!(
            "slot {booted} is taken for one that starts again: {doubt:#}"
        ));
    }
    let flips = active.slot != booted;
    let disk_guid = active.table.disk_guid();
    match &trial {
        Some(Trial {
            state: State::Running,
            image,
            ..
        }) if active.image(&machine, booted) == *image => {}
        Some(Trial {
            state: State::Running,
            ..
        }) => {
            return Err(refuse(
                &format!("slot {booted} was written to since its trial began"),
                "run abflip rollback",
            ));
        }
        Some(Trial {
            slot,
            state: State::Armed,
            ..
        }) => {
            return Err(refuse(
                &format!("slot {booted} runs, and slot {slot} is armed"),
                "reboot, or run abflip rollback",
            ));
        }
        Some(Trial { slot, .. }) => {
            return Err(refuse(
                &format!("slot {booted} runs, and slot {slot} was tried and failed"),
                "run abflip rollback",
            ));
        }
        None if flips => {
            let way_out = format!("run abflip flip --active {booted}");
            return Err(refuse(
                &format!("slot {booted} runs, but is not on trial"),
                &way_out,
            ));
        }
        None => {}
    }
    let mut written = Written {
        changed: !plan.changes.is_empty(),
        ..Written::default()
    };
    if !dry_run {
        match flip::make(&machine, &plan) {
            Ok(flipped) => {
                // Both the other slot, which is now inactive, and this one, from which the next
                // trial begins.
                for slot in [booted.other(), booted] {
                    match trial::disarm(&machine, &flipped, slot) {
                        Ok(removed) => written.changed |= removed,
                        Err(Failure::Undone(error) | Failure::Stays(error)) => {
                            written.failed = Some(error);
                        }
                    }
                }
                if let Some(image) = active.image(&machine, booted) {
                    let accepted = machine.records.accept(common, disk_guid, &image.sha256);
                    written.failed = written.failed.or(accepted.err());
                }
                written.after = Some(flipped);
            }
            Err(Failure::Undone(error)) => return Err(error),
            Err(Failure::Stays(error)) => written.failed = Some(error),
        }
    }
    let ended = Ended::after_writes((&machine, pipe, "commit"), &tables, written, ending_signals)?;
    Ok(match dry_run {
        true => ended.foreseen(|slots| {
            (slots.next, slots.trial, slots.trial_state) = (Some(booted), None, None);
        }),
        false => ended,
    })
}

/// Ends a trial in favour of the active slot, which boots next without a flip. The image of a trial
/// that was booted is not tried again.
pub fn rollback(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    dry_run: bool,
) -> anyhow::Result<Ended> {
    let ending_signals = signals::defer()?;
    let _lock = if dry_run {
        None
    } else {
        Some(machine::lock(common)?)
    };
    let mut machine = Machine::open_to_change(common, disk, dry_run)?;
    let tables = Tables::read(&machine.disk)?;
    let path = machine.disk.path().display().to_string();
    let active = Active::of(&machine, &tables).exit(Exit::Config, || {
        format!(
            "refusing to roll back {path}: which slot boots next is not known; run abflip repair"
        )
    })?;
    let (disk_guid, committed) = (
        active.table.disk_guid(),
        trial::committed(&machine, &active).cloned(),
    );
    let active = active.slot;
    let trial = trial::find(&machine, &tables)?;
    let mut changed = trial.is_some();
    let mut failed = None;
    if !dry_run {
        let before = machine.records.clone();
        let recorded = match &trial {
            Some(Trial {
                state: State::Armed,
                ..
            }) => machine.records.disarm_trial(common, disk_guid),
            _ => Ok(()),
        };
        let disarmed = recorded
            .map_err(Failure::Undone)
            .and_then(|()| trial::disarm(&machine, &tables, active));
        match disarmed
            .map_err(|failure| failure.undoing(|| machine.records.restore(common, before)))
        {
            Ok(removed) => changed |= removed,
            Err(Failure::Undone(error)) => return Err(error),
            Err(Failure::Stays(error)) => failed = Some(error),
        }
        match trial {
            // The slot was never booted, so nothing is known about its image.
            None
            | Some(Trial {
                state: State::Armed,
                ..
            }) if failed.is_some() => {}
            None
            | Some(Trial {
                state: State::Armed,
                ..
            }) => {
                failed = match committed {
                    Some(tried) => machine
                        .records
                        .accept(common, disk_guid, &tried.image.sha256)
                        .err(),
                    None => machine.records.end_trial(common, disk_guid).err(),
                }
            }
            Some(Trial { image, .. }) => {
                let image = image.exit(Exit::Software, || "a trial that was booted is recorded")?;
                pipe.note(format_args!(
                    "slot {active} boots next; version {} is not tried again",
                    image.version
                ));
                failed = machine
                    .records
                    .reject(common, disk_guid, image)
                    .err()
                    .or(failed);
            }
        }
    }
    if let Some(error) = &failed {
        pipe.warn(format_args!("{error:#}; run abflip rollback again"));
    }
    let ended = Ended::with(&machine, &tables, changed, failed.is_none(), ending_signals)?;
    Ok(match dry_run {
        true => ended.foreseen(|slots| (slots.trial, slots.trial_state) = (None, None)),
        false => ended,
    })
}
