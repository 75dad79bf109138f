//! The tracker: the swarms of all torrents in the store, and its answers.
//!
//! All state is in memory and rebuilds itself: clients announce themselves every few seconds.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use campus::{Campus, Net, Role};
use jsonpipe::{Common, Exit};
use manifest::InfoHash;
use swarm::{Building, Progress, Refusal, Snapshot, SwarmBuilding, SwarmHost};

use crate::announce::Announce;
use crate::answer;
use crate::clock::Clock;
use crate::metrics::{self, Counters};
use crate::peers::{Full, Peer, Swarm};
use crate::policy::{Place, Policy};
use crate::report;
use crate::settings::Settings;
use crate::whitelist::Whitelist;

/// The tracker's state.
#[derive(Debug)]
pub struct Tracker {
    clock: Clock,
    campus: Campus,
    policy: Policy,
    whitelist: Whitelist,
    swarms: BTreeMap<InfoHash, Swarm>,
    /// The counters.
    pub counters: Counters,
}

impl Tracker {
    /// A tracker for campus.ini, seedctl.ini and the store, with the faults of single images.
    /// Status 78 or 66 when it cannot run.
    pub fn new(common: &Common, settings: Settings) -> anyhow::Result<(Tracker, Vec<String>)> {
        let campus = Campus::read(common)?;
        if let Some(name) = settings
            .buildings
            .keys()
            .find(|name| !campus.has_building(name))
        {
            let path = common.config("seedctl.ini");
            return Err(Exit::Config.error(format_args!(
                "{}: [building.{name}]: no network of campus.ini is in it",
                path.display()
            )));
        }
        let (whitelist, wrong) = Whitelist::read(common)?;
        let clock = Clock::start();
        let policy = Policy::new(&settings.everywhere, settings.buildings);
        let (swarms, counters) = Default::default();
        Ok((
            Tracker {
                clock,
                campus,
                policy,
                whitelist,
                swarms,
                counters,
            },
            wrong,
        ))
    }

    /// The time since it started.
    fn now(&self) -> Duration {
        self.clock.now()
    }

    /// A moment in the form of the documents.
    fn at(&self, moment: Duration) -> String {
        self.clock.at(moment)
    }

    /// The network of an address.
    pub fn net(&self, address: IpAddr) -> Option<&Arc<Net>> {
        self.campus.find(address)
    }

    /// Whether a host may ask for a torrent that was published since the store was read.
    pub fn is_news(&self, address: IpAddr, infohash: InfoHash) -> bool {
        self.net(address).is_some() && !self.whitelist.torrents().contains_key(&infohash)
    }

    /// Reads the store again, and returns new faults of single images. An error leaves the torrents
    /// unchanged.
    pub fn reread_store(&mut self) -> anyhow::Result<Vec<String>> {
        let wrong = self.whitelist.reread()?;
        let torrents = self.whitelist.torrents();
        self.swarms
            .retain(|infohash, _| torrents.contains_key(infohash));
        Ok(wrong)
    }

    /// Answers an announce, bencoded; the address is that of the socket.
    pub fn announce(&mut self, address: IpAddr, announce: &Announce) -> Result<Vec<u8>, Refusal> {
        let now = self.now();
        let net = self.campus.find(address).ok_or(Refusal::Stranger)?;
        let torrent = self
            .whitelist
            .torrents()
            .get(&announce.infohash)
            .ok_or(Refusal::UnknownTorrent)?;
        let swarm = self
            .swarms
            .entry(announce.infohash)
            .or_insert_with(|| Swarm::new(torrent.size_bytes));
        let answer = swarm
            .announce(now, &self.policy, net, address, announce)
            .map_err(|Full| Refusal::Full)?;
        Ok(answer.encode())
    }

    /// Answers a scrape (BEP 48), bencoded: this building's progress for the requested torrents
    /// that are known.
    pub fn scrape(&mut self, address: IpAddr, asked: &[InfoHash]) -> Result<Vec<u8>, Refusal> {
        let now = self.now();
        let place = Place::of(self.campus.find(address).ok_or(Refusal::Stranger)?);
        let mut files = BTreeMap::new();
        for infohash in asked
            .iter()
            .filter(|infohash| self.whitelist.torrents().contains_key(infohash))
        {
            let swarm = self.swarms.get_mut(infohash);
            let (complete, incomplete, downloaded) = swarm.map_or((0, 0, 0), |swarm| {
                swarm.sweep(now);
                let (complete, incomplete) = swarm.counts(&place);
                let of_place = swarm
                    .peers()
                    .values()
                    .filter(|peer| Place::of(&peer.net) == place);
                (
                    complete,
                    incomplete,
                    of_place.filter(|peer| peer.complete_at.is_some()).count(),
                )
            });
            files.insert(
                *infohash,
                answer::Scraped {
                    complete,
                    incomplete,
                    downloaded,
                },
            );
        }
        Ok(answer::scrape(&files))
    }

