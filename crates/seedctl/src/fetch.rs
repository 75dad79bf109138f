//! Follows a torrent until its file is complete.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use jsonpipe::signals::Deferred;
use jsonpipe::{Common, Exit, ExitContext, Pipe};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use progress::{Progress, Size};

use crate::TOOL;
use crate::aria2::{Download, Rpc, State, Trust};
use crate::introduction::{self, Failure, Reached};
use crate::origin::{Account, Counter, Here};
use crate::torrent::Torrent;
use campus::Campus;

/// The polling interval of aria2: a small image arrives within a second, a large one does not.
const LOOK_MILLISECONDS: u16 = 500;
const LOOK_AT_FIRST_MILLISECONDS: u16 = 50;
const AT_FIRST: Duration = Duration::from_secs(3);
/// The interval at which the account is written.
const ACCOUNT: Duration = Duration::from_secs(2);
/// The intervals at which the tracker is asked whether this host is a gateway, and informed of its
/// progress: at first, while the best gateway is being found, later, and at most.
const ASK_AT_FIRST: Duration = Duration::from_secs(1);
const FINDING_OUT: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_secs(5);
const ASK_AFTER_FAILURES: Duration = Duration::from_secs(60);
/// The first and the longest interval between attempts to reach a missing tracker.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The interval of messages while waiting for a tracker, so that the machine does not seem to hang.
const TELL: Duration = Duration::from_secs(300);
/// The time without peers after which the torrent is added again, if the tracker prescribes no
/// interval; it doubles each time. aria2 alone may be silent for two minutes.
const LONELY: Duration = Duration::from_secs(30);

/// aria2's error for a full disk (aria2c(1), EXIT STATUS).
const NO_ROOM: &str = "9";

/// The context of a fetch.
#[derive(Debug)]
pub struct Fetch<'a> {
    pub common: &'a Common,
    pub pipe: &'a Pipe,
    pub signals: &'a Deferred,
    pub rpc: &'a Rpc,
    /// The maximum time without progress.
    pub patience: Duration,
    /// The port on which aria2 listens for peers.
    pub port: u16,
}

