//! `logout`: ends the session of this machine, and closes what a session left.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jsonpipe::{Answer, Common, Document, Exit, Pipe, io_error, signals};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use crate::TOOL;
use crate::report::Login;
use crate::session::closing;
use crate::session::lock::Lock;
use crate::session::order::Outcome;
use crate::session::outside;
use crate::session::state::{self, Session};

/// A holder that has not answered by then never will.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// What is left of a killed session is being closed.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(30);

/// Closes the login of this machine. After a crash this finds it all the same.
pub fn logout(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Exit::NoPermission.error("logging out: needs root"));
    }
    let deferred = signals::defer()?;
    if dry_run {
        let session = state::load(common)?;
        return document(session.as_ref(), false).map(Answer::yes);
    }
    if let Some(outcome) = ask_holder(common, pipe)? {
        // It has closed everything, and ends: after us the next login may begin.
        let lock = wait_for_lock(common, &deferred);
        if let Err(why) = &lock {
            pipe.warn(format_args!("{why:#}"));
        }
        if !outcome.error.is_empty() {
            pipe.warn(&outcome.error);
        }
        let Some(login) = &outcome.login else {
            return Err(outcome.into_error());
        };
        let mut document = Document::default();
        document.set(TOOL.section, login)?;
        let is_closed = outcome.status == Exit::Done as u8;
        let answer =
            answer(common, document, is_closed, lock.ok(), outcome.session()).staying(true);
        return Ok(answer.holding(deferred));
    }
    let lock = wait_for_lock(common, &deferred)?;
    let (session, closed) = closing::close_remains(common)?;
    if session.is_none()
        && let Some(why) = closed.unasked
    {
        return Err(why);
    }
    for why in closed.complaints() {
        pipe.warn(format_args!("{why:#}"));
    }
    let document = document(session.as_ref(), closed.changed)?;
    let name = session.and_then(|session| session.session);
    let answer = answer(common, document, closed.is_clean(), Some(lock), name);
    Ok(answer.staying(closed.changed).holding(deferred))
}

/// Whether all is closed. Then the session is forgotten, but only once the document has arrived:
/// the access register has no other source.
fn answer(
    common: &Common,
    document: Document,
    is_closed: bool,
    lock: Option<Lock>,
    session: Option<String>,
) -> Answer {
    if !is_closed {
        return Answer::no(document).holding(lock);
    }
    // Without the lock another login may have begun, and the file be its own.
    let forgetting = lock.map(|lock| Forgetting {
        common: common.clone(),
        session,
        is_delivered: Rc::new(Cell::new(true)),
        _lock: lock,
    });
    let is_delivered = forgetting.as_ref().map(|it| Rc::clone(&it.is_delivered));
    let keep = move || {
        if let Some(is_delivered) = is_delivered {
            is_delivered.set(false);
        }
    };
    Answer::yes(document).or_undo(keep).holding(forgetting)
}

/// Removes the state file when it is dropped, unless the document did not arrive, or the file is of
/// a session that began and ended after the one in the document.
struct Forgetting {
    common: Common,
    session: Option<String>,
    is_delivered: Rc<Cell<bool>>,
    _lock: Lock,
}

impl Drop for Forgetting {
    fn drop(&mut self) {
        if !self.is_delivered.get() || std::thread::panicking() {
            return;
        }
        // A file that cannot be read is of no session.
        let left = state::load(&self.common).ok().flatten();
        if left.is_none_or(|left| left.session == self.session) {
            let _ = state::remove(&self.common); // then the next logout says it once more
        }
    }
}

/// Has the holder end the session; `None` where there is none, or where it dies of it.
fn ask_holder(common: &Common, pipe: &Pipe) -> anyhow::Result<Option<Outcome>> {
    let path = common.path(state::SOCKET);
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(io_error(
                error,
                Exit::of_write,
                format_args!("asking {} for the end", path.display()),
            ));
        }
    };
    let mut answer = Vec::new();
    let asked = stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .and_then(|()| stream.write_all(outside::LOGOUT))
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_to_end(&mut answer));
    if let Some(outcome) = Outcome::parse(&answer) {
        return Ok(Some(outcome));
    }
    // A connection that is still open is to a process that lives: its number is no other's by now.
    // It is 0 for one of another namespace, and to kill that would kill our own process group.
    let is_silent = asked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    if is_silent
        && let Ok(holder) = getsockopt(&stream, PeerCredentials)
        && holder.pid() > 0
    {
        pipe.warn("the holder of the session does not answer, and is killed");
        let _ = kill(Pid::from_raw(holder.pid()), Signal::SIGKILL); // its keeper closes the ports
    }
    Ok(None)
}

/// Waits for a keeper that closes what its holder left.
fn wait_for_lock(common: &Common, deferred: &signals::Deferred) -> anyhow::Result<Lock> {
    let deadline = Instant::now() + CLOSING_TIMEOUT;
    loop {
        match Lock::wait(common, deferred) {
            Err(error)
                if Exit::of(&error) == Exit::TemporaryFailure
                    && Instant::now() < deadline
                    && !deferred.pending() => {}
            lock => return lock,
        }
    }
}

fn document(session: Option<&Session>, changed: bool) -> anyhow::Result<Document> {
    let mut document = Document::default();
    let nobody = || Login {
        changed,
        ..Login::default()
    };
    let login = session.map_or_else(nobody, |session| session.report(changed));
    document.set(TOOL.section, &login)?;
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logout_forgets_only_the_session_in_its_document() {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        let deferred = signals::defer().unwrap();
        for (printed, stays) in [("5c", false), ("of another login", true)] {
            let left = serde_json::json!({
                "schema": state::SCHEMA, "session": "5c", "user": "alice@uni-a.example",
                "realm": "uni-a.example", "status": "ended", "links": [],
                "started_at": "2026-11-20T08:00:00Z", "started_boot_seconds": 0,
            });
            let left: Session = serde_json::from_value(left).unwrap();
            let lock = Lock::wait(&common, &deferred).unwrap();
            state::save(&common, &left).unwrap();
            drop(Forgetting {
                common: common.clone(),
                session: Some(printed.into()),
                is_delivered: Rc::new(Cell::new(true)),
                _lock: lock,
            });
            assert_eq!(state::load(&common).unwrap().is_some(), stays, "{printed}");
        }
    }
}
