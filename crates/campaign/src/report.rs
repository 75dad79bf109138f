//! Output: the sections `campaign` and `hosts`.

use std::net::{IpAddr, Ipv4Addr};

use campus::Role;
use jsonpipe::Missing;
use manifest::{InfoHash, Program};
use serde::Serialize;

/// The section `campaign`. A rate is what a machine received, from its building and from outside,
/// by the time it took.
#[derive(Clone, Debug, Serialize)]
pub struct Campaign {
    /// Always false: reporting changes nothing but the page that was asked for.
    pub changed: bool,
    /// The name of the base, from its manifest.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Its generation.
    pub generation: u64,
    /// Its torrent.
    pub infohash: InfoHash,
    /// The length of the image.
    pub size_bytes: u64,
    /// What is installed in it.
    pub programs: Vec<Program>,
    /// The first time that the tracker was asked; absent when it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How many machines are in [`Campaign::machines`].
    pub hosts: u64,
    /// How many of them have the image.
    pub done: u64,
    /// From the start until the last of them had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The most that all of them together received, over five seconds or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes_per_second: Option<u64>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_at: Option<String>,
    /// What the servers sent.
    pub server_bytes: u64,
    /// The buildings, by name.
    pub buildings: Vec<Building>,
    /// The rooms, by building and name.
    pub rooms: Vec<Room>,
    /// The machines, by building, room and name.
    pub machines: Vec<Machine>,
    /// What somebody should look at: whole buildings first, then machines.
    pub findings: Vec<Finding>,
    /// Received bytes and seeders over time.
    pub curves: Curves,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// What machines have in common with the others of their building or room.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// How many there are.
    pub hosts: u64,
    /// How many have the image.
    pub done: u64,
    /// From the start until the last of those had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The median of their rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// What they received from their building.
    pub building_bytes: u64,
    /// What they received from outside of it.
    pub outside_bytes: u64,
    /// What they took from their old images.
    pub reused_bytes: u64,
}

/// A building of [`Campaign`].
#[derive(Clone, Debug, Serialize)]
pub struct Building {
    /// The building, by its name in hosts.ini or campus.ini.
    pub building: String,
    /// Its machines together.
    #[serde(flatten)]
    pub sum: Sum,
    /// How often the image came over its uplink, those on wireless networks left out; absent when
    /// no machine told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crossings: Option<f64>,
}

/// A room of [`Campaign`].
#[derive(Clone, Debug, Serialize)]
pub struct Room {
    /// The building that it is in.
    pub building: String,
    /// The room, by its name in hosts.ini or campus.ini.
    pub room: String,
    /// Its machines together.
    #[serde(flatten)]
    pub sum: Sum,
}

/// A machine of [`Campaign`].
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its name, or its address when hosts.ini has none.
    pub name: String,
    /// Its address; absent when it never announced itself and hosts.ini has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The building that it is in.
    pub building: String,
    /// The room.
    pub room: String,
    /// What its network is for.
    pub role: Role,
    /// How far it came.
    pub state: State,
    /// The exit status of what failed on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// What it said last, when it is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// From its first announce, or the start if that is later, until it had the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// What it received from its building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_bytes: Option<u64>,
    /// What it received from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_bytes: Option<u64>,
    /// What it took from its old image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_bytes: Option<u64>,
    /// Whether it never reached anybody but servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_only: Option<bool>,
    /// Whether it fetched for its building.
    pub gateway: bool,
}

/// How far a machine came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has the image and offers it.
    Done,
    /// It has the image, by the tracker; it was not asked, or did not answer.
    Complete,
    /// It is at work.
    Getting,
    /// What it ran failed.
    Failed,
    /// It answered, and then no more.
    Lost,
    /// Its ssh answers, and what ran there says nothing any more.
    Hung,
    /// Its ssh answers, and does not let the server in.
    NoLogin,
    /// Nothing on the wire answers to its address.
    NoLink,
    /// It answers on the wire, but not to ping.
    NoPing,
    /// It answers to ping, but not to ssh.
    NoAgent,
    /// Nobody wrote down what became of it.
    Unknown,
}