impl Fetch<'_> {
    /// Fetches the missing bytes of a file, and records their origin in the account. `present` is
    /// the number of bytes already there; `trust` states whether aria2 checks for them.
    ///
    /// On success the torrent stays in aria2; on failure it is removed. Status 73 when the disk is
    /// full, 75 when nothing arrives for too long or a signal ends the fetch: the data stays, and
    /// the next call continues with it.
    pub fn fetch(
        &self,
        torrent: &Torrent,
        path: &Path,
        (present, trust): (u64, Trust),
        account: &mut Account,
        doing: &str,
    ) -> anyhow::Result<()> {
        let reached = self.wait_for_tracker(torrent, doing)?;
        let here = self.here(reached.own)?;
        let interval = reached.building.map(|building| building.interval_seconds);
        self.rpc.add(torrent, path, trust, interval)?;
        let mut following = Following {
            fetch: self,
            torrent,
            path,
            here,
            counter: Some(Counter::new(present)),
            limit: 0,
            interval,
            began: Instant::now(),
            next_ask: Instant::now(),
            ask_every: ASK,
            refused: None,
            no_source: false,
            next_account: Instant::now() + ACCOUNT,
            lonely_since: Instant::now(),
            lonely_for: LONELY,
            announced_again: None,
        };
        let followed = following.follow(account, doing);
        if followed.is_err() {
            // Only the first error is reported.
            let _ = self.rpc.drop_torrent(torrent.infohash);
            let _ = self.keep(torrent, account);
        }
        followed
    }

    /// Writes the account of an image. Block maps have none.
    fn keep(&self, torrent: &Torrent, account: &Account) -> anyhow::Result<()> {
        if account.name.is_empty() {
            Ok(())
        } else {
            account.write(self.common, torrent.infohash)
        }
    }

    /// Waits until a tracker accepts a connection. Status 78 or 69 when it does not serve this
    /// host, or this torrent.
    fn wait_for_tracker(&self, torrent: &Torrent, doing: &str) -> anyhow::Result<Reached> {
        let (since, mut pause) = (Instant::now(), RETRY);
        let mut tell_at = since;
        loop {
            let error = match introduction::ask(&torrent.trackers, torrent.infohash, None) {
                Ok(reached) => return Ok(reached),
                Err(Failure::Refused(refused)) => return Err(refused.error(doing)),
                Err(Failure::Away(error)) => error,
            };
            let waiting = format!(
                "waiting for the tracker {}",
                http_client::public(&torrent.trackers[0])
            );
            if since.elapsed() > self.patience {
                return Err(error).exit(Exit::TemporaryFailure, || waiting);
            }
            if Instant::now() >= tell_at {
                self.pipe.warn(format_args!("{waiting}: {error}"));
                tell_at = Instant::now() + TELL;
            }
            if wait(self.signals, pause.as_millis() as u16) {
                return Err(interrupted());
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// This host's place, by its address towards the tracker; `None` without a map of the campus.
    fn here(&self, own: IpAddr) -> anyhow::Result<Option<Here>> {
        if !self.common.config("campus.ini").exists() {
            return Ok(None);
        }
        Ok(Some(Here::new(Campus::read(self.common)?, own)))
    }
}

/// A torrent while it is being fetched.
struct Following<'a> {
    fetch: &'a Fetch<'a>,
    torrent: &'a Torrent,
    path: &'a Path,
    here: Option<Here>,
    counter: Option<Counter>,
    /// aria2's limit, in bytes per second; 0 for no limit.
    limit: u64,
    /// The announce interval, where seedctl set one.
    interval: Option<u64>,
    began: Instant,
    next_ask: Instant,
    ask_every: Duration,
    /// The tracker's current refusal of this host, already reported.
    refused: Option<String>,
    /// Whether the tracker knows no complete server and no complete host of the building.
    no_source: bool,
    next_account: Instant,
    lonely_since: Instant,
    lonely_for: Duration,
    /// The last time aria2 was made to announce the torrent at once.
    announced_again: Option<Instant>,
}

impl Following<'_> {
    fn follow(&mut self, account: &mut Account, doing: &str) -> anyhow::Result<()> {
        let (rpc, infohash) = (self.fetch.rpc, self.torrent.infohash);
        let mut progress = Progress::new(TOOL);
        let (mut most, mut since) = (0, self.began);
        loop {
            let download = rpc.download(infohash)?;
            let download = download.exit(Exit::TemporaryFailure, || {
                format!("{doing}: another call stopped it")
            })?;
            if is_there(&download, doing)? {
                if let Some(counter) = self.counter.take() {
                    counter.finish(account, self.torrent.length);
                }
                return Ok(());
            }
            if let Some(checked) = download.verified_bytes() {
                progress.show(
                    format_args!("{doing}: checking"),
                    checked,
                    download.total_length,
                );
                since = Instant::now();
                self.lonely_since = since;
            } else {
                self.look(account, &download)?;
                let (near, far) = (Size(account.building_bytes), Size(account.outside_bytes));
                let rate = Size(download.download_speed);
                let more = format_args!(", {rate}/s, {near} from the building, {far} from outside");
                progress.show_with(
                    doing,
                    download.completed_length,
                    download.total_length,
                    more,
                );
            }
            if download.completed_length > most {
                most = download.completed_length;
                since = Instant::now();
            }
            if since.elapsed() > self.fetch.patience {
                let seconds = self.fetch.patience.as_secs();
                let no_source =
                    "; the tracker knows no server that has it: is it seeded there?".to_owned();
                let refused = self.refused.as_ref().map(|refused| format!("; {refused}"));
                let why = refused
                    .or_else(|| self.no_source.then_some(no_source))
                    .unwrap_or_default();
                return Err(Exit::TemporaryFailure.error(format_args!(
                    "{doing}: nothing has arrived for {seconds} seconds{why}"
                )));
            }
            let pause = if self.began.elapsed() < AT_FIRST {
                LOOK_AT_FIRST_MILLISECONDS
            } else {
                LOOK_MILLISECONDS
            };
            if wait(self.fetch.signals, pause) {
                return Err(interrupted());
            }
        }
    }

    /// Counts the new bytes, and takes the actions that are due.
    fn look(&mut self, account: &mut Account, download: &Download) -> anyhow::Result<()> {
        let peers = self.fetch.rpc.peers(self.torrent.infohash)?;
        if let Some(counter) = &mut self.counter {
            counter.look(
                account,
                download.completed_length,
                &peers,
                self.here.as_ref(),
            );
        }
        let now = Instant::now();
        if now >= self.next_account {
            self.fetch.keep(self.torrent, account)?;
            self.next_account = now + ACCOUNT;
        }
        if !peers.is_empty() {
            self.lonely_since = now;
            self.lonely_for = LONELY;
        }
        if now >= self.next_ask {
            let left = download
                .total_length
                .saturating_sub(download.completed_length);
            let far = swarm::Progress {
                port: self.fetch.port,
                left,
            };
            match introduction::ask(&self.torrent.trackers, self.torrent.infohash, Some(far)) {
                Ok(reached) => {
                    self.ask_every = if self.began.elapsed() < FINDING_OUT {
                        ASK_AT_FIRST
                    } else {
                        ASK
                    };
                    self.refused = None;
                    let interval = reached
                        .building
                        .as_ref()
                        .map(|building| building.interval_seconds);
                    self.obey(account, reached)?;
                    if self.interval.is_none() && self.lonely_since.elapsed() > self.lonely_for {
                        self.add_again(interval)?;
                    }
                }
                Err(failure) => {
                    self.ask_every = (self.ask_every * 2).max(ASK).min(ASK_AFTER_FAILURES);
                    self.hear(&failure);
                }
            }
            self.next_ask = Instant::now() + self.ask_every;
        }
        Ok(())
    }

    /// Data continues to arrive from known peers: a refusal at this point ends nothing, but is
    /// reported.
    fn hear(&mut self, failure: &Failure) {
        if let Failure::Refused(refused) = failure {
            let refused = refused.to_string();
            if self.refused.as_ref() != Some(&refused) {
                self.fetch.pipe.warn(&refused);
            }
            self.refused = Some(refused);
        }
    }

    /// Applies the uplink budget of its building to a gateway; other hosts have no limit.
    fn obey(&mut self, account: &mut Account, reached: Reached) -> anyhow::Result<()> {
        let Some(building) = reached.building else {
            return Ok(());
        };
        self.no_source = building.servers == 0 && building.complete == 0;
        account.gateway = Some(account.gateway == Some(true) || building.gateway);
        let limit = building
            .uplink_bytes_per_second
            .filter(|_| building.gateway)
            .unwrap_or(0);
        if limit != self.limit {
            self.fetch.rpc.limit(self.torrent.infohash, limit)?;
            self.limit = limit;
        }
        let just_now = self
            .announced_again
            .is_some_and(|then| then.elapsed() < ASK);
        if building.announce_again && !just_now {
            self.fetch
                .pipe
                .note("the tracker has other peers for this machine; announcing it again");
            self.fetch
                .rpc
                .announce_again(self.torrent.infohash, self.path)?;
            self.announced_again = Some(Instant::now());
        }
        Ok(())
    }

    /// The tracker is reachable, but aria2 knows no peer and would wait before its next announce.
    fn add_again(&mut self, interval: Option<u64>) -> anyhow::Result<()> {
        self.fetch
            .pipe
            .note("no peers; adding the torrent to aria2 again");
        self.fetch.rpc.drop_torrent(self.torrent.infohash)?;
        crate::store::remove_control_file(self.path)?;
        self.fetch
            .rpc
            .add(self.torrent, self.path, Trust::Check, interval)?;
        (self.limit, self.interval) = (0, interval);
        self.lonely_since = Instant::now();
        self.lonely_for *= 2;
        Ok(())
    }
}

/// Whether the file is complete and checked.
fn is_there(download: &Download, doing: &str) -> anyhow::Result<bool> {
    match download.status {
        State::Active | State::Waiting => Ok(download.is_offered()),
        State::Error => {
            let message = download
                .error_message
                .as_deref()
                .unwrap_or("aria2 does not say why");
            let code = download.error_code.as_deref().unwrap_or_default();
            let exit = if code == NO_ROOM {
                Exit::CantCreate
            } else {
                Exit::Io
            };
            Err(exit.error(format_args!("{doing}: {message} (aria2's error {code})")))
        }
        State::Paused | State::Complete | State::Removed => {
            Err(Exit::TemporaryFailure.error(format_args!("{doing}: another call stopped it")))
        }
    }
}

/// Waits. Returns whether a signal has arrived, which ends the wait.
pub fn wait(signals: &Deferred, milliseconds: u16) -> bool {
    let _ = poll(
        &mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)],
        PollTimeout::from(milliseconds),
    );
    signals.pending()
}

/// This error is never printed: the signal ends the process.
pub fn interrupted() -> anyhow::Error {
    Exit::TemporaryFailure.error("interrupted; the next call continues with the part that is there")
}
