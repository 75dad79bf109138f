//! `--log`: records a run of a tool as a line in the event log, however it ended.
//!
//! A killed process can write nothing. So a child does the work, and this process waits: it
//! receives from the child the moment when the document had come in, the report and the error
//! messages, sees the child's end, writes the line, and ends in the same way. It holds standard
//! output open until then, so that the next stage of a pipe begins after the line is written. It
//! never reads standard input: a password is only in the child.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process;
use std::sync::{Mutex, OnceLock};
use std::time::{Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getppid};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::event_log;
use crate::exit::{Exit, ExitContext};
use crate::process::{Common, complain};
use crate::signals::{self, Deferred};
use crate::timestamp::rfc3339;

/// The maximum length of the kept end of the messages: a daemon may write many.
const ERROR_MAX_BYTES: usize = 16 << 10;

/// The maximum length of a section in the line; a longer one is left out.
const REPORT_MAX_BYTES: usize = 16 << 10;

/// The child's pipe to the parent; not set in a process without one.
static PARENT: OnceLock<Mutex<PipeWriter>> = OnceLock::new();

/// A message of the child: one byte for the kind, the length of the text in four, the text.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Word {
    /// The document has come in: the time starts.
    Document = b'd',
    /// The written section, as JSON.
    Report = b'r',
    /// A line on standard error.
    Complaint = b'c',
}

/// The line.
#[derive(Serialize)]
struct Event<'a> {
    at: String,
    event: &'static str,
    tool: &'a str,
    command: &'a str,
    status: i32,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

/// Splits this process. Returns `None` in the child, which does the work; in the parent the exit
/// status, once the child has ended and the line is written. No thread may run yet.
pub(crate) fn watch(common: &Common, tool: &str, command: &str) -> anyhow::Result<Option<u8>> {
    let (mut reader, writer) =
        io::pipe().exit(Exit::Software, || "making a pipe for the event log")?;
    let ending = signals::defer()?;
    let parent = Pid::this();
    // If the caller ignores the ends of its children, so would this process, and never see how its
    // child ended.
    fork::heed_ends().exit(
        Exit::Software,
        || "waiting for the process that does the work",
    )?;
    let Some(child) = fork::fork().exit(
        Exit::TemporaryFailure,
        || "starting a process for the event log",
    )?
    else {
        // A kill of the parent is meant for this process. The parent may be dead already.
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
        if getppid() != parent {
            process::exit(128 + Signal::SIGTERM as i32);
        }
        let _ = PARENT.set(Mutex::new(writer)); // it was not set before
        drop(ending);
        return Ok(None);
    };
    drop(writer);
    let told = Told::until_the_end(&mut reader, child, &ending);
    let ended = loop {
        match waitpid(child, None) {
            Err(nix::Error::EINTR) => {}
            ended => {
                break ended.exit(
                    Exit::Software,
                    || "waiting for the process that does the work",
                )?;
            }
        }
    };
    let seconds = (told.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let (status, signal) = match ended {
        WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, Some(signal)),
        WaitStatus::Exited(_, status) => (status, None),
        _ => (Exit::Software as i32, None), // stops are not reported here
    };
    let error = String::from_utf8_lossy(&told.error);
    let event = Event {
        at: rfc3339(SystemTime::now()),
        event: "stage",
        tool,
        command,
        status,
        seconds,
        report: told
            .report
            .filter(|section| is_for_the_log(section, status))
            .and_then(|report| RawValue::from_string(report).ok()),
        error: error.trim_end(),
    };
    let written = serde_json::to_string(&event).map_err(anyhow::Error::from);
    let written = written.and_then(|line| event_log::open(common)?.append(&(line + "\n")));
    if let Err(error) = &written {
        complain(tool, format_args!("{error:#}"));
    }
    if let Some(signal @ (Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP)) = signal {
        let _ = raise(signal);
        drop(ending); // the signal also ends this process
    }
    let status = if status == 0 && written.is_err() {
        Exit::CantCreate as i32
    } else {
        status
    };
    Ok(Some(u8::try_from(status).unwrap_or(Exit::Software as u8)))
}

/// In the child: the document has come in.
pub(crate) fn document_is_in() {
    tell(Word::Document, "");
}

/// In the child: this section was written and delivered.
pub(crate) fn report(section: &str) {
    tell(Word::Report, section);
}

/// The log records changes and failures. A list, such as that of every user's disks, is for its
/// reader alone.
fn is_for_the_log(section: &str, status: i32) -> bool {
    let is_change =
        || serde_json::from_str::<Value>(section).is_ok_and(|section| section["changed"] == true);
    section.len() <= REPORT_MAX_BYTES && (status != 0 || is_change())
}

/// In the child: this line went to standard error.
pub(crate) fn complaint(line: &str) {
    tell(Word::Complaint, line);
}

fn tell(word: Word, text: &str) {
    let Some(parent) = PARENT.get() else { return };
    let mut message = vec![word as u8];
    message.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
    message.extend_from_slice(text.as_bytes());
    let mut parent = parent.lock().unwrap_or_else(|broken| broken.into_inner());
    let _ = parent.write_all(&message); // without a parent there is no line
}

