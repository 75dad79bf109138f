//! The life of a tool's process: arguments, standard input, the answer on standard output, errors
//! on standard error.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::document::Document;
use crate::exit::{Exit, ExitContext};
use crate::shown::{is_hidden, shown};
use crate::{stage, stdout};

/// Far above any real document; a longer input is an attack or an accident.
const DOCUMENT_MAX_BYTES: u64 = 16 << 20;

/// The name of a tool and its section.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's name, which starts every line on standard error.
    pub name: &'static str,
    /// The section that it owns.
    pub section: &'static str,
}

/// The flags of every tool. Help lists them after a subcommand's own; without the order it would
/// mix the two.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Report each step on standard error
    #[arg(short, long, global = true, display_order = 900)]
    pub verbose: bool,
    /// Add a line about this run to the event log
    #[arg(long, global = true, display_order = 900)]
    pub log: bool,
    /// Use DIR as the root directory
    #[arg(
        long,
        global = true,
        display_order = 900,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true
    )]
    pub root: PathBuf,
    /// Read configuration from DIR instead of /etc/labtools
    #[arg(long, global = true, display_order = 900, value_name = "DIR")]
    pub config: Option<PathBuf>,
}

impl Common {
    /// The place of `path`, absolute on the machine, below the root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The path of the configuration file `name`.
    pub fn config(&self, name: impl AsRef<Path>) -> PathBuf {
        match &self.config {
            Some(directory) => directory.join(name),
            None => self.path("/etc/labtools").join(name),
        }
    }
}

/// Standard input, and messages on standard error.
#[derive(Clone, Debug)]
pub struct Pipe {
    tool: Tool,
    verbose: bool,
}

impl Pipe {
    /// The same for a subcommand that owns `section` instead of the tool's: a secret of the tool's
    /// is not its own, and refused.
    pub fn owning(&self, section: &'static str) -> Pipe {
        Pipe {
            tool: Tool {
                section,
                ..self.tool
            },
            ..*self
        }
    }

    /// Reads the document from standard input.
    ///
    /// `expected` describes the document to a person at a terminal, e.g. `a document with the
    /// section volume`. Status 2 at a terminal, 65 without a valid document, 74 when reading fails.
    pub fn document(&self, expected: &str) -> anyhow::Result<Document> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Exit::Usage.error(format_args!(
                "standard input is a terminal; give {expected}, see --help"
            )));
        }
        // Not with `Stdin`, whose buffer would keep a password.
        let bytes = stdin
            .as_fd()
            .try_clone_to_owned()
            .and_then(|fd| read_wiped(File::from(fd).take(DOCUMENT_MAX_BYTES + 1)));
        let bytes = bytes.exit(Exit::Io, || "reading standard input")?;
        if bytes.len() as u64 > DOCUMENT_MAX_BYTES {
            return Err(Exit::Data.error("reading the document: larger than 16 MiB"));
        }
        let text = str::from_utf8(&bytes)
            .map_err(|_| Exit::Data.error("reading the document: not UTF-8"))?;
        stage::document_is_in();
        Document::parse(text, self.tool.section)
    }

    /// Writes an event of a stream at once, for readers that follow the work; only for a subcommand
    /// whose page documents that output.
    pub fn event(&self, event: &impl Serialize) -> io::Result<()> {
        print(&(serde_json::to_string(event)? + "\n"))
    }

    /// Prints a message on standard error, if `-v` was given.
    pub fn note(&self, text: impl fmt::Display) {
        if self.verbose {
            complain(self.tool.name, text);
        }
    }

    /// Prints a warning on standard error; the work continues.
    pub fn warn(&self, text: impl fmt::Display) {
        complain(self.tool.name, text);
    }
}

/// The result of a tool: the document, or a stream of events, and yes (0) or no (1).
pub struct Answer {
    said: Said,
    exit: Exit,
    undo: Option<Box<dyn FnOnce()>>,
    /// Whether a change persists even if the document cannot be delivered.
    stays: bool,
    /// Dropped after the document was delivered: deferred signals, locks.
    held: Vec<Box<dyn Any>>,
}

