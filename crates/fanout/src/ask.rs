//! `seedctl ask`: all machines at the same time, and a line for each as it answers.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use std::{env, fs};

use jsonpipe::signals::{self, Deferred};
use jsonpipe::{Common, Exit, ExitContext, Pipe, atomic, io_error};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::job::{Job, Wait};
use crate::report::{Answer, Event, State};
use crate::request::Ask;
use crate::ssh::{Bounds, Ssh};

/// The machines that run COMMAND at the same time without `--at-once`: the handshake of a connection
/// costs processor time, and sending costs bandwidth.
const BEGINNING_MAX: usize = 64;

/// The temporary name of `HOST.json` has 10 bytes more, and a file name at most 255.
const NAME_MAX_BYTES: usize = 240;

/// The open files: three pipes and a process for each of some thousand machines.
const FILES_MAX: u64 = 1 << 16;

/// `seedctl ask`: status 1 when a machine is not done, or its answer could not be saved; 66 when a
/// file to send or the directory does not exist, 69 without ssh.
pub fn ask(common: &Common, pipe: &Pipe, options: &Ask) -> anyhow::Result<jsonpipe::Answer> {
    let job = Rc::new(job(common, options)?);
    check(options)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .exit(Exit::Software, || "asking for the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES_MAX), hard)
        .exit(Exit::Software, || "raising the limit of open files")?;

    let signals = signals::defer()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .exit(Exit::Software, || "starting")?;
    let record = Rc::new(Record {
        pipe: pipe.clone(),
        directory: options.save.clone(),
        kept: RefCell::default(),
        stop: watch::Sender::new(false),
    });
    let all = ask_all(options, job, &record, &signals);
    LocalSet::new().block_on(&runtime, all)?;

    let kept = record.kept.take();
    if signals.pending() {
        return Ok(jsonpipe::Answer::events(String::new()).holding(signals)); // which ends this process
    }
    match kept.undelivered {
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(jsonpipe::Answer::undelivered())
        }
        Some(error) => Err(error).exit(Exit::Io, || "writing to standard output"),
        None if kept.is_no => Ok(jsonpipe::Answer::events(String::new()).but_no()),
        None => Ok(jsonpipe::Answer::events(String::new())),
    }
}

fn job(common: &Common, options: &Ask) -> anyhow::Result<Job> {
    let quiet = options.quiet_seconds.map(Duration::from_secs);
    let bounds = |seconds| Bounds {
        most: Duration::from_secs(seconds),
        quiet,
    };
    let expected = options.expect.as_deref().map(serde_json::from_str);
    Ok(Job {
        ssh: Ssh {
            config: Some(common.config("ssh_config")).filter(|path| path.exists()),
            send: options.send.clone(),
        },
        command: options.command.join(" "),
        bounds: bounds(options.most_seconds),
        wait: options.wait.clone().map(|command| Wait {
            command,
            bounds: bounds(options.wait_seconds),
            again: options.again,
        }),
        expected: expected
            .transpose()
            .map_err(|_| Exit::Usage.error("--expect: not an object of JSON"))?,
    })
}

/// The checks that need no machine.
fn check(options: &Ask) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for host in &options.hosts {
        if !is_machine(host) {
            return Err(Exit::Usage.error(format_args!("{host}: not the name of a machine")));
        }
        if !seen.insert(host) {
            return Err(Exit::Usage.error(format_args!("{host}: named twice")));
        }
    }
    for path in &options.send {
        let kind = metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(Exit::NoInput.error(format_args!("{}: a directory", path.display())));
        }
        // Several readers of a pipe would have a part each.
        if !kind.is_file() && options.hosts.len() > 1 {
            return Err(Exit::Usage.error(format_args!(
                "{}: not a regular file; only one machine can read it",
                path.display()
            )));
        }
        if kind.is_file() {
            File::open(path).map_err(|error| cannot_read(error, path))?;
        }
    }
    if let Some(directory) = &options.save
        && !metadata(directory)?.is_dir()
    {
        return Err(Exit::NoInput.error(format_args!("{}: not a directory", directory.display())));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|directory| directory.join("ssh").is_file()) {
        return Err(Exit::Unavailable.error("there is no ssh; install openssh-client"));
    }
    Ok(())
}