impl State {
    /// As it is written in documents and in files of the state.
    pub fn parse(text: &str) -> State {
        match text {
            "done" => State::Done,
            "getting" => State::Getting,
            "failed" => State::Failed,
            "lost" => State::Lost,
            "hung" => State::Hung,
            "no_login" => State::NoLogin,
            "no_link" => State::NoLink,
            "no_ping" => State::NoPing,
            "no_agent" => State::NoAgent,
            _ => State::Unknown,
        }
    }

    /// Whether the machine has the image.
    pub fn is_done(self) -> bool {
        matches!(self, State::Done | State::Complete)
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Complete => "has the image",
            State::Getting => "still getting it",
            State::Failed => "failed",
            State::Lost => "lost on the way",
            State::Hung => "it hangs",
            State::NoLogin => "ssh does not let the server in",
            State::NoLink => "nothing on the wire",
            State::NoPing => "no answer to ping",
            State::NoAgent => "no answer to ssh",
            State::Unknown => "not known",
        }
    }
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What it is.
    pub what: What,
    /// The building.
    pub building: String,
    /// The room; absent when it is about the building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The machine; absent when it is about more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// The rate of those that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_bytes_per_second: Option<u64>,
    /// What was seen, in words.
    pub seen: String,
    /// What that may come from, the likeliest first.
    pub likely: Vec<&'static str>,
}

/// What a [`Finding`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The image came over an uplink more than 1.2 times.
    Crossings,
    /// A whole building was slow.
    SlowBuilding,
    /// A machine was slower than its room.
    SlowHost,
    /// A machine on a wireless network.
    Wireless,
    /// A machine had nothing from its building, which had it.
    ServerOnly,
    /// A machine has no image.
    NotDone,
}

/// Received bytes and seeders over time, at the same moments for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curves {
    /// Seconds since the start, rising.
    pub at_seconds: Vec<f64>,
    /// A curve of each kind for each building, by name.
    pub buildings: Vec<Curve>,
}

/// The curves of a building.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// The building whose curve this is.
    pub building: String,
    /// What its machines have received so far.
    pub received_bytes: Vec<u64>,
    /// How many of its machines had all of it and offered it.
    pub seeders: Vec<u64>,
}

/// The section `hosts`: machines of the campus, from hosts.ini.
#[derive(Debug, Serialize)]
pub struct Hosts {
    /// Always false: listing changes nothing.
    pub changed: bool,
    /// In the order of the file.
    pub hosts: Vec<Host>,
}

/// The section `nets`: the networks of the campus, from campus.ini.
#[derive(Debug, Serialize)]
pub struct Nets {
    /// Always false: listing changes nothing.
    pub changed: bool,
    /// The smallest first.
    pub nets: Vec<Net>,
}

/// A network of [`Nets`].
#[derive(Debug, Serialize)]
pub struct Net {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: String,
    /// The campus that it is on.
    pub campus: String,
    /// The building.
    pub building: String,
    /// The room.
    pub room: String,
    /// What it is for.
    pub role: campus::Role,
}

/// A machine of [`Hosts`].
#[derive(Debug, Serialize)]
pub struct Host {
    /// The machine, `[host.NAME]` in hosts.ini.
    pub name: String,
    /// Its Ethernet address, in lower case.
    pub mac: String,
    /// Its address.
    pub address: IpAddr,
    /// The building that it stands in.
    pub building: String,
    /// The room.
    pub room: String,
    /// The network of campus.ini that it is in; absent when it is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// The campus of that network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campus: Option<String>,
    /// The addresses of its Ethernet, which may hold several networks of campus.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethernet: Option<String>,
    /// The address by which all of that Ethernet is spoken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Ipv4Addr>,
    /// What its firmware calls it; absent when the file does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}
