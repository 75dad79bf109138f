//! Where the bytes of an image came from: this building, outside, an old image, nowhere (zeros).
//!
//! aria2 tells how much of a file is there, exactly, and how fast each peer sends, on average over
//! the last ten seconds, but not how much each peer has sent. So the growth of the file between two
//! looks is divided as the peers' speeds were: the sum is exact, the division is off by what the
//! shares changed within ten seconds. What arrives while no speed is known waits for the next look;
//! what is left at the end counts as from outside, so that a crossing is never hidden.
//!
//! The account is kept in a small file, so that an interrupted transfer goes on with it.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jsonpipe::{Common, Exit, ExitContext, atomic};
use manifest::InfoHash;
use serde::{Deserialize, Serialize};

use crate::aria2::Peer;
use campus::Role;
use campus::{Campus, Net};

const DIRECTORY: &str = "/var/lib/labtools/transfers";

/// What kind of peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A host of this building.
    Building,
    /// A host of another building, or of none that is known.
    Outside,
    /// A server.
    Server,
}

/// The own place on the campus.
#[derive(Clone, Debug)]
pub struct Here {
    campus: Campus,
    /// The network that this host is in; `None` when campus.ini does not have it.
    net: Option<Arc<Net>>,
}

impl Here {
    /// Of the host with this address.
    pub fn new(campus: Campus, own: IpAddr) -> Here {
        let net = campus.find(own).cloned();
        Here { campus, net }
    }

    /// What kind of peer an address is.
    pub fn origin(&self, address: IpAddr) -> Origin {
        let found = self.campus.find(address);
        match (found, &self.net) {
            (Some(found), _) if found.role == Role::Servers => Origin::Server,
            (Some(found), Some(own))
                if found.building == own.building && found.role == own.role =>
            {
                Origin::Building
            }
            _ => Origin::Outside,
        }
    }
}

/// The account of one transfer, as it is kept on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Account {
    /// The name of the base.
    pub name: String,
    /// Its generation.
    pub generation: u64,
    /// Which torrent.
    pub infohash: String,
    /// How long the image is.
    pub size_bytes: u64,
    /// What came from hosts of this building.
    pub building_bytes: u64,
    /// What came from servers and from other buildings.
    pub outside_bytes: u64,
    /// What was here already, in old images.
    pub reused_bytes: u64,
    /// What is zeros, and came from nowhere.
    pub zero_bytes: u64,
    /// The kinds of peers that it was ever connected to, in order.
    pub reached: Vec<Origin>,
    /// Whether the tracker ever told it to fetch for its building; `None` while it did not say.
    pub gateway: Option<bool>,
}

