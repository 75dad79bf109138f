//! `recover`: closes what a power cut or a kill left open.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use jsonpipe::json_lines::JsonLines;
use jsonpipe::{Answer, Common, Document};

use crate::backwards::Backwards;
use crate::line::{Event, Line, Missing, boot_id};
use crate::report::{Closed, Recovered};
use crate::time::Time;
use crate::{PATH, SECTION, unreadable};

/// How many closed sessions in a row are looked at, from the last one back.
///
/// One would do: a machine has one session at a time, and each begins with a `recover` that
/// succeeded, so nothing in front of a closed session is open. The others are for lines that were
/// added by hand, without that. What is read is bounded by this, and by the logins refused between
/// these sessions, however long the register is.
const CLOSED_IN_A_ROW: usize = 16;

/// When a session really ended nobody knows: the line says how long it may have been.
pub fn recover(common: &Common, dry_run: bool) -> anyhow::Result<Answer> {
    let Some(mut register) = JsonLines::open_if_there(common.path(PATH))? else {
        return answer(Vec::new(), false); // nobody was ever here
    };
    let open = open_sessions(register.file()).map_err(|error| unreadable(common, error))?;
    let changes = !open.is_empty() && !dry_run;
    if changes {
        let ends: anyhow::Result<String> = open.iter().map(|start| end(start).to_text()).collect();
        register.append(&ends?)?;
        register.sync()?;
    }
    answer(open, changes)
}

fn answer(open: Vec<Line>, changed: bool) -> anyhow::Result<Answer> {
    let closed = open.into_iter().filter_map(|start| {
        let ended = how_it_ended(&start);
        Some(Closed {
            session: start.session?,
            ended,
        })
    });
    let report = Recovered {
        changed,
        closed: closed.collect(),
    };
    let mut document = Document::default();
    document.set(SECTION, &report)?;
    Ok(Answer::yes(document).staying(changed))
}

/// The start lines of sessions without an end, in the order of the register.
fn open_sessions(file: &File) -> io::Result<Vec<Line>> {
    let (mut ended, mut open) = (HashSet::new(), Vec::new());
    let mut closed_in_a_row = 0;
    for line in Backwards::new(file)? {
        let Some(line) = Line::parse(&line?) else {
            continue; // torn, or of another kind
        };
        match (line.event, &line.session) {
            (Event::End, Some(session)) => {
                ended.insert(session.clone());
            }
            (Event::Start, Some(session)) if ended.contains(session) => {
                closed_in_a_row += 1;
                if closed_in_a_row == CLOSED_IN_A_ROW {
                    break;
                }
            }
            (Event::Start, Some(_)) => {
                closed_in_a_row = 0;
                open.push(line);
            }
            _ => {}
        }
    }
    open.reverse();
    Ok(open)
}

/// What one boot started, another cannot find running.
fn how_it_ended(start: &Line) -> &'static str {
    if start.boot_id.is_some() && start.boot_id == boot_id() {
        "killed"
    } else {
        "power_lost"
    }
}

fn end(start: &Line) -> Line {
    Line {
        event: Event::End,
        boot_id: None,
        ended_before: Some(Time::now().to_string()),
        ended: Some(how_it_ended(start).to_owned()),
        missing: vec![Missing {
            key: "ended_at".into(),
            reason: "nobody was there to see it".into(),
        }],
        ..start.clone()
    }
}
