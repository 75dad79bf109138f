//! The questions, one after the other.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe};
use nix::sys::stat::{SFlag, fstat};
use serde::Serialize;

use crate::keys::Line;
use crate::offer::{self, Offer};
use crate::place::Place;
use crate::terminal::Terminal;
use crate::words::{Explanation, Language, Words};

const USER: Words = Words {
    english: "User (name@institution): ",
    portuguese: "Usuário (nome@instituição): ",
};
const PASSWORD: Words = Words {
    english: "Password (nothing is shown): ",
    portuguese: "Senha (nada é mostrado): ",
};
const SYSTEM: Words = Words {
    english: "System",
    portuguese: "Sistema",
};
const CONTACTING: Words = Words {
    english: "Contacting your institution...",
    portuguese: "Consultando sua instituição...",
};

/// The first document of a session. It has a password, so it is in no `Debug`.
#[derive(Serialize)]
struct Session<'a> {
    login: Login<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<&'a Offer>,
}

#[derive(Serialize)]
struct Login<'a> {
    username: &'a str,
    password: &'a str,
}

/// Asks the user at the terminal until all is answered; writes the sections `login` and `choice`,
/// and no other. Status 66 without a terminal, 74 when it hung up.
pub fn ask(common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    keep_out_of_cores()?;
    let document = pipe
        .owning("choice")
        .document("a document with the sections catalog, machine and explanation")?;
    check_output_is_private()?;
    let catalog = or_nothing(pipe, offer::read(&document));
    let explanation = or_nothing(pipe, document.read("explanation"));
    let place: Option<Place> = or_nothing(pipe, document.read("machine"));
    let mut screen = Screen {
        terminal: Terminal::open()?,
        language: Language::of_process(),
        head: head(
            common,
            place.unwrap_or_default(),
            explanation.unwrap_or_default(),
        ),
        offers: catalog.as_ref().map(offer::all).unwrap_or_default(),
    };
    loop {
        if let Some(session) = screen.round()? {
            return Ok(Answer::yes(session));
        }
    }
}

/// A section, or none where it cannot be read: any answer of the screen is better than none, since
/// a user at a seat cannot mend a document.
pub(crate) fn or_nothing<T>(pipe: &Pipe, section: anyhow::Result<Option<T>>) -> Option<T> {
    section.unwrap_or_else(|error| {
        pipe.warn(format_args!("{error:#}"));
        None
    })
}

/// The password is in our memory until the end: no core holds it.
pub(crate) fn keep_out_of_cores() -> anyhow::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// The name of the machine and its room, for whoever calls a technician, and the explanation.
fn head(common: &Common, place: Place, explanation: Explanation) -> String {
    let name = fs::read_to_string(common.path("/proc/sys/kernel/hostname")).unwrap_or_default();
    let mut head = format!("\n  {}\n", jsonpipe::shown(name.trim_end()));
    if let Some(room) = place.room {
        head += &format!("  {}\n", jsonpipe::shown(&room));
    }
    head += "\n";
    if let Some(text) = explanation.text {
        let cause = explanation.cause.map(|cause| format!(" [{cause}]"));
        let text = text + &cause.unwrap_or_default();
        head += &format!("  {}\n\n", jsonpipe::shown(&text));
    }
    head
}

/// Status 2 where the password would be seen, or stay.
pub(crate) fn check_output_is_private() -> anyhow::Result<()> {
    let stat = fstat(io::stdout().as_fd()).exit(Exit::Io, || "looking at standard output")?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK {
        return Ok(());
    }
    Err(Exit::Usage
        .error("standard output is no pipe, and gets a password; give it to login-session"))
}

struct Screen {
    terminal: Terminal,
    language: Language,
    head: String,
    offers: Vec<Offer>,
}

impl Screen {
    /// All questions once. `None` when the user begins anew.
    fn round(&mut self) -> anyhow::Result<Option<Document>> {
        self.terminal.clear()?;
        self.terminal.say(&self.head)?;
        let Some(username) = self.answer(USER, true)? else {
            return Ok(None);
        };
        let Some(password) = self.answer(PASSWORD, false)? else {
            return Ok(None);
        };
        let Some(choice) = self.choice()? else {
            return Ok(None);
        };
        self.terminal
            .say(&format!("\n  {}\n", CONTACTING.of(self.language)))?;
        let session = Session {
            login: Login {
                username: username.text(),
                password: password.text(),
            },
            choice: self.offers.get(choice),
        };
        // It is parsed, not set: a section that a tool sets is for the event log as well.
        let text = zeroize::Zeroizing::new(serde_json::to_string(&session)?);
        Document::parse(&text, "login").map(Some)
    }

    /// A line that is not empty.
    fn answer(&mut self, question: Words, is_shown: bool) -> anyhow::Result<Option<Line>> {
        self.terminal
            .say(&format!("  {}", question.of(self.language)))?;
        let line = self.terminal.line(is_shown)?;
        Ok(line.filter(|line| !line.text().is_empty()))
    }

    /// The index of an offer. An only one is no question, and neither is none.
    fn choice(&mut self) -> anyhow::Result<Option<usize>> {
        if self.offers.len() <= 1 {
            return Ok(Some(0));
        }
        let mut list = String::from("\n");
        for (index, offer) in self.offers.iter().enumerate() {
            list += &format!("  {:>3}  {}\n", index + 1, offer.text(self.language));
        }
        self.terminal.say(&list)?;
        loop {
            self.terminal
                .say(&format!("\n  {} [1]: ", SYSTEM.of(self.language)))?;
            let Some(line) = self.terminal.line(true)? else {
                return Ok(None);
            };
            if let Some(index) = index(line.text(), self.offers.len()) {
                return Ok(Some(index));
            }
        }
    }
}

/// The index of what was typed: a number from 1 on, or nothing for the first.
fn index(typed: &str, count: usize) -> Option<usize> {
    match typed.trim() {
        "" => Some(0),
        number => number
            .parse()
            .ok()
            .filter(|number| (1..=count).contains(number))
            .map(|number: usize| number - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_number_of_the_list_or_the_first() {
        for (typed, found) in [
            ("", Some(0)),
            (" ", Some(0)),
            ("1", Some(0)),
            ("3", Some(2)),
            ("0", None),
            ("4", None),
            ("-1", None),
            ("windows", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(index(typed, 3), found, "{typed:?}");
        }
    }
}
