//! The origin of an image's bytes: this building, outside, an old image, or nowhere (zeros).
//!
//! aria2 reports the exact length that is present, and each peer's speed, averaged over the last
//! ten seconds, but not the bytes that each peer has sent. So the growth between two polls is
//! divided in proportion to the peers' speeds: the sum is exact, the division is off by the changes
//! of shares within ten seconds. Bytes that arrive while no speed is known are divided at the next
//! poll; the rest at the end counts as from outside, so that a crossing is never hidden.
//!
//! The account is kept in a small file, so that an interrupted transfer continues with it.

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

/// The kind of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A host of this building.
    Building,
    /// A host of another building, or of an unknown one.
    Outside,
    /// A server.
    Server,
}

/// This host's place on the campus.
#[derive(Clone, Debug)]
pub struct Here {
    campus: Campus,
    /// This host's network; `None` when campus.ini lacks it.
    net: Option<Arc<Net>>,
}

impl Here {
    /// The place of the host with this address.
    pub fn new(campus: Campus, own: IpAddr) -> Here {
        let net = campus.find(own).cloned();
        Here { campus, net }
    }

    /// The kind of the peer with this address.
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

/// The account of one transfer, in its form on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Account {
    /// The name of the base.
    pub name: String,
    /// Its generation.
    pub generation: u64,
    /// The infohash of its torrent.
    pub infohash: String,
    /// The length of the image.
    pub size_bytes: u64,
    /// The bytes from hosts of this building.
    pub building_bytes: u64,
    /// The bytes from servers and from other buildings.
    pub outside_bytes: u64,
    /// The bytes that were here already, in old images.
    pub reused_bytes: u64,
    /// The bytes that are zeros, and came from nowhere.
    pub zero_bytes: u64,
    /// The kinds of peers that it was ever connected to, in order.
    pub reached: Vec<Origin>,
    /// Whether the tracker ever made this host a gateway; `None` while that is not known.
    pub gateway: Option<bool>,
}

impl Account {
    /// Reads the account of a torrent; empty when it does not exist or cannot be read, since the
    /// transfer does not depend on it.
    pub fn read(common: &Common, infohash: InfoHash) -> Account {
        let text = fs::read(path(common, infohash)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the account.
    pub fn write(&self, common: &Common, infohash: InfoHash) -> anyhow::Result<()> {
        atomic::create_directory(&common.path(DIRECTORY), 0o755)?;
        let text = serde_json::to_vec(self)
            .map_err(io::Error::other)
            .exit(Exit::Software, || "writing an account")?;
        atomic::write(&path(common, infohash), 0o644, |file| file.write_all(&text))
    }

    /// Counts new bytes. The numbers are aria2's, which talks to untrusted peers, so overflow is
    /// possible.
    fn add(&mut self, building: u64, outside: u64) {
        self.building_bytes = self.building_bytes.saturating_add(building);
        self.outside_bytes = self.outside_bytes.saturating_add(outside);
    }

    /// The bytes that came over the network.
    fn network_bytes(&self) -> u64 {
        self.building_bytes.saturating_add(self.outside_bytes)
    }

    /// Continues an earlier call's account. `kept` bytes of the file are present, without zeros:
    /// those that the earlier call had not found on this machine came over the network, including
    /// those that aria2 fetched after that call was killed.
    pub fn resume(&mut self, kept: u64) {
        let fetched = kept.saturating_sub(self.reused_bytes);
        let share = (u128::from(fetched) * u128::from(self.building_bytes))
            .checked_div(u128::from(self.network_bytes()));
        self.building_bytes = share.map_or(0, |share| share as u64);
        self.outside_bytes = fetched - self.building_bytes;
    }

    /// Reduces the network bytes to at most `kept`, the bytes of the file that are left.
    fn keep_at_most(&mut self, kept: u64) {
        let too_much = self.network_bytes().saturating_sub(kept);
        let from_building = too_much.min(self.building_bytes);
        self.building_bytes -= from_building;
        self.outside_bytes -= (too_much - from_building).min(self.outside_bytes);
    }

    /// The image is complete: bytes that neither came over the network nor are zeros were here
    /// already.
    pub fn close(&mut self) {
        self.zero_bytes = self.zero_bytes.min(self.size_bytes);
        self.keep_at_most(self.size_bytes - self.zero_bytes);
        self.reused_bytes = self.size_bytes - self.zero_bytes - self.network_bytes();
    }

    /// Whether the account covers a whole image of this size.
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

    /// Whether it reached only servers; [`None`] when it reached no peer.
    pub fn server_only(&self) -> Option<bool> {
        (!self.reached.is_empty()).then(|| self.reached == [Origin::Server])
    }
}

fn path(common: &Common, infohash: InfoHash) -> PathBuf {
    common.path(DIRECTORY).join(format!("{infohash}.json"))
}

/// Divides new bytes by their origin.
#[derive(Debug)]
pub struct Counter {
    /// The greatest length present so far; pieces that come again after a damaged one are not
    /// counted twice.
    highest: u64,
    /// Whether aria2 has finished its check, so that its numbers are reliable.
    settled: bool,
    /// Bytes that have arrived but are not divided yet.
    open: u64,
    /// Whether all peers seen were of this building; `None` before the first.
    only_building: Option<bool>,
}

impl Counter {
    /// `present` is the number of bytes that need not arrive.
    pub fn new(present: u64) -> Counter {
        Counter {
            highest: present,
            settled: false,
            open: 0,
            only_building: None,
        }
    }

    /// Enters aria2's current numbers into the account. `here` is `None` where the campus is not
    /// known.
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
                // The check rejected some of the supposed bytes without reporting how many: then
                // none count.
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
        // The rest is divided like the bytes before. Without any, it counts as from outside, unless
        // only peers of this building were seen.
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
                    segment: None,
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
