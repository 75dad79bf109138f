//! The end of the register: open sessions, and those that have ended lately.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;

use crate::backwards::Backwards;
use crate::line::{Event, Line};

/// How many closed sessions and refused logins in a row are looked at, from the last one back.
///
/// One would do: a machine has one session at a time, and each login begins with a `recover` that
/// succeeded, so nothing in front of a closed session or a refused login is open. The others are
/// for lines that were added by hand, without that. This bounds the part that is read, however long
/// the register is.
const OVER_IN_A_ROW: usize = 16;

/// The sessions at the end of the register.
#[derive(Debug, Default)]
pub struct Tail {
    /// The start lines of sessions without an end, in the order of the register.
    pub open: Vec<Line>,
    /// The sessions that have a start.
    pub started: HashSet<String>,
    /// The sessions that have an end, and whether it was seen.
    pub ended: HashMap<String, bool>,
}

impl Tail {
    /// Reads the file from its end, as far as it takes.
    pub fn read(file: &File) -> io::Result<Tail> {
        let mut tail = Tail::default();
        let mut over_in_a_row = 0;
        for line in Backwards::new(file)? {
            let Some(line) = Line::parse(&line?) else {
                continue; // torn, or of another kind
            };
            if let (Event::Start, Some(session)) = (line.event, &line.session) {
                tail.started.insert(session.clone());
            }
            match (line.event, &line.session) {
                (Event::End, Some(session)) => {
                    *tail.ended.entry(session.clone()).or_default() |= line.ended_at.is_some();
                }
                (Event::Start, Some(session)) if tail.ended.contains_key(session) => {
                    over_in_a_row += 1;
                }
                (Event::Start, Some(_)) => {
                    over_in_a_row = 0;
                    tail.open.push(line);
                }
                (Event::Refused, _) => over_in_a_row += 1,
                _ => {}
            }
            if over_in_a_row == OVER_IN_A_ROW {
                break;
            }
        }
        tail.open.reverse();
        Ok(tail)
    }
}
