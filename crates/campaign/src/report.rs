//! Output: the sections `campaign` and `hosts`.

use std::net::{IpAddr, Ipv4Addr};

use campus::Role;
use jsonpipe::Missing;
use manifest::{InfoHash, Program};
use serde::Serialize;

/// The section `campaign`. A rate is the bytes that a machine received, from its building and from
/// outside, divided by the time it took.
#[derive(Clone, Debug, Serialize)]
pub struct Campaign {
    /// Always false: reporting changes only the requested page.
    pub changed: bool,
    /// The name of the base, from its manifest.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its generation.
    pub generation: u64,
    /// The infohash of its torrent.
    pub infohash: InfoHash,
    /// The length of the image.
    pub size_bytes: u64,
    /// The programs installed in it.
    pub programs: Vec<Program>,
    /// The time of the first sample; absent without samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The time of the last sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The number of machines in [`Campaign::machines`].
    pub hosts: u64,
    /// The number of machines that have the image.
    pub done: u64,
    /// From the start until the last machine had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The highest rate of all machines together, over five seconds or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes_per_second: Option<u64>,
    /// The time of that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_at: Option<String>,
    /// The bytes that the servers sent.
    pub server_bytes: u64,
    /// The buildings, by name.
    pub buildings: Vec<Building>,
    /// The rooms, by building and name.
    pub rooms: Vec<Room>,
    /// The machines, by building, room and name.
    pub machines: Vec<Machine>,
    /// The findings that need attention: whole buildings first, then machines.
    pub findings: Vec<Finding>,
    /// Received bytes and seeders over time.
    pub curves: Curves,
    /// The keys that are not known, and why.
    pub missing: Vec<Missing>,
}

/// The sums over the machines of a building or room.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// The number of machines.
    pub hosts: u64,
    /// The number of those that have the image.
    pub done: u64,
    /// From the start until the last machine had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The median of their rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// The bytes they received from their building.
    pub building_bytes: u64,
    /// The bytes they received from outside of it.
    pub outside_bytes: u64,
    /// The bytes they took from their old images.
    pub reused_bytes: u64,
}

/// A building of [`Campaign`].
#[derive(Clone, Debug, Serialize)]
pub struct Building {
    /// The building, by its name in hosts.ini or campus.ini.
    pub building: String,
    /// The sums over its machines.
    #[serde(flatten)]
    pub sum: Sum,
    /// How often the image came over its uplink, without machines on wireless networks; absent when
    /// no machine reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crossings: Option<f64>,
}

/// A room of [`Campaign`].
#[derive(Clone, Debug, Serialize)]
pub struct Room {
    /// Its building.
    pub building: String,
    /// The room, by its name in hosts.ini or campus.ini.
    pub room: String,
    /// The sums over its machines.
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
    /// Its building.
    pub building: String,
    /// Its room.
    pub room: String,
    /// The role of its network.
    pub role: Role,
    /// Its state.
    pub state: State,
    /// The exit status of the failed command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// Its last message, when it is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// From its first announce, or the start if that is later, until it had the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// The bytes it received from its building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_bytes: Option<u64>,
    /// The bytes it received from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_bytes: Option<u64>,
    /// The bytes it took from its old image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_bytes: Option<u64>,
    /// Whether it reached only servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_only: Option<bool>,
    /// Whether it was a gateway: it fetched from outside for its building.
    pub gateway: bool,
}

/// The state of a machine: the states of an answer ([`fanout::State`]), and those without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has the image and offers it.
    Done,
    /// It has the image, according to the tracker; it was not asked, or did not answer.
    Complete,
    /// It is still fetching the image.
    Getting,
    /// The command on it failed.
    Failed,
    /// It refuses the image, or is set up wrongly.
    Refused,
    /// It is fetching another generation.
    InUse,
    /// It answered at first, but no longer.
    Lost,
    /// Its ssh answers, but the command on it has gone silent.
    Hung,
    /// Its ssh answers, but refuses the server.
    NoLogin,
    /// Its address does not answer on the wire.
    NoLink,
    /// It answers on the wire, but not to ping.
    NoPing,
    /// It answers to ping, but not to ssh.
    NoAgent,
    /// It does not answer to ssh.
    Unreachable,
    /// Its result was not recorded.
    Unknown,
}

impl From<fanout::State> for State {
    fn from(state: fanout::State) -> State {
        use fanout::State as Answered;
        match state {
            Answered::Done => State::Done,
            Answered::Failed => State::Failed,
            Answered::Refused => State::Refused,
            Answered::InUse => State::InUse,
            Answered::Lost => State::Lost,
            Answered::Hung => State::Hung,
            Answered::NoLogin => State::NoLogin,
            Answered::Unreachable => State::Unreachable,
            Answered::NoAgent => State::NoAgent,
            Answered::NoPing => State::NoPing,
            Answered::NoLink => State::NoLink,
        }
    }
}

impl State {
    /// Whether the machine has the image.
    pub fn is_done(self) -> bool {
        matches!(self, State::Done | State::Complete)
    }

    /// The text of the page.
    pub fn words(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Complete => "has the image",
            State::Getting => "still getting it",
            State::Failed => "failed",
            State::Refused => "refused it",
            State::InUse => "fetching another generation",
            State::Lost => "lost on the way",
            State::Hung => "it hangs",
            State::NoLogin => "ssh does not let the server in",
            State::NoLink => "nothing on the wire",
            State::NoPing => "no answer to ping",
            State::NoAgent | State::Unreachable => "no answer to ssh",
            State::Unknown => "not known",
        }
    }
}

/// A finding that needs attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The kind of finding.
    pub what: What,
    /// The building.
    pub building: String,
    /// The room; absent for a finding about the building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The machine; absent for a finding about several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// The rate of the others that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_bytes_per_second: Option<u64>,
    /// The observation, in words.
    pub seen: String,
    /// The possible causes, the likeliest first.
    pub likely: Vec<&'static str>,
}

/// The kinds of [`Finding`].
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
    /// A machine had nothing from its building, although the building had the image.
    ServerOnly,
    /// A machine does not have the image.
    NotDone,
}

/// Received bytes and seeders over time, with the same times for all buildings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curves {
    /// Seconds since the start, ascending.
    pub at_seconds: Vec<f64>,
    /// The curves of each building, by name.
    pub buildings: Vec<Curve>,
}

/// The curves of a building.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// Its building.
    pub building: String,
    /// The bytes that its machines have received so far.
    pub received_bytes: Vec<u64>,
    /// The number of its machines that had all of it and offered it.
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
    /// Its campus.
    pub campus: String,
    /// Its building.
    pub building: String,
    /// Its room.
    pub room: String,
    /// Its role.
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
    /// Its building.
    pub building: String,
    /// Its room.
    pub room: String,
    /// Its network in campus.ini; absent when it is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// The campus of that network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campus: Option<String>,
    /// The addresses of its Ethernet segment, which may hold several networks of campus.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethernet: Option<String>,
    /// The broadcast address of that segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Ipv4Addr>,
    /// Its model, as its firmware names it; absent when the file does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}
