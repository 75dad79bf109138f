//! `login`: the process that is called. It decides whether somebody may try, has a holder try, and
//! delivers the answer.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::SystemTime;

use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, signals, timestamp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use realms::{Realm, UserName, VALUE_MAX_BYTES};
use secrecy::{ExposeSecret, SecretString};

use crate::TOOL;
use crate::network::bus::Bus;
use crate::network::{network_manager, wireless};
use crate::report::{Link, Login, Reason};
use crate::request::Credentials;
use crate::session::order::{Order, Outcome};
use crate::session::{keeper, outside};

/// Answers the login of the document on standard input.
pub fn login(
    common: &Common,
    pipe: &Pipe,
    dry_run: bool,
    until: Option<i32>,
) -> anyhow::Result<Answer> {
    // The password is in our memory for a moment: no core holds it, and only who may trace every
    // process can read it through /proc.
    nix::sys::prctl::set_dumpable(false)?;
    // The number may be another process's later.
    let until = until.map(keeper::pidfd).transpose()?;
    let mut document = pipe.document("a document with the section login (username, password)")?;
    let Credentials { username, password } = document.consume(TOOL.section)?;
    check(&password)?;
    let started_at = timestamp::rfc3339(SystemTime::now());
    let mut report = Login {
        started_at: Some(started_at.clone()),
        ..Login::default()
    };
    let Some(name) = UserName::parse(&username) else {
        return refuse(document, report, Reason::BadUserName);
    };
    report.user = Some(name.user.clone());
    report.realm = Some(name.realm.clone());
    let Some(realm) = realms::find(common, &name)? else {
        return refuse(document, report, Reason::UnknownRealm);
    };
    report.user = Some(realm.user.clone());
    report.realm = Some(realm.realm.clone());
    if !realm.admitted {
        return refuse(document, report, Reason::NotAllowed);
    }
    if password.expose_secret().is_empty() {
        return refuse(document, report, Reason::Rejected); // NetworkManager would take it for no answer and ask again
    }
    if dry_run {
        report.method = Some("8021x");
        report.links = planned(&realm)?;
        document.set(TOOL.section, &report)?;
        return Ok(Answer::yes(document));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Exit::NoPermission.error("logging in: needs root"));
    }
    let order = Order {
        identity: name.identity,
        realm,
        started_at,
        root: std::path::absolute(&common.root)?,
    };
    let deferred = signals::defer()?;
    let (mut holder, mut keeper) = start(common, until)?;
    let _ = order.write(&mut holder, &password); // what it could not take it for, it says
    drop(password);
    let outcome = wait(&mut holder, &deferred);
    if !matches!(&outcome, Ok(outcome) if outcome.status == Exit::Done as u8) {
        let _ = keeper.wait(); // then all is closed, and the next one may try
    }
    let outcome = outcome?;
    let Some(login) = &outcome.login else {
        return Err(outcome.into_error());
    };
    document.set(TOOL.section, login)?;
    if !outcome.error.is_empty() {
        pipe.warn(&outcome.error);
    }
    if outcome.status != Exit::Done as u8 {
        return Ok(Answer::no(document));
    }
    let holder = Rc::new(RefCell::new(Some(holder)));
    let delivery = Delivery(Rc::clone(&holder));
    let undo = move || {
        if let Some(holder) = holder.take() {
            let _ = holder.shutdown(Shutdown::Write); // it has ended: nothing is open
            let _ = keeper.wait();
        }
    };
    Ok(Answer::yes(document)
        .or_undo(undo)
        .holding(delivery)
        .holding(deferred))
}

/// The links that a login would try: cables that are plugged in, and every wireless device, with
/// the network that it sees already.
fn planned(realm: &Realm) -> anyhow::Result<Vec<Link>> {
    let bus = Bus::connect()?;
    bus.owner(network_manager::SERVICE, "start NetworkManager")?;
    let devices = network_manager::devices(&bus)?;
    let link = |interface, kind: &str, ssid| Link {
        interface,
        kind: kind.into(),
        ssid,
        eap: Some(realm.eap.name()),
        ..Link::default()
    };
    let wired = devices.wired.into_iter().filter(|_| realm.wired);
    let wired = wired.map(|device| link(device.interface, device.kind.name(), None));
    let wireless = devices.wireless.into_iter();
    let wireless = wireless
        .filter(|_| !realm.ssids.is_empty())
        .map(|(path, interface)| {
            let ssid = wireless::in_reach(&bus, &path, &realm.ssids);
            link(interface, network_manager::WIFI, ssid)
        });
    Ok(wired.chain(wireless).collect())
}

fn check(password: &SecretString) -> anyhow::Result<()> {
    let password = password.expose_secret();
    if password.contains('\0') {
        return Err(
            Exit::Data.error("login.password: holds a NUL character, which no login can carry")
        );
    }
    if password.len() > VALUE_MAX_BYTES {
        let limit = format_args!(
            "login.password: longer than {VALUE_MAX_BYTES} bytes, which no login can carry"
        );
        return Err(Exit::Data.error(limit));
    }
    Ok(())
}

fn refuse(mut document: Document, report: Login, reason: Reason) -> anyhow::Result<Answer> {
    document.set(
        TOOL.section,
        &Login {
            reason: Some(reason),
            ..report
        },
    )?;
    Ok(Answer::no(document))
}

/// Starts the keeper, which starts the holder. The socket is the way to the holder alone.
fn start(common: &Common, until: Option<OwnedFd>) -> anyhow::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(TOOL.name)
        .arg("keep")
        .arg("--root")
        .arg(std::path::absolute(&common.root)?)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null());
    if common.verbose {
        command.arg("--verbose");
    }
    if let Some(pidfd) = until {
        command.arg("--until-pid").stdout(pidfd);
    }
    let keeper = command.spawn().exit(
        Exit::TemporaryFailure,
        || "starting the keeper of the session",
    )?;
    Ok((ours, keeper))
}

/// Waits for the outcome. A signal calls the login off.
fn wait(holder: &mut UnixStream, deferred: &signals::Deferred) -> anyhow::Result<Outcome> {
    let mut said = Vec::new();
    let mut is_called_off = false;
    loop {
        let mut fds = vec![PollFd::new(holder.as_fd(), PollFlags::POLLIN)];
        if !is_called_off {
            fds.push(PollFd::new(deferred.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue; // EINTR
        }
        if deferred.pending() && !is_called_off {
            is_called_off = true;
            holder.shutdown(Shutdown::Write)?; // it closes everything, and then the socket
            continue;
        }
        let mut bytes = [0; 4096];
        match holder.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => said.extend(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It ended before it had read all that it was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).exit(Exit::Io, || "waiting for the login"),
        }
        if said.last() == Some(&b'\n') && !is_called_off {
            break;
        }
    }
    if is_called_off {
        return Err(Exit::TemporaryFailure.error("interrupted"));
    }
    Outcome::parse(&said).exit(
        Exit::Software,
        || "waiting for the login: the process that did it was killed; what it opened is closed",
    )
}

/// Tells the holder, when it is dropped, that the answer was delivered.
struct Delivery(Rc<RefCell<Option<UnixStream>>>);

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(mut holder) = self.0.take()
            && !std::thread::panicking()
        {
            let _ = holder.write_all(outside::DELIVERED); // it has ended by itself
        }
    }
}
