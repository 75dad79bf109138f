//! `abflip settle`: decides at boot whether the slot that runs stays.
//!
//! | how it stands | what is done | verdict |
//! |---|---|---|
//! | the trial runs | nothing: its checks decide | check |
//! | the same, with `--healthy` | it commits | stay |
//! | the same, and it cannot commit | it is rolled back | back |
//! | the trial runs, with `--sick` | it is rolled back | back |
//! | the trial failed: the old slot runs again | it is rolled back, so the image is rejected | stay |
//! | the slot that runs boots next | nothing: it is not on trial; another slot may be about to be | stay |
//! | another slot boots next, and no record says why | a trial whose record this root cannot read: it is rolled back | back |
//! | no slot, or more than one, is marked to boot next | nothing: a reboot may start none | status 78 |
//! | anything else, with a trial on record or records that cannot be read | it may be this slot's trial: it is rolled back | unsure |
//! | anything else | nothing | the status of `abflip status` |
//!
//! With the verdicts back and unsure, a rollback that fails changes neither of them: the other slot
//! boots next in any case.

use std::path::Path;

use jsonpipe::{Answer, Common, Document, Exit, Pipe};

use crate::commit;
use crate::disk::Access;
use crate::gpt::Tables;
use crate::machine::Machine;
use crate::record::Records;
use crate::report::{Settlement, State, Verdict};
use crate::request::Settle;
use crate::status::{self, Content};

const SECTION: &str = "settlement";

/// The state of the slot that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// On trial.
    Running,
    /// The trial of the other slot failed, and this one is active again.
    Failed,
    /// It boots next.
    Settled,
    /// The other slot boots next.
    Elsewhere,
    /// The next slot is not known.
    Lost,
}

/// Decides, and commits or rolls back; the caller reboots.
pub fn settle(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: &Settle,
) -> anyhow::Result<Answer> {
    let stands = match look(common, disk) {
        Ok(stands) => stands,
        // An unreadable record may describe a trial.
        Err(error) if Records::read(common).is_ok_and(|records| !records.has_trial()) => {
            return Err(error);
        }
        Err(error) => {
            let reason =
                format!("this slot may be on trial, but its state is not known: {error:#}");
            return give_back(common, pipe, disk, options, Verdict::Unsure, reason);
        }
    };
    match stands {
        Stands::Settled => answer(false, Verdict::Stay, None),
        Stands::Lost => Err(lost()),
        Stands::Elsewhere => {
            let reason = "this slot runs, but the other one boots next".to_owned();
            give_back(common, pipe, disk, options, Verdict::Back, reason)
        }
        Stands::Failed => {
            let ended = commit::rollback(common, pipe, disk, options.dry_run)?;
            let settled = answer(
                true,
                Verdict::Stay,
                Some("the trial of the other slot failed".into()),
            )?;
            Ok(if ended.done {
                settled
            } else {
                settled.but_no()
            }
            .staying(ended.stays)
            .holding(ended))
        }
        Stands::Running if options.sick => give_back(
            common,
            pipe,
            disk,
            options,
            Verdict::Back,
            "this slot, which is on trial, is not healthy".into(),
        ),
        Stands::Running if options.healthy => keep(common, pipe, disk, options),
        Stands::Running => {
            Ok(answer(false, Verdict::Check, Some("this slot is on trial".into()))?.but_no())
        }
    }
}

fn look(common: &Common, disk: Option<&Path>) -> anyhow::Result<Stands> {
    let machine = Machine::open(common, disk, Access::Read)?;
    let report = status::report(
        &machine,
        &Tables::read(&machine.disk)?,
        false,
        Content::Recorded,
    )?;
    Ok(match (report.trial_state, report.booted, report.next) {
        (Some(State::Running), _, _) => Stands::Running,
        (Some(State::Failed), _, _) => Stands::Failed,
        (_, _, None) => Stands::Lost,
        (_, Some(booted), Some(next)) if booted == next => Stands::Settled,
        (_, Some(_), Some(_)) => Stands::Elsewhere,
        (_, None, Some(_)) => {
            let missing = report
                .missing
                .iter()
                .find(|missing| missing.key == "booted");
            let why = missing.map_or("", |missing| missing.reason.as_str());
            return Err(Exit::Config.error(format_args!("finding the slot that runs: {why}")));
        }
    })
}

fn lost() -> anyhow::Error {
    Exit::Config.error(
        "settling: which slot boots next is not known, and it may be none; run abflip repair",
    )
}

/// The trial is healthy: it commits.
fn keep(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: &Settle,
) -> anyhow::Result<Answer> {
    let committed = || commit::commit(common, pipe, disk, options.dry_run);
    let reason = || Some("this slot was on trial, and is healthy".to_owned());
    match committed() {
        Ok(ended) if ended.done => {
            return Ok(answer(true, Verdict::Stay, reason())?
                .staying(ended.stays)
                .holding(ended));
        }
        Err(error) if Exit::of(&error) == Exit::TemporaryFailure => return Err(error),
        Ok(_) => {} // the reason was reported
        Err(error) => pipe.warn(format_args!("{error:#}")),
    }
    // The commit is one write; a later step may have failed.
    match look(common, disk) {
        Ok(Stands::Settled) => {}
        Ok(Stands::Lost) => return Err(lost()),
        _ => {
            return give_back(
                common,
                pipe,
                disk,
                options,
                Verdict::Back,
                "this slot cannot commit".into(),
            );
        }
    }
    let cleared = committed();
    if cleared.as_ref().is_ok_and(|ended| ended.done) {
        return Ok(answer(true, Verdict::Stay, reason())?.staying(true));
    }
    if let Err(error) = cleared {
        pipe.warn(format_args!("{error:#}"));
    }
    let left =
        "this slot has committed, but the rest of its trial is still there; run abflip commit";
    pipe.warn(left);
    Ok(answer(true, Verdict::Stay, Some(left.into()))?
        .but_no()
        .staying(true))
}

/// Rolls back, so that the other slot runs next. A failed rollback does not change that: the other
/// slot boots next anyway.
fn give_back(
    common: &Common,
    pipe: &Pipe,
    disk: Option<&Path>,
    options: &Settle,
    verdict: Verdict,
    reason: String,
) -> anyhow::Result<Answer> {
    pipe.warn(&reason);
    let ended = commit::rollback(common, pipe, disk, options.dry_run);
    if let Err(error) = &ended {
        pipe.warn(format_args!("{error:#}"));
    }
    let ended = ended.ok();
    let stays = ended.as_ref().is_some_and(|ended| ended.stays);
    Ok(answer(stays, verdict, Some(reason))?
        .but_no()
        .staying(stays)
        .holding(ended))
}

fn answer(changed: bool, verdict: Verdict, reason: Option<String>) -> anyhow::Result<Answer> {
    let mut document = Document::default();
    document.set(
        SECTION,
        &Settlement {
            changed,
            verdict,
            reason,
        },
    )?;
    Ok(Answer::yes(document))
}