fn metadata(path: &Path) -> anyhow::Result<fs::Metadata> {
    fs::metadata(path).map_err(|error| cannot_read(error, path))
}

fn cannot_read(error: io::Error, path: &Path) -> anyhow::Error {
    io_error(error, Exit::of_read, format_args!("{}", path.display()))
}

/// The name is an argument of ssh and part of a path: it is no option, and no other directory.
fn is_machine(host: &str) -> bool {
    host.len() <= NAME_MAX_BYTES
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"@._:-".contains(&b))
}

/// Asks all machines. Ends when all have answered; or when a signal has arrived or the reader went
/// away, and every ssh has ended.
async fn ask_all(
    options: &Ask,
    job: Rc<Job>,
    record: &Rc<Record>,
    signals: &Deferred,
) -> anyhow::Result<()> {
    let at_once = |otherwise| {
        let machines = options.at_once.map_or(otherwise, usize::from);
        Rc::new(Semaphore::new(machines))
    };
    let (beginning, places) = (at_once(BEGINNING_MAX), at_once(Semaphore::MAX_PERMITS));
    let mut machines = JoinSet::new();
    for host in options.hosts.clone() {
        let (job, beginning, places) = (Rc::clone(&job), Rc::clone(&beginning), Rc::clone(&places));
        let (record, mut stopped) = (Rc::clone(record), record.stop.subscribe());
        machines.spawn_local(async move {
            let _place = places.acquire().await;
            let begun = |begun: crate::Begun| {
                let host = begun.host.clone();
                record.write(&host, &Event::Begun(begun));
            };
            let answer = job.with(&host, &beginning, &mut stopped, begun).await;
            if let Some(answer) = answer {
                record.answered(answer);
            }
        });
    }
    // Readable once a signal has arrived. It is not a pipe, which does not matter: it is never read.
    let arrived = signals
        .as_fd()
        .try_clone_to_owned()
        .and_then(Receiver::from_owned_fd_unchecked)
        .exit(Exit::Software, || "watching signals")?;
    let stop = record.stop.clone();
    let watching = tokio::task::spawn_local(async move {
        if arrived.readable().await.is_ok() {
            stop.send_replace(true);
        }
    });
    while machines.join_next().await.is_some() {}
    watching.abort();
    Ok(())
}

/// The record of the answers.
struct Record {
    pipe: Pipe,
    directory: Option<PathBuf>,
    kept: RefCell<Kept>,
    /// True ends every job.
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Kept {
    /// Whether a machine is not done, or its answer is not saved.
    is_no: bool,
    /// The fault of standard output.
    undelivered: Option<io::Error>,
}

impl Record {
    fn answered(&self, answer: Answer) {
        self.kept.borrow_mut().is_no |= answer.state != State::Done;
        let host = answer.host.clone();
        self.write(&host, &Event::Answer(answer));
    }

    /// A full disk is no reason to leave the rest.
    fn write(&self, host: &str, event: &Event) {
        if let Err(error) = self.save(host, event) {
            self.pipe.warn(format_args!("{error:#}"));
            self.kept.borrow_mut().is_no = true;
        }
        if let Err(error) = self.pipe.event(event) {
            self.kept.borrow_mut().undelivered.get_or_insert(error);
            self.stop.send_replace(true);
        }
    }

    fn save(&self, host: &str, event: &Event) -> anyhow::Result<()> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let text = serde_json::to_string(event)? + "\n";
        let path = directory.join(format!("{host}.json"));
        atomic::write(&path, 0o644, |file: &mut File| {
            file.write_all(text.as_bytes())
        })
    }
}