/// The messages of the child.
struct Told {
    began: Instant,
    report: Option<String>,
    error: Vec<u8>,
    /// The beginning of an incomplete message.
    rest: Vec<u8>,
}

impl Told {
    /// Reads until the child has ended, and passes signals on to it.
    fn until_the_end(reader: &mut PipeReader, child: Pid, ending: &Deferred) -> Told {
        let mut told = Told {
            began: Instant::now(),
            report: None,
            error: Vec::new(),
            rest: Vec::new(),
        };
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut ready = [
                PollFd::new(reader.as_fd(), PollFlags::POLLIN),
                PollFd::new(ending.as_fd(), PollFlags::POLLIN),
            ];
            let polled = poll(&mut ready, PollTimeout::NONE);
            let [from_child, from_outside] = ready.map(|ready| ready.any().unwrap_or(false));
            if polled.is_ok()
                && from_outside
                && let Some(signal) = ending.consume()
            {
                let _ = kill(child, signal); // it may have received the same one and ended
            }
            if polled.is_ok() && from_child {
                match reader.read(&mut buffer) {
                    Ok(0) => return told,
                    Ok(length) => told.hear(&buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return told,
                }
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some((head, rest)) = self.rest.split_first_chunk::<5>() {
            let [word, length @ ..] = *head;
            let length = u32::from_le_bytes(length) as usize;
            let Some(text) = rest.get(..length) else {
                return;
            };
            match word {
                b if b == Word::Document as u8 => self.began = Instant::now(),
                b if b == Word::Report as u8 => self.report = String::from_utf8(text.to_vec()).ok(),
                _ => {
                    self.error.extend_from_slice(text);
                    self.error.push(b'\n');
                    let excess = self.error.len().saturating_sub(ERROR_MAX_BYTES);
                    self.error.drain(..excess);
                }
            }
            self.rest.drain(..head.len() + length);
        }
    }
}

#[expect(unsafe_code, reason = "fork and sigaction have no safe form")]
mod fork {
    use nix::sys::signal::{SigHandler, Signal, signal};

    use super::{ForkResult, Pid};

    /// Makes the kernel keep the end of a child until it is waited for.
    pub(super) fn heed_ends() -> nix::Result<()> {
        // SAFETY: the default disposition runs no code of this process.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(|_| ())
    }

    /// Returns the child in the parent, `None` in the child.
    pub(super) fn fork() -> nix::Result<Option<Pid>> {
        // SAFETY: `jsonpipe::main` calls this before the tool's work, when this process has one
        // thread: no lock is held and no other thread's work is cut off in the child, which may do
        // all that the parent may.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Parent { child } => Ok(Some(child)),
            ForkResult::Child => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_hears_messages_however_they_are_cut() {
        let mut said = Vec::new();
        for (word, text) in [
            (Word::Complaint, "a: b"),
            (Word::Report, r#"{"x":1}"#),
            (Word::Document, ""),
            (Word::Complaint, "é"),
        ] {
            said.push(word as u8);
            said.extend_from_slice(&(text.len() as u32).to_le_bytes());
            said.extend_from_slice(text.as_bytes());
        }
        for size in 1..said.len() {
            let mut told = Told {
                began: Instant::now(),
                report: None,
                error: Vec::new(),
                rest: Vec::new(),
            };
            said.chunks(size).for_each(|chunk| told.hear(chunk));
            assert_eq!(
                (told.report.as_deref(), told.error.as_slice()),
                (Some(r#"{"x":1}"#), "a: b\né\n".as_bytes())
            );
        }
    }

    #[test]
    fn stage_logs_small_sections_of_changes_and_failures() {
        let long = format!(
            r#"{{"changed":true,"x":"{}"}}"#,
            "x".repeat(REPORT_MAX_BYTES)
        );
        for (section, status, is_logged) in [
            (r#"{"schema":1,"changed":true}"#, 0, true),
            (r#"{"schema":1,"changed":false}"#, 0, false),
            (r#"{"schema":1,"changed":false}"#, 1, true),
            (r#"{"schema":1,"bases":[{"changed":true}]}"#, 0, false),
            (&long, 1, false),
        ] {
            assert_eq!(is_for_the_log(section, status), is_logged, "{section}");
        }
    }

    #[test]
    fn stage_keeps_the_end_of_what_is_complained_of() {
        let mut told = Told {
            began: Instant::now(),
            report: None,
            error: Vec::new(),
            rest: Vec::new(),
        };
        for line in ["x".repeat(ERROR_MAX_BYTES), "the last".to_owned()] {
            told.hear(
                &[
                    &[Word::Complaint as u8][..],
                    &(line.len() as u32).to_le_bytes(),
                    line.as_bytes(),
                ]
                .concat(),
            );
        }
        assert!(told.error.len() == ERROR_MAX_BYTES && told.error.ends_with(b"x\nthe last\n"));
    }
}
