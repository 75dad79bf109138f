//! Logs a user in over 802.1X through NetworkManager, proves it, and closes the port at logout.
//!
//! `login` turns a name and a password into a NetworkManager profile for each link, of the name's
//! realm, hands the password over only when NetworkManager's secret agent call asks for it, and
//! believes nothing but the supplicant: "authenticated" means that the device is past its link
//! stage, that the supplicant is `completed`, and that it used the EAP method of the realm. Three
//! processes do it: the one that is called ([`login`]), the holder of the [`session`], and the
//! keeper above that. `logout` has the holder take the profiles away and send an EAPOL-Logoff,
//! so that the switch closes the port. (Thesis, sections 2.3 and 2.4.)
//!
//! Each module knows those below it: `session` the [`attempt`], and that the [`network`].

mod attempt;
mod clock;
mod explain;
mod login;
mod logout;
mod network;
mod report;
pub mod request;
mod session;
mod voucher;

use std::time::SystemTime;

use jsonpipe::{Answer, Common, Document, Pipe, Tool};

use request::{Arguments, Command};
use session::{holder, keeper};

/// This tool and its section.
pub const TOOL: Tool = Tool {
    name: "nm-8021x-login",
    section: "login",
};

/// Does what the arguments ask for.
pub fn run(arguments: Arguments, pipe: &Pipe) -> anyhow::Result<Answer> {
    match arguments.command {
        Command::Login { dry_run, until_pid } => {
            login::login(&arguments.common, pipe, dry_run, until_pid)
        }
        Command::Logout { dry_run } => logout::logout(&arguments.common, pipe, dry_run),
        Command::Prompt { screen } => match &screen[..] {
            [to, from] => screen::ask_screen(pipe, to, from),
            _ => screen::ask(&arguments.common, pipe),
        },
        Command::Explain { status } => explain::explain(pipe, status),
        Command::Realms { days } => list_realms(&arguments.common, pipe, days),
        Command::GuestVoucher(order) => voucher::write(&order),
        Command::Import(options) => import(&arguments.common, pipe, &options),
        Command::Register { command } => register::run(&command, &arguments.common, pipe),
        Command::Keep { until_pid } => keeper::keep(&arguments.common, until_pid).map(silent),
        Command::Hold => holder::hold(pipe).map(silent),
        Command::UpdateRealms { dry_run } => realms::update(&arguments.common, pipe, dry_run),
        Command::PublishRealms(options) => publish(&arguments.common, pipe, &options),
    }
}

/// The end of a process that nobody reads: whether nothing is left to do.
fn silent(is_clean: bool) -> Answer {
    let nothing = Answer::events(String::new());
    if is_clean { nothing } else { nothing.but_no() }
}

fn import(common: &Common, pipe: &Pipe, options: &request::Import) -> anyhow::Result<Answer> {
    let wanted = realms::Import {
        from: &options.from,
        realm: options.realm.as_deref(),
        into: options.into.as_deref(),
        dry_run: options.dry_run,
    };
    realms::import(common, pipe, &wanted)
}

fn publish(
    common: &Common,
    pipe: &Pipe,
    options: &request::PublishRealms,
) -> anyhow::Result<Answer> {
    let wanted = realms::Publish {
        directory: &options.directory,
        key: &options.key,
        dry_run: options.dry_run,
    };
    realms::publish(common, pipe, &wanted)
}

fn list_realms(common: &Common, pipe: &Pipe, days: u32) -> anyhow::Result<Answer> {
    let listing = realms::list(common, days, SystemTime::now())?;
    if listing.realms.is_empty() {
        pipe.warn("no realm is installed; write realms.d/REALM.ini, or import one, see nm-8021x-login-realms(8)");
    }
    let mut document = Document::default();
    document.set("realms", &listing)?;
    let answer = Answer::yes(document);
    Ok(if listing.is_good() {
        answer
    } else {
        answer.but_no()
    })
}
