//! The questions by the graphical screen: a program that shows documents, one a line, and prints
//! what its user wants, one a line.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jsonpipe::{Answer, Document, Exit, ExitContext, Pipe};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use secrecy::SecretString;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ask::{check_output_is_private, keep_out_of_cores, or_nothing};
use crate::offer::{self, Offer};
use crate::place::Place;
use crate::words::Explanation;

/// More than any name, password and choice.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// The wish of a user who does not log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    power: Power,
}

/// The section `power`.
#[derive(Serialize)]
struct Wanted {
    action: Power,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Power {
    Off,
    Restart,
}

/// The sections of a login.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only their names are looked at")]
struct Session {
    login: IgnoredAny,
    choice: Option<IgnoredAny>,
}

/// The section `login`.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only its form is looked at")]
struct Login {
    username: String,
    password: SecretString,
}

/// Gives the question to the screen that reads `to`, and waits for its answer from `from`: writes
/// the sections `login` and `choice`, and no other; or, with status 1, the section `power` of a
/// user who wants to switch the machine off. Status 69 where the screen has ended, 65 where its
/// answer is none.
pub fn ask_screen(pipe: &Pipe, to: &Path, from: &Path) -> anyhow::Result<Answer> {
    keep_out_of_cores()?;
    let document = pipe
        .owning("choice")
        .document("a document with the sections catalog, machine and explanation")?;
    check_output_is_private()?;
    let mut questions = open(OpenOptions::new().write(true), to)?;
    let mut answers = open(OpenOptions::new().read(true), from)?;
    drop_older(&mut answers, from)?;
    set_blocking(&questions).and_then(|()| set_blocking(&answers))?;
    let question = question(pipe, &document)?;
    questions
        .write_all(format!("{question}\n").as_bytes())
        .exit(Exit::Unavailable, || "writing to the screen")?;
    answer(&read_line(&mut answers)?)
}

/// What the screen shows. A theme is foreign code, and gets nothing else of the session before.
fn question(pipe: &Pipe, document: &Document) -> anyhow::Result<Document> {
    let mut question = Document::default();
    if let Some(catalog) = or_nothing(pipe, offer::read(document)) {
        question.set_with_schema("catalog", offer::CATALOG_SCHEMA, &catalog)?;
    }
    if let Some(explanation) = or_nothing(pipe, document.read::<Explanation>("explanation")) {
        question.set("explanation", &explanation)?;
    }
    if let Some(place) = or_nothing(pipe, document.read::<Place>("machine")) {
        question.set("machine", &place)?;
    }
    Ok(question)
}

/// Opens an end of a pipe, which without its other end would be waited for.
fn open(options: &mut OpenOptions, path: &Path) -> anyhow::Result<File> {
    options
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .exit(Exit::Unavailable, || {
            format!("opening {}: no screen is there", path.display())
        })
}

fn set_blocking(pipe: &File) -> anyhow::Result<()> {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(())
}

/// A second press of a button came before the question: it is no answer to it.
fn drop_older(answers: &mut File, path: &Path) -> anyhow::Result<()> {
    let mut dropped = Zeroizing::new([0; 4096]);
    loop {
        match answers.read(&mut *dropped) {
            Ok(0) => return Err(ended()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                return Err(error).exit(Exit::Io, || format!("reading {}", path.display()));
            }
        }
    }
}

fn ended() -> anyhow::Error {
    Exit::Unavailable.error("reading from the screen: it has ended")
}

/// The next line, without its end. The answer is the first line of what comes at once.
fn read_line(answers: &mut File) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(ANSWER_MAX_BYTES));
    let mut buffer = Zeroizing::new([0; 4096]);
    loop {
        let length = match answers.read(&mut *buffer) {
            Ok(0) => return Err(ended()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).exit(Exit::Io, || "reading from the screen"),
        };
        let read = &buffer[..length];
        let end = read.iter().position(|byte| *byte == b'\n');
        let more = &read[..end.unwrap_or(length)];
        if line.len() + more.len() > ANSWER_MAX_BYTES {
            return Err(Exit::Data.error("reading from the screen: its answer is too long"));
        }
        line.extend(more);
        if end.is_some() {
            return Ok(line);
        }
    }
}

fn answer(line: &[u8]) -> anyhow::Result<Answer> {
    if let Ok(wish) = serde_json::from_slice::<Wish>(line) {
        let mut document = Document::default();
        let action = wish.power;
        document.set("power", &Wanted { action })?;
        return Ok(Answer::no(document));
    }
    let text = str::from_utf8(line).exit(Exit::Data, || "reading from the screen")?;
    let document = Document::parse(text, "login")?;
    if serde_json::from_str::<Session>(text).is_err() {
        return Err(Exit::Data.error("reading from the screen: neither a login nor a wish"));
    }
    document.require::<Login>("login")?;
    document.read::<Offer>("choice")?;
    Ok(Answer::yes(document))
}
