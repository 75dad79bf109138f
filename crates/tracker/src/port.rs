//! The tracker's port: HTTP/1 in one thread, with a bound for everything that a client could grow.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use campus::Role;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonpipe::Pipe;
use manifest::InfoHash;
use serde::Serialize;
use swarm::Refusal;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::announce::{self, Announce};
use crate::answer;
use crate::tracker::Tracker;

/// The maximum time to send a request, and of an idle connection.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum lifetime of a connection, so that slow reading cannot hold it.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// The maximum size of a request line with its headers.
const REQUEST_MAX_BYTES: usize = 8 << 10;
/// The maximum number of connections from one address.
const PER_ADDRESS_MAX: usize = 32;
/// The maximum number of connections from all addresses outside of campus.ini.
const STRANGERS_MAX: usize = 32;
/// The minimum time between two readings of the store because of unknown torrents.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4";

/// The tracker and its connections.
#[derive(Debug)]
pub struct Port {
    tracker: RefCell<Tracker>,
    pipe: Pipe,
    connections_max: usize,
    open: RefCell<HashMap<IpAddr, usize>>,
    read_at: RefCell<Instant>,
}

impl Port {
    /// With this tracker and maximum number of connections.
    pub fn new(tracker: Tracker, pipe: Pipe, connections_max: usize) -> Rc<Port> {
        let (open, read_at) = (RefCell::default(), RefCell::new(Instant::now()));
        Rc::new(Port {
            tracker: RefCell::new(tracker),
            pipe,
            connections_max,
            open,
            read_at,
        })
    }

    /// The tracker.
    pub fn tracker(&self) -> &RefCell<Tracker> {
        &self.tracker
    }

    /// Serves clients for ever. Needs a `LocalSet`.
    pub async fn serve(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let address = from.ip().to_canonical();
                    if let Some(seat) = Seat::take(&self, address) {
                        tokio::task::spawn_local(converse(
                            Rc::clone(&self),
                            stream,
                            SocketAddr::new(address, from.port()),
                            seat,
                        ));
                    }
                }
                // The client left, or the descriptors are exhausted: current clients will release
                // theirs soon.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Reads the store again, and warns of new faults.
    pub fn reread_store(&self) {
        *self.read_at.borrow_mut() = Instant::now();
        match self.tracker.borrow_mut().reread_store() {
            Ok(wrong) => wrong.iter().for_each(|wrong| self.pipe.warn(wrong)),
            Err(error) => self
                .pipe
                .warn(format_args!("{error:#}; the torrents stay the same")),
        }
    }