/// The content of standard output.
enum Said {
    Document(Document),
    /// JSON Lines, each with its newline.
    Lines(String),
}

impl Answer {
    /// Done, or already done.
    pub fn yes(document: Document) -> Answer {
        Answer::new(Said::Document(document))
    }

    /// Done, with events: JSON Lines, for a subcommand whose page documents them, each with its
    /// newline. There may be none.
    pub fn events(lines: String) -> Answer {
        Answer::new(Said::Lines(lines))
    }

    /// The end of a stream of events whose reader went away, which only the status tells.
    pub fn undelivered() -> Answer {
        Answer {
            exit: Exit::Io,
            ..Answer::events(String::new())
        }
    }

    fn new(said: Said) -> Answer {
        Answer {
            said,
            exit: Exit::Done,
            undo: None,
            stays: false,
            held: Vec::new(),
        }
    }

    /// The answer is no; the document gives the reason.
    pub fn no(document: Document) -> Answer {
        Answer::yes(document).but_no()
    }

    /// Changes the answer to no.
    pub fn but_no(self) -> Answer {
        Answer {
            exit: Exit::No,
            ..self
        }
    }

    /// For an effect that only this document records: how to undo it when the document cannot be
    /// delivered.
    pub fn or_undo(self, undo: impl FnOnce() + 'static) -> Answer {
        Answer {
            undo: Some(Box::new(undo)),
            ..self
        }
    }

    /// For an effect that later calls also report: it stays when the document cannot be delivered,
    /// and the status is then 1, because 74 would mean that nothing was changed.
    pub fn staying(self, changed: bool) -> Answer {
        Answer {
            stays: changed,
            ..self
        }
    }

    /// Keeps a guard until the document is delivered or the effect undone.
    pub fn holding(mut self, guard: impl Any) -> Answer {
        self.held.push(Box::new(guard));
        self
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("exit", &self.exit)
            .finish_non_exhaustive()
    }
}

/// The `main` of every tool: parses the arguments, runs the work, prints the document, and ends
/// with the right status.
///
/// With `--log` a child of this process does the work, and its end is recorded as a line in the
/// event log.
///
/// A panic is status 70 and prints only its place, because its message could contain a secret. Core
/// dumps are disabled for the same reason.
pub fn main<A: clap::Parser + AsRef<Common>>(
    tool: Tool,
    run: impl FnOnce(A, &Pipe) -> anyhow::Result<Answer>,
) -> ExitCode {
    panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        complain(
            tool.name,
            format_args!("internal fault at {place}; nothing more is known, please report it"),
        );
    }));
    let exit = panic::catch_unwind(AssertUnwindSafe(|| -> u8 {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0); // lowering one's own limit cannot fail
        let (arguments, called) = match parse::<A>() {
            Ok(parsed) => parsed,
            Err(exit) => return exit as u8,
        };
        if arguments.as_ref().log && !called.is_dry_run {
            match stage::watch(arguments.as_ref(), tool.name, &called.command) {
                Ok(None) => {} // the child
                Ok(Some(status)) => return status,
                Err(error) => return failed(tool, &error) as u8,
            }
        }
        let pipe = Pipe {
            tool,
            verbose: arguments.as_ref().verbose,
        };
        // Only a real panic shows that a panic is status 70 in every tool.
        #[cfg(debug_assertions)]
        assert!(
            std::env::var_os("LABTOOLS_TEST_PANIC").is_none(),
            "asked for by the test"
        );
        match run(arguments, &pipe).and_then(deliver) {
            Ok(exit) => exit as u8,
            Err(error) => failed(tool, &error) as u8,
        }
    }));
    ExitCode::from(exit.unwrap_or(Exit::Software as u8))
}

