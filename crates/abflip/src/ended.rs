//! The end of `flip`, `commit` and `rollback`: the section `slots` of what is on the disk then.

use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Document, Pipe};

use crate::gpt::Tables;
use crate::machine::Machine;
use crate::report::Slots;
use crate::status::{self, Content};
use crate::{TOOL, trial};

/// What a run wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// Whether it made a change; in a dry run, would make one.
    pub changed: bool,
    /// The tables, read back after the last write.
    pub after: Option<Tables>,
    /// The step that failed.
    pub failed: Option<anyhow::Error>,
}

/// The end of a run. Signals are deferred as long as this exists.
#[derive(Debug)]
pub struct Ended {
    /// What is on the disk.
    pub report: Slots,
    /// Whether every step succeeded.
    pub done: bool,
    /// Whether a change was made, or may have been made.
    pub stays: bool,
    signals: Deferred,
}

impl Ended {
    /// After writes to the tables, which were `before`. After a failure, standard error reports
    /// what boots next, and how to run `verb` again.
    pub fn after_writes(
        (machine, pipe, verb): (&Machine, &Pipe, &str),
        before: &Tables,
        written: Written,
        signals: Deferred,
    ) -> anyhow::Result<Ended> {
        let Written {
            changed,
            after,
            failed,
        } = written;
        let left = after.or_else(|| {
            failed
                .as_ref()
                .and_then(|_| Tables::read(&machine.disk).ok())
        });
        if let Some(error) = &failed {
            let way_out = trial::way_out(machine, left.as_ref(), verb);
            pipe.warn(format_args!("{error:#}; {way_out}"));
        }
        let tables = left.as_ref().unwrap_or(before);
        Ended::with(machine, tables, changed, failed.is_none(), signals)
    }

    /// With these tables on the disk.
    pub fn with(
        machine: &Machine,
        tables: &Tables,
        changed: bool,
        done: bool,
        signals: Deferred,
    ) -> anyhow::Result<Ended> {
        Ok(Ended {
            report: status::report(machine, tables, changed, Content::Recorded)?,
            done,
            stays: changed || !done,
            signals,
        })
    }

    /// The end of a dry run, which wrote nothing: `foresee` changes the report to what would be
    /// there.
    pub fn foreseen(mut self, foresee: impl FnOnce(&mut Slots)) -> Ended {
        foresee(&mut self.report);
        self.stays = false;
        self
    }

    /// The answer: the section `slots`.
    pub fn answer(self) -> anyhow::Result<Answer> {
        let mut document = Document::default();
        document.set(TOOL.section, &self.report)?;
        let answer = if self.done {
            Answer::yes(document)
        } else {
            Answer::no(document)
        };
        Ok(answer.staying(self.stays).holding(self.signals))
    }
}
