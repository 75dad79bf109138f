//! `start`, `end`, `refused`: a document becomes a line.

use std::fs::File;
use std::io;

use jsonpipe::json_lines::JsonLines;
use jsonpipe::{Answer, Common, Document, Exit, Pipe, sabotaged};

use crate::input::{Login, Text, addresses, base, need};
use crate::line::{Event, Line, boot_id};
use crate::report::Recorded;
use crate::tail::Tail;
use crate::{PATH, SECTION, unreadable};

/// A session begins.
pub fn start(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let (document, login) = read(pipe)?;
    if !need(login.authenticated, "authenticated")? {
        return Ok(Answer::no(document));
    }
    let line = Line {
        boot_id: boot_id(),
        ..of_session(Event::Start, login, &document)?
    };
    record(common, document, line, dry_run)
}

/// A session has ended.
pub fn end(common: &Common, pipe: &Pipe, how: &str, dry_run: bool) -> anyhow::Result<Answer> {
    let (document, login) = read(pipe)?;
    // The clock may be set during a session, often because of its login: so the duration is no
    // difference of times.
    let ended_at = need(login.ended_at, "ended_at")?;
    let duration_seconds = need(login.duration_seconds, "duration_seconds")?;
    let line = Line {
        ended_at: Some(ended_at.to_string()),
        duration_seconds: Some(duration_seconds),
        ended: Some(how.to_owned()),
        ..of_session(Event::End, login, &document)?
    };
    record(common, document, line, dry_run)
}

/// A login was refused.
pub fn refused(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let (document, login) = read(pipe)?;
    if need(login.authenticated, "authenticated")? {
        return Err(Exit::Data.error("login.authenticated: true; this login was not refused"));
    }
    let line = Line {
        user: login.user.map(|Text(user)| user),
        realm: login.realm.map(|Text(realm)| realm),
        reason: Some(need(login.reason, "reason")?.0),
        at: Some(need(login.started_at, "started_at")?.to_string()),
        ..Line::new(Event::Refused)
    };
    record(common, document, line, dry_run)
}

fn read(pipe: &Pipe) -> anyhow::Result<(Document, Login)> {
    let document = pipe.document("a document with the section login")?;
    let login = document.require("login")?;
    Ok((document, login))
}

/// What the start and the end of a session both say.
fn of_session(event: Event, login: Login, document: &Document) -> anyhow::Result<Line> {
    Ok(Line {
        session: Some(need(login.session, "session")?.0),
        user: Some(need(login.user, "user")?.0),
        realm: Some(need(login.realm, "realm")?.0),
        addresses: Some(addresses(&need(login.links, "links")?)),
        base: base(document)?,
        started_at: Some(need(login.started_at, "started_at")?.to_string()),
        ..Line::new(event)
    })
}

/// The line is on the disk when this returns, and stays whatever becomes of the document. A start
/// and an end are recorded once.
fn record(
    common: &Common,
    mut document: Document,
    line: Line,
    dry_run: bool,
) -> anyhow::Result<Answer> {
    let line = line.on_this_machine(common);
    let mut report = Recorded {
        changed: false,
        event: line.event,
    };
    if !dry_run {
        let mut register = JsonLines::open(common.path(PATH))?;
        if !is_recorded(&line, register.file()).map_err(|error| unreadable(common, error))? {
            register.append(&line.to_text()?)?;
            report.changed = true;
        }
        if !sabotaged("skip-sync") {
            register.sync()?;
        }
    }
    document.set(SECTION, &report)?;
    Ok(Answer::yes(document).staying(report.changed))
}

/// Whether the register has this start or end already. An end that `recover` found is not as good as
/// one that was seen.
fn is_recorded(line: &Line, register: &File) -> io::Result<bool> {
    let Some(session) = &line.session else {
        return Ok(false); // refused: there was none
    };
    let tail = Tail::read(register)?;
    Ok(match line.event {
        Event::Start => tail.started.contains(session),
        _ => tail.ended.get(session) == Some(&true),
    })
}
