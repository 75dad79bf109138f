//! `abflip try`: boots the other slot once; it boots again only after a commit.
//!
//! 1. Check everything that `flip` checks, so that the trial can commit, and everything needed to
//!    arm it.
//! 2. Record the trial as not armed.
//! 3. Arm it, see [`crate::trial`]; the table stays unchanged.
//! 4. Record the trial as armed.

use std::path::Path;

use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, sabotaged, signals};

use crate::TOOL;
use crate::disk::Access;
use crate::flip;
use crate::gpt::Tables;
use crate::machine::{self, Machine};
use crate::record::Image;
use crate::report::State;
use crate::request::Slot;
use crate::status::{self, Content};
use crate::trial::{self, Active, Trial};
use crate::writes::Failure;

/// The flags of `try`.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Try an image again that did not commit.
    pub again: bool,
    /// Write nothing.
    pub dry_run: bool,
}

/// Arms a trial of the inactive slot; a dry run checks everything and reports the intended changes.
pub fn try_once(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: Options,
) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let _lock = if options.dry_run {
        None
    } else {
        Some(machine::lock(common)?)
    };
    let access = if options.dry_run {
        Access::Read
    } else {
        Access::Write
    };
    let mut machine = Machine::open_to_change(common, disk, options.dry_run)?;
    let tables = Tables::read(&machine.disk)?;
    let path = machine.disk.path().display().to_string();
    let refuse = |why: &str, way_out: &str| {
        Exit::Config.error(format_args!("refusing to try {path}: {why}; {way_out}"))
    };

    let found = Active::of(&machine, &tables);
    let other = found.as_ref().map_or(Slot::B, |active| active.slot.other());
    let target = flip::Options {
        active: Some(other),
        no_repair: true,
        dry_run: options.dry_run,
    };
    let plan = flip::plan(common, "try", &machine, &tables, target)?;
    let active = found.exit(
        Exit::Software,
        || "a table that can be flipped says which slot is active",
    )?;
    let image = active.image(&machine, other).exit(
        Exit::Software,
        || "a slot that can be flipped to has a record",
    )?;
    let trial = trial::find(&machine, &tables)?;
    if let Ok(booted) = machine.booted(&tables)
        && booted != active.slot
    {
        return Err(match trial {
            Some(Trial {
                state: State::Running,
                ..
            }) => refuse(
                &format!("slot {booted}, which runs, is itself on trial"),
                "run abflip commit, or abflip rollback and reboot",
            ),
            _ => refuse(
                &format!("slot {booted} runs, and slot {} boots next", active.slot),
                "reboot first",
            ),
        });
    }
    let has_failed = matches!(
        &trial,
        Some(Trial {
            state: State::Failed,
            ..
        })
    ) || machine.records.is_rejected(&image.sha256);
    if has_failed && !options.again {
        let why = format!(
            "version {} in slot {other} was tried and did not commit",
            image.version
        );
        return Err(refuse(&why, "write another one, or use --again"));
    }

    let tried = trial::tried(&active, image.clone(), true);
    let is_armed = matches!(
        &trial,
        Some(Trial {
            state: State::Armed,
            ..
        })
    ) && machine.records.trial(active.table.disk_guid()) == Some(&tried)
        && trial::is_whole(&machine, &active)?;
    let mut failed = None;
    if !is_armed {
        let arming = trial::prepare(common, &machine, &tables, &active, access)?;
        if !options.dry_run {
            let before = machine.records.clone();
            let made = record(common, &mut machine, &active, &trial, image)
                .map_err(Failure::Undone)
                .and_then(|()| {
                    pipe.note(format_args!("arming a trial of slot {other}"));
                    if sabotaged("commit-at-once") {
                        return flip::make(&machine, &plan).map(drop);
                    }
                    trial::arm(common, &mut machine, arming, other)
                });
            match made
                .map_err(|failure| failure.undoing(|| machine.records.restore(common, before)))
            {
                Ok(()) => failed = machine.records.set_trial(common, tried).err(),
                Err(Failure::Undone(error)) => return Err(error),
                Err(Failure::Stays(error)) => failed = Some(error),
            }
        }
    }
    let mut report = status::report(&machine, &tables, !is_armed, Content::Recorded)?;
    if options.dry_run {
        (report.trial, report.trial_state) = (Some(plan.target), Some(State::Armed));
    }
    if let Some(error) = &failed {
        pipe.warn(format_args!("{error:#}; run abflip rollback"));
    }
    let mut document = Document::default();
    document.set(TOOL.section, &report)?;
    let answer = if failed.is_some() {
        Answer::no(document)
    } else {
        Answer::yes(document)
    };
    Ok(answer
        .staying(!is_armed && !options.dry_run)
        .holding(ending_signals))
}

/// Records a trial that is not armed yet, and the result of the one before.
fn record(
    common: &Common,
    machine: &mut Machine,
    active: &Active,
    before: &Option<Trial>,
    image: Image,
) -> anyhow::Result<()> {
    let disk_guid = active.table.disk_guid();
    if let Some(sha256) = trial::committed(machine, active).map(|tried| tried.image.sha256.clone())
    {
        machine.records.accept(common, disk_guid, &sha256)?;
    }
    // A failed trial of this slot whose image has since been overwritten.
    let failed = machine
        .records
        .trial(disk_guid)
        .filter(|tried| before.is_none() && tried.armed && tried.image != image);
    let failed = failed.map(|tried| tried.image.clone());
    machine
        .records
        .set_trial_after(common, failed, trial::tried(active, image, false))
}
