//! `recover`: closes sessions left open by a power cut or a kill.

use jsonpipe::json_lines::JsonLines;
use jsonpipe::{Answer, Common, Document};

use crate::line::{Event, Line, Missing, boot_id};
use crate::report::{Closed, Recovered};
use crate::tail::Tail;
use crate::time::Time;
use crate::{PATH, SECTION, unreadable};

/// The true end of such a session is not known: its line has the latest possible time.
pub fn recover(common: &Common, dry_run: bool) -> anyhow::Result<Answer> {
    let Some(mut register) = JsonLines::open_if_there(common.path(PATH))? else {
        return answer(Vec::new(), false); // no session yet
    };
    let Tail { open, .. } =
        Tail::read(register.file()).map_err(|error| unreadable(common, error))?;
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

/// A session does not outlive its boot.
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