fn failed(tool: Tool, error: &anyhow::Error) -> Exit {
    complain(tool.name, format_args!("{error:#}"));
    Exit::of(error)
}

/// Prints the document; undoes the effect when that fails.
fn deliver(answer: Answer) -> anyhow::Result<Exit> {
    let written = match &answer.said {
        Said::Document(document) => print(&format!("{document}\n")),
        Said::Lines(lines) => print(lines),
    };
    if written.is_err()
        && let Some(undo) = answer.undo
    {
        undo();
    }
    if (written.is_ok() || answer.stays)
        && let Said::Document(document) = &answer.said
        && let Some(report) = document.written()
    {
        stage::report(report);
    }
    drop(answer.held); // a deferred signal ends this process here
    let undelivered = if answer.stays { Exit::No } else { Exit::Io };
    match written {
        Ok(()) => Ok(answer.exit),
        // The reader has left or never existed, and knows that: only the status reports it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(undelivered),
        Err(error) => Err(error).exit(undelivered, || match answer.stays {
            true => "the change is made and stays; writing the document to standard output",
            false => "writing the document to standard output",
        }),
    }
}

/// Reads to the end; the bytes are wiped when dropped. `read_to_end` would leave copies behind as
/// its buffer grows.
fn read_wiped(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; 1 << 16]);
    let mut length = 0;
    loop {
        if length == bytes.len() {
            let mut larger = Zeroizing::new(vec![0; 2 * length]);
            larger[..length].copy_from_slice(&bytes);
            bytes = larger;
        }
        match from.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn print(text: &str) -> io::Result<()> {
    if stdout::was_closed() {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // Not with `Stdout`, which ignores a descriptor that cannot be written (`tool 1< file`).
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    stdout.write_all(text.as_bytes())
}

/// Prints one line, whatever the text contains: file names, words of servers and devices, keys of
/// documents.
pub(crate) fn complain(name: &str, text: impl fmt::Display) {
    let line = format!("{name}: {}", shown(&text.to_string()));
    let _ = writeln!(io::stderr(), "{line}"); // there is no other output
    stage::complaint(&line);
}

/// The part of the command line that is common to all tools.
struct Called {
    /// The subcommand, with those below it.
    command: String,
    is_dry_run: bool,
}

/// The parsed command line, or the status that ends the process. The parser repeats a wrong
/// argument as it was given.
fn parse<A: clap::Parser>() -> Result<(A, Called), Exit> {
    let mut command = A::command();
    let parsed = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|matches| {
            let (mut names, mut innermost) = (Vec::new(), &matches);
            while let Some((name, below)) = innermost.subcommand() {
                names.push(name);
                innermost = below;
            }
            let is_dry_run = matches!(innermost.try_get_one::<bool>("dry_run"), Ok(Some(true)));
            let called = Called {
                command: names.join(" "),
                is_dry_run,
            };
            let arguments =
                A::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
            Ok((arguments, called))
        });
    parsed.map_err(|error| {
        if !error.use_stderr() {
            error.exit(); // help and version, on standard output
        }
        let mut text = error.to_string();
        // clap suggests names that look alike, but finds none for short names.
        if error.kind() == clap::error::ErrorKind::InvalidSubcommand && !text.contains("tip: ") {
            let command = A::command();
            let names: Vec<_> = command
                .get_subcommands()
                .map(clap::Command::get_name)
                .collect();
            text = text.replacen(
                "\n\n",
                &format!("\n\n  tip: the subcommands are {}\n\n", names.join(", ")),
                1,
            );
        }
        let text = text.replace(|c| is_hidden(c) && c != '\n', "\u{fffd}");
        let _ = io::stderr().write_all(text.as_bytes());
        Exit::Usage
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_whatever_its_length() {
        let text: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        for length in [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 300_000] {
            assert!(
                *read_wiped(&text[..length]).unwrap() == text[..length],
                "{length}"
            );
        }
    }
}