impl Account {
    /// Reads the account of a torrent; an empty one when there is none, or none that can be read:
    /// it is only an account.
    pub fn read(common: &Common, infohash: InfoHash) -> Account {
        let text = fs::read(path(common, infohash)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it.
    pub fn write(&self, common: &Common, infohash: InfoHash) -> anyhow::Result<()> {
        atomic::create_directory(&common.path(DIRECTORY), 0o755)?;
        let text = serde_json::to_vec(self)
            .map_err(io::Error::other)
            .exit(Exit::Software, || "writing an account")?;
        atomic::write(&path(common, infohash), 0o644, |file| file.write_all(&text))
    }

    /// Counts what came. aria2 may say anything: its numbers are those of a program that listens to
    /// everybody.
    fn add(&mut self, building: u64, outside: u64) {
        self.building_bytes = self.building_bytes.saturating_add(building);
        self.outside_bytes = self.outside_bytes.saturating_add(outside);
    }

    /// What came over the network.
    fn network_bytes(&self) -> u64 {
        self.building_bytes.saturating_add(self.outside_bytes)
    }

    /// Goes on with an earlier call's account. Of the file `kept` bytes are there, but for zeros:
    /// what that call had not found on this machine came over the network, also what aria2 fetched
    /// after that call had been killed.
    pub fn resume(&mut self, kept: u64) {
        let fetched = kept.saturating_sub(self.reused_bytes);
        let share = (u128::from(fetched) * u128::from(self.building_bytes))
            .checked_div(u128::from(self.network_bytes()));
        self.building_bytes = share.map_or(0, |share| share as u64);
        self.outside_bytes = fetched - self.building_bytes;
    }

    /// Forgets what came over the network and is not there any more: of what it had, at most `kept`
    /// bytes are left.
    fn keep_at_most(&mut self, kept: u64) {
        let too_much = self.network_bytes().saturating_sub(kept);
        let from_building = too_much.min(self.building_bytes);
        self.building_bytes -= from_building;
        self.outside_bytes -= (too_much - from_building).min(self.outside_bytes);
    }

    /// All is there: what did not come over the network and is not zeros was here already.
    pub fn close(&mut self) {
        self.zero_bytes = self.zero_bytes.min(self.size_bytes);
        self.keep_at_most(self.size_bytes - self.zero_bytes);
        self.reused_bytes = self.size_bytes - self.zero_bytes - self.network_bytes();
    }

    /// Whether it is the account of a whole image of this size.
    pub fn is_closed(&self, size_bytes: u64) -> bool {
        let sum = [
            self.building_bytes,
            self.outside_bytes,
            self.reused_bytes,
            self.zero_bytes,
        ]
        .iter()
        .try_fold(0_u64, |a, b| a.checked_add(*b));
        self.size_bytes == size_bytes && sum == Some(size_bytes)
    }

    /// Whether it only ever reached servers, of those that it could have reached: [`None`] when it
    /// reached nobody.
    pub fn server_only(&self) -> Option<bool> {
        (!self.reached.is_empty()).then(|| self.reached == [Origin::Server])
    }
}

fn path(common: &Common, infohash: InfoHash) -> PathBuf {
    common.path(DIRECTORY).join(format!("{infohash}.json"))
}

/// Divides what arrives.
#[derive(Debug)]
pub struct Counter {
    /// How much of the file was there at the most; what comes again after a broken piece is not
    /// counted twice.
    highest: u64,
    /// Whether aria2 has finished its check, so that what it says is there is there.
    settled: bool,
    /// What has arrived and is not divided yet.
    open: u64,
    /// Whether any peer was seen, and none that is not of this building.
    only_building: Option<bool>,
}

impl Counter {
    /// `present` is what need not come.
    pub fn new(present: u64) -> Counter {
        Counter {
            highest: present,
            settled: false,
            open: 0,
            only_building: None,
        }
    }

    /// Takes what aria2 says now into the account. `here` is `None` where the campus is not known.
    pub fn look(
        &mut self,
        account: &mut Account,
        completed: u64,
        peers: &[Peer],
        here: Option<&Here>,
    ) {
        if !self.settled && (completed > 0 || !peers.is_empty()) {
            self.settled = true;
            if completed < self.highest {
                // The check did not like all that we thought was there, and how much it did is not
                // told: then nothing counts.
                self.highest = 0;
            }
        }
        self.open = self
            .open
            .saturating_add(completed.saturating_sub(self.highest));
        self.highest = self.highest.max(completed);
        let (mut building, mut all) = (0_u128, 0_u128);
        for peer in peers {
            let origin = here.map_or(Origin::Outside, |here| here.origin(peer.ip));
            if here.is_some()
                && let Err(at) = account.reached.binary_search(&origin)
            {
                account.reached.insert(at, origin);
            }
            self.only_building =
                Some(self.only_building != Some(false) && origin == Origin::Building);
            all += u128::from(peer.download_speed);
            if origin == Origin::Building {
                building += u128::from(peer.download_speed);
            }
        }
        if let Some(share) = (u128::from(self.open) * building).checked_div(all) {
            let share = share as u64;
            account.add(share, self.open - share);
            self.open = 0;
        }
    }

    /// The end: `present` is the whole length.
    pub fn finish(mut self, account: &mut Account, length: u64) {
        self.open = self
            .open
            .saturating_add(length.saturating_sub(self.highest));
        // As the rest came. When nothing is known of that, from outside, unless nobody from outside
        // was ever seen.
        let known = u128::from(account.network_bytes());
        let alone = if self.only_building == Some(true) {
            self.open
        } else {
            0
        };
        let share = (u128::from(self.open) * u128::from(account.building_bytes)).checked_div(known);
        let share = share.map_or(alone, |share| share as u64);
        account.add(share, self.open - share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A campus from `CIDR BUILDING ROOM ROLE`; the networks are named `n0`, `n1`, ...
    fn campus(nets: &[(&str, &str, &str, Role)]) -> Result<Campus, String> {
        let entry = |(index, (cidr, building, room, role)): (usize, &(&str, &str, &str, Role))| {
            let [cidr, campus, building, room] =
                [cidr, "campus", building, room].map(|text: &str| text.to_owned());
            (
                format!("n{index}"),
                campus::Entry {
                    cidr,
                    ethernet: None,
                    campus,
                    building,
                    room,
                    role: *role,
                },
            )
        };
        Campus::new(nets.iter().enumerate().map(entry).collect())
    }

    fn here() -> Here {
        let campus = campus(&[
            ("10.0.0.0/24", "core", "servers", Role::Servers),
            ("10.0.1.0/24", "b1", "101", Role::Lab),
            ("10.0.2.0/24", "b1", "102", Role::Lab),
            ("10.0.3.0/24", "b3", "301", Role::Lab),
            ("10.0.4.0/24", "b1", "air", Role::Wireless),
        ]);
        Here::new(campus.unwrap(), "10.0.1.7".parse().unwrap())
    }

    fn peers(of: &[(&str, u64)]) -> Vec<Peer> {
        of.iter()
            .map(|(ip, download_speed)| Peer {
                ip: ip.parse().unwrap(),
                download_speed: *download_speed,
            })
            .collect()
    }

    #[test]
    fn a_peer_is_of_the_building_a_server_or_from_outside() {
        let here = here();
        let origin = |address: &str| here.origin(address.parse().unwrap());
        use Origin::{Building, Outside, Server};
        for (address, expected) in [
            ("10.0.1.8", Building),
            ("::ffff:10.0.2.1", Building),
            ("10.0.3.1", Outside),
            ("10.0.0.2", Server),
            ("10.0.4.1", Outside),
            ("192.0.2.1", Outside),
            ("2001:db8::1", Outside),
        ] {
            assert_eq!(origin(address), expected, "{address}");
        }
    }

    #[test]
    fn growth_is_divided_as_the_speeds_are() {
        let (here, mut account) = (
            here(),
            Account {
                size_bytes: 1000,
                zero_bytes: 100,
                ..Account::default()
            },
        );
        let mut counter = Counter::new(300);
        counter.look(&mut account, 0, &[], Some(&here)); // still checking
        counter.look(&mut account, 300, &[], Some(&here));
        let both = peers(&[("10.0.1.8", 30), ("10.0.0.2", 10)]);
        counter.look(&mut account, 700, &both, Some(&here));
        assert_eq!((account.building_bytes, account.outside_bytes), (300, 100));
        counter.look(&mut account, 650, &both, Some(&here)); // a broken piece
        counter.look(&mut account, 700, &both, Some(&here));
        counter.look(&mut account, 800, &peers(&[("10.0.1.8", 0)]), Some(&here)); // waits
        assert_eq!((account.building_bytes, account.outside_bytes), (300, 100));
        counter.finish(&mut account, 1000);
        account.close();
        assert_eq!(
            (
                account.building_bytes,
                account.outside_bytes,
                account.reused_bytes,
                account.zero_bytes
            ),
            (525, 175, 200, 100)
        );
        assert_eq!(
            (account.reached.as_slice(), account.server_only()),
            (&[Origin::Building, Origin::Server][..], Some(false))
        );
    }

    #[test]
    fn rejected_pieces_are_fetched_and_counted() {
        let mut account = Account {
            size_bytes: 1000,
            ..Account::default()
        };
        let mut counter = Counter::new(1000);
        counter.look(&mut account, 400, &peers(&[("10.0.0.2", 1)]), Some(&here()));
        counter.finish(&mut account, 1000);
        account.close();
        assert_eq!(
            (
                account.outside_bytes,
                account.reused_bytes,
                account.server_only()
            ),
            (1000, 0, Some(true))
        );
    }

    #[test]
    fn bytes_of_an_earlier_call_are_not_reused() {
        let account = |reused_bytes, building_bytes, outside_bytes, kept| {
            let mut account = Account {
                reused_bytes,
                building_bytes,
                outside_bytes,
                ..Account::default()
            };
            account.resume(kept);
            (account.building_bytes, account.outside_bytes)
        };
        assert_eq!(account(100, 30, 10, 180), (60, 20));
        assert_eq!(account(100, 0, 0, 180), (0, 80));
        assert_eq!(account(100, 30, 10, 60), (0, 0));
    }

    proptest! {
        #[test]
        fn the_sum_is_the_size(
            size in 1_u64..1 << 40, zero in any::<u64>(), building in any::<u64>(), outside in any::<u64>(), kept in any::<u64>(),
            present in any::<u64>(), looks in proptest::collection::vec((any::<u64>(), any::<u32>(), any::<u32>()), 0..20),
        ) {
            let mut account =
                Account { size_bytes: size, zero_bytes: zero, building_bytes: building, outside_bytes: outside, ..Account::default() };
            account.resume(kept.min(size));
            let (here, mut counter) = (here(), Counter::new(present % (size + 1)));
            for (completed, near, far) in looks {
                let peers = peers(&[("10.0.1.8", near.into()), ("10.0.3.8", far.into())]);
                counter.look(&mut account, completed, &peers, Some(&here));
            }
            counter.finish(&mut account, size);
            account.close();
            let sum = account.building_bytes + account.outside_bytes + account.reused_bytes + account.zero_bytes;
            prop_assert_eq!(sum, size);
        }
    }
}