    async fn answer(&self, address: IpAddr, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or("");
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match path {
            "/announce" => reply(StatusCode::OK, TEXT, self.announce(address, query).await),
            "/scrape" => reply(StatusCode::OK, TEXT, self.scrape(address, query)),
            "/building" => self.building(address, query).await,
            "/swarms" | "/metrics" if !self.may_look(address) => {
                text(StatusCode::FORBIDDEN, "only for servers")
            }
            "/swarms" => json(&self.tracker.borrow_mut().snapshot()),
            "/metrics" => reply(
                StatusCode::OK,
                PROMETHEUS,
                self.tracker.borrow_mut().metrics().into_bytes(),
            ),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /announce, /scrape, /building, /swarms and /metrics",
            ),
        }
    }

    async fn announce(&self, address: IpAddr, query: &str) -> Vec<u8> {
        let announce = Announce::parse(query);
        if let Ok(announce) = &announce {
            self.look_for_news(address, announce.infohash).await;
        }
        let started = std::time::Instant::now();
        let mut tracker = self.tracker.borrow_mut();
        let answered = announce.map_err(Refusal::Malformed).and_then(|announce| {
            tracker
                .announce(address, &announce)
                .map(|body| (announce, body))
        });
        tracker
            .counters
            .count(answered.as_ref().err().copied(), started.elapsed());
        match answered {
            Ok((announce, body)) => {
                let Announce {
                    infohash,
                    port,
                    left,
                    event,
                    ..
                } = announce;
                self.pipe.note(format_args!(
                    "{address} port {port} {}, {left} bytes left of {infohash}",
                    event.as_str()
                ));
                body
            }
            Err(refusal) => {
                self.pipe
                    .note(format_args!("refusing {address}: {}", refusal.reason()));
                answer::failure(refusal.reason())
            }
        }
    }

    fn scrape(&self, address: IpAddr, query: &str) -> Vec<u8> {
        let asked = announce::parse_scrape(query).map_err(Refusal::Malformed);
        let answered = asked.and_then(|asked| self.tracker.borrow_mut().scrape(address, &asked));
        answered.unwrap_or_else(|refusal| answer::failure(refusal.reason()))
    }

    /// An image may have been published since the store was read. A refused client returns only
    /// after two minutes, so it waits here; one reading of the store serves all that wait.
    async fn look_for_news(&self, address: IpAddr, infohash: InfoHash) {
        if self.tracker.borrow().is_news(address, infohash) {
            let next = *self.read_at.borrow() + REREAD_INTERVAL;
            sleep_until(next).await;
            if *self.read_at.borrow() + REREAD_INTERVAL <= Instant::now() {
                self.reread_store();
            }
        }
    }

    async fn building(&self, address: IpAddr, query: &str) -> Response<Full<Bytes>> {
        let net = self.tracker.borrow().net(address).cloned();
        let Some(net) = net else {
            return text(StatusCode::FORBIDDEN, Refusal::Stranger.reason());
        };
        let (infohash, progress) = match announce::parse_building(query) {
            Ok(asked) => asked,
            Err(reason) => return text(StatusCode::BAD_REQUEST, reason),
        };
        // A host asks before aria2 announces.
        self.look_for_news(address, infohash).await;
        let building = self
            .tracker
            .borrow_mut()
            .building(address, &net, infohash, progress);
        match building {
            Some(building) => json(&building),
            None => text(StatusCode::NOT_FOUND, Refusal::UnknownTorrent.reason()),
        }
    }

    /// The hosts and their progress are only for servers and for this machine.
    fn may_look(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || self
                .tracker
                .borrow()
                .net(address)
                .is_some_and(|net| net.role == Role::Servers)
    }
}

/// A counted connection.
struct Seat {
    port: Rc<Port>,
    address: IpAddr,
}

impl Seat {
    /// `None` when there are too many.
    fn take(port: &Rc<Port>, address: IpAddr) -> Option<Seat> {
        let mut tracker = port.tracker.borrow_mut();
        let mut open = port.open.borrow_mut();
        // Strangers share a count, under an address that no host has.
        let (address, bound) = match address {
            _ if tracker.net(address).is_some() || is_localhost(address) => {
                (address, PER_ADDRESS_MAX)
            }
            _ => (IpAddr::from([0, 0, 0, 0]), STRANGERS_MAX),
        };
        let total = tracker.counters.connections;
        let mine = open.entry(address).or_default();
        if *mine >= bound || total >= port.connections_max as u64 {
            tracker.counters.connections_refused += 1;
            return None;
        }
        *mine += 1;
        tracker.counters.connections += 1;
        Some(Seat {
            port: Rc::clone(port),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.port.tracker.borrow_mut().counters.connections -= 1;
        let mut open = self.port.open.borrow_mut();
        if let Some(mine) = open.get_mut(&self.address) {
            *mine -= 1;
            if *mine == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Whether this is the local machine, which strangers cannot shut out.
fn is_localhost(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::LOCALHOST) || address == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

/// Serves one connection to its end. Its errors concern only the client.
async fn converse(port: Rc<Port>, stream: TcpStream, from: SocketAddr, seat: Seat) {
    let service = service_fn(|request| {
        let port = Rc::clone(&port);
        async move { Ok::<_, Infallible>(port.answer(from.ip(), &request).await) }
    });
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(REQUEST_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(CONNECTION_LIFETIME, connection).await;
    drop(seat);
}

fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    reply(status, TEXT, format!("{text}\n").into_bytes())
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => reply(StatusCode::OK, JSON, body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "internal fault"),
    }
}