    /// The progress of the asking host's building; `None` for an unknown torrent. The host may
    /// include its own progress.
    pub fn building(
        &mut self,
        address: IpAddr,
        net: &Net,
        infohash: InfoHash,
        progress: Option<Progress>,
    ) -> Option<Building> {
        let now = self.now();
        self.whitelist.torrents().get(&infohash)?;
        let mut building = Building {
            building: net.building.clone(),
            role: net.role,
            complete: 0,
            incomplete: 0,
            gateway: false,
            uplink_bytes_per_second: self.policy.uplink_bytes_per_second(&net.building),
            servers: 0,
            interval_seconds: self.policy.interval.as_secs(),
            announce_again: false,
        };
        if let Some(swarm) = self.swarms.get_mut(&infohash) {
            swarm.sweep(now);
            if let Some(Progress { port, left }) = progress {
                building.announce_again =
                    swarm.progress(now, &self.policy, SocketAddr::new(address, port), left);
            }
            for peer in swarm
                .peers()
                .values()
                .filter(|peer| peer.net.building == net.building && peer.net.role == net.role)
            {
                *if peer.is_complete() {
                    &mut building.complete
                } else {
                    &mut building.incomplete
                } += 1;
            }
            building.gateway = swarm.is_gateway(address);
            building.servers = swarm.counts(&Place::Servers).0 as u64;
        }
        Some(building)
    }

    /// The current progress of all hosts and images.
    pub fn snapshot(&mut self) -> Snapshot {
        self.clock.set();
        let now = self.now();
        self.swarms.values_mut().for_each(|swarm| swarm.sweep(now));
        let swarms = self
            .whitelist
            .torrents()
            .iter()
            .map(|(infohash, torrent)| swarm::Swarm {
                infohash: *infohash,
                name: torrent.name.clone(),
                generation: torrent.generation,
                what: torrent.what,
                size_bytes: torrent.size_bytes,
                buildings: self
                    .swarms
                    .get(infohash)
                    .map_or_else(Vec::new, |swarm| self.buildings(swarm)),
            });
        Snapshot {
            at: self.at(now),
            swarms: swarms.collect(),
        }
    }

    fn buildings(&self, swarm: &Swarm) -> Vec<SwarmBuilding> {
        let mut buildings: BTreeMap<(&str, &str), SwarmBuilding> = BTreeMap::new();
        for (address, peer) in swarm.peers() {
            let Net {
                campus, building, ..
            } = &*peer.net;
            let into = buildings
                .entry((campus, building))
                .or_insert_with(|| SwarmBuilding {
                    campus: campus.clone(),
                    building: building.clone(),
                    complete: 0,
                    incomplete: 0,
                    gateways: Vec::new(),
                    hosts: Vec::new(),
                });
            *if peer.is_complete() {
                &mut into.complete
            } else {
                &mut into.incomplete
            } += 1;
            let host = self.host(address.ip(), peer);
            if host.gateway {
                into.gateways.push(host.address);
            }
            into.hosts.push(host);
        }
        buildings.into_values().collect()
    }

    fn host(&self, address: IpAddr, peer: &Peer) -> SwarmHost {
        SwarmHost {
            address,
            net: peer.net.name.clone(),
            room: peer.net.room.clone(),
            role: peer.net.role,
            left_bytes: peer.left,
            downloaded_bytes: peer.downloaded,
            uploaded_bytes: peer.uploaded,
            gateway: peer.elected_at.is_some() && peer.net.role == Role::Lab,
            first_seen_at: self.at(peer.first_seen),
            last_seen_at: self.at(peer.last_seen),
            complete_at: peer.complete_at.map(|moment| self.at(moment)),
        }
    }

    /// The metrics for Prometheus.
    pub fn metrics(&mut self) -> String {
        let now = self.now();
        self.swarms.values_mut().for_each(|swarm| swarm.sweep(now));
        metrics::metrics(&self.counters, self.whitelist.torrents(), &self.swarms)
    }

    /// The tracker's work, for the document at its end.
    pub fn summary(&mut self, listen: SocketAddr) -> report::Tracker {
        self.clock.set();
        report::Tracker {
            changed: false,
            listen,
            started_at: self.at(Duration::ZERO),
            ended_at: self.at(self.now()),
            announces: self.counters.answered(),
            refused: self.counters.refused(),
            torrents: self.whitelist.torrents().len() as u64,
            peers: self
                .swarms
                .values()
                .map(|swarm| swarm.peers().len() as u64)
                .sum(),
        }
    }
}
