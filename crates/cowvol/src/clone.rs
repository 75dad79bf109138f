//! `cowvol clone`: provides the user's volume with its room, and reports its path.

mod cloning;

use images::POOL_LOCK;
use images::bases::{self, Entry};
use jsonpipe::{Answer, Common, Exit, ExitContext, Missing, Pipe, lock, signals, timestamp};

use self::cloning::{Cloning, set_back};
use crate::backend::{Backend, Item, State, VolumeId};
use crate::request::{Choice, Login};
use crate::token::Token;
use crate::{TOOL, base, promise, report, settings};

/// Makes the volume if it does not exist, otherwise reuses it; a dry run only reports what it would
/// do.
pub fn clone<B>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    ephemeral: bool,
    dry_run: bool,
) -> anyhow::Result<Answer>
where
    B: Backend + Clone + 'static,
{
    let mut document = pipe.document("a document with the section login")?;
    let login: Login = document.require("login")?;
    let choice: Choice = document.read("choice")?.unwrap_or_default();
    if !login.authenticated {
        return Ok(Answer::no(document));
    }
    let user = login.user.filter(|user| !user.is_empty());
    let user = user.exit(
        Exit::Data,
        || "login.user: missing or empty, though login.authenticated is true",
    )?;
    let token = Token::of(&user);
    let ephemeral = ephemeral || choice.ephemeral;
    if ephemeral && choice.restore.is_some() {
        return Err(Exit::Data.error("choice.restore: an ephemeral volume has no earlier content"));
    }
    let cloning = |bases: Vec<Entry>| -> anyhow::Result<Cloning<B>> {
        let entry = base::choose(bases.clone(), choice.base.as_deref(), "choice.base")?;
        base::check_model(common, &entry)?;
        Ok(Cloning {
            common,
            backend,
            pipe,
            room: settings::read(common)?.room,
            id: VolumeId {
                is_ephemeral: ephemeral,
                ..VolumeId::of(&token, &entry)
            },
            restore: choice.restore,
            base: backend.open_base(&entry)?,
            entry,
            bases,
        })
    };
    let done = if dry_run {
        // A dry run writes nothing, not even the lock's file.
        bases::steadily(common, |bases| cloning(bases.to_vec())?.would_do())?
    } else {
        // From here on, a signal ends the process when the volume is complete or absent.
        let ending_signals = signals::defer()?;
        // While the volume gets its room, no other login plans with the same, its base must not be
        // removed, nor another generation become current. The lock is released before the rest, in
        // particular before the document is read.
        let _lock = lock::wait(common, POOL_LOCK, &ending_signals)?;
        cloning(bases::read(common)?)?.run()?
    };

    let disk = backend.disk_of(&done.id);
    document.set(
        TOOL.section,
        &report::Volume {
            user: &user,
            token: token.as_str(),
            base: &done.entry.name,
            ostype: &done.entry.ostype,
            generation: done.entry.generation,
            backend: disk.backend,
            format: disk.format,
            path: &disk.path,
            backing_path: disk.backing.as_ref().map(|of| of.path.as_str()),
            backing_format: disk.backing.as_ref().map(|of| of.format),
            virtual_bytes: done.virtual_bytes,
            room_bytes: done.room_bytes,
            reserved: done.reserved,
            held_bytes: done.now.map_or(0, |state| state.held_bytes),
            evicted: &done.evicted,
            replaced: &done.replaced,
            ephemeral,
            restored: done.restored,
            restore_point_at: done.point.as_ref().ok().copied().map(timestamp::rfc3339),
            missing: done
                .point
                .as_ref()
                .err()
                .map(|reason| missing(reason))
                .into_iter()
                .collect(),
            created: done.before.is_none(),
            changed: done.before.is_none() || done.stays(),
        },
    )?;
    // What was removed or changed stays so, whoever hears of it.
    let stays = !dry_run && done.stays();
    let answer = Answer::yes(document).staying(stays);
    let (common, backend) = (common.clone(), backend.clone());
    Ok(match dry_run {
        false => {
            let (promised, before, now) = (done.promised, done.before, done.now);
            answer.or_undo(move || take_back(&common, &backend, &done.id, promised, before, now))
        }
        true => answer,
    })
}

fn missing(reason: &str) -> Missing {
    Missing {
        key: "restore_point_at".into(),
        reason: reason.to_owned(),
    }
}

/// Undoes what was not reported: a volume that was made goes, and another one gives its room back
/// and has its last login again. It stays as it is if another call has handed it out meanwhile, which
/// changes its last login, or if a program has it open.
fn take_back<B: Backend>(
    common: &Common,
    backend: &B,
    id: &VolumeId,
    promised: bool,
    before: Option<State>,
    made: Option<State>,
) {
    let undo = || -> anyhow::Result<()> {
        let signals = signals::defer()?;
        let _lock = lock::wait(common, POOL_LOCK, &signals)?;
        if backend.state(id)? != made {
            return Ok(());
        }
        let Some(held) = backend.hold(&Item::whole(id.clone()))? else {
            return Ok(());
        };
        match before {
            None => drop(backend.remove(held)?),
            Some(before) => set_back(backend, &held, id, before)?,
        }
        // A promise from before belongs to a session that goes on.
        if promised {
            promise::withdraw(common, id)?;
        }
        Ok(())
    };
    let _ = undo(); // the caller reports the original error
}
