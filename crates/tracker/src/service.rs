//! `seedctl track`: the tracker, in the foreground until a signal ends it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;

use jsonpipe::signals;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, io_error};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::net::TcpListener;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::port::Port;
use crate::settings::Settings;
use crate::tracker::Tracker;

/// The maximum number of connections, if the limit of open files allows it.
const CONNECTIONS_MAX: u64 = 8192;
/// The number of open files besides connections.
const OTHER_FILES: u64 = 64;

/// Status 78 when campus.ini, seedctl.ini or the keys are invalid, 66 without campus.ini or a
/// store, 73 when the port cannot be opened.
pub fn track(common: &Common, pipe: &Pipe, settings: Settings) -> anyhow::Result<Answer> {
    let listen = settings.everywhere.listen;
    let (tracker, wrong) = Tracker::new(common, settings)?;
    wrong.iter().for_each(|wrong| pipe.warn(wrong));
    let port = Port::new(tracker, pipe.clone(), connections_max()?);

    let deferred = signals::defer()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .exit(Exit::Software, || "starting")?;
    let listen = LocalSet::new().block_on(&runtime, serve(&port, pipe, listen))?;

    let mut document = Document::default();
    document.set("tracker", &port.tracker().borrow_mut().summary(listen))?;
    Ok(Answer::yes(document).holding(deferred))
}

/// Serves until a deferred signal ends it. Returns the address it listened on.
async fn serve(port: &Rc<Port>, pipe: &Pipe, listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let way_out = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; another tracker or program has the port: end it, or set listen in seedctl.ini"
            }
            _ if listen.is_ipv6() => "; without IPv6, set listen=0.0.0.0:6969 in seedctl.ini",
            _ => "",
        };
        io_error(
            error,
            |_| Exit::CantCreate,
            format_args!("listening at {listen}{way_out}"),
        )
    })?;
    let listen = listener
        .local_addr()
        .exit(Exit::Software, || "asking for the local address")?;
    let ended = ended().exit(Exit::Software, || "watching signals")?;
    let mut hangups = signal(SignalKind::hangup()).exit(Exit::Software, || "watching SIGHUP")?;
    // SIGHUP rereads the store here, although it ends other tools.
    SigSet::from(Signal::SIGHUP)
        .thread_unblock()
        .exit(Exit::Software, || "letting SIGHUP through")?;
    pipe.note(format_args!("listening at {listen}"));

    tokio::task::spawn_local(Rc::clone(port).serve(listener));
    let rereading = Rc::clone(port);
    tokio::task::spawn_local(async move {
        while hangups.recv().await.is_some() {
            rereading.reread_store();
        }
    });
    ended
        .readable()
        .await
        .exit(Exit::Software, || "waiting for signals")?;
    Ok(listen)
}

/// Readable once SIGINT or SIGTERM, which are deferred, has arrived. Nothing is read from it.
///
/// The descriptor of [`signals::Deferred`] will not do: SIGHUP also makes it readable for a moment.
fn ended() -> io::Result<Receiver> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    let arrived = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    Receiver::from_owned_fd_unchecked(arrived.as_fd().try_clone_to_owned()?)
}

/// The limit of open files, less a few.
fn connections_max() -> anyhow::Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .exit(Exit::Software, || "asking for the limit of open files")?;
    let wanted = hard.min(CONNECTIONS_MAX + OTHER_FILES);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
        .exit(Exit::Software, || "raising the limit of open files")?;
    Ok(wanted.saturating_sub(OTHER_FILES).max(1) as usize)
}
