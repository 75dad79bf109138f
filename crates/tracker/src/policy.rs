//! The settings of the policy from campus.ini and seedctl.ini: the places and the numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use campus::{Net, Role};

use crate::settings::{Building, Numbers};

/// A group of hosts that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All servers.
    Servers,
    /// All wireless hosts.
    Wireless,
    /// The lab hosts of a building.
    Building(String),
}

impl Place {
    /// The place of a network's hosts.
    pub fn of(net: &Net) -> Place {
        match net.role {
            Role::Servers => Place::Servers,
            Role::Wireless => Place::Wireless,
            Role::Lab => Place::Building(net.building.clone()),
        }
    }
}

/// The numbers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The announce interval of an incomplete host.
    pub interval: Duration,
    gateways: usize,
    wireless_hosts: usize,
    buildings: BTreeMap<String, Building>,
}

impl Policy {
    /// Takes them from seedctl.ini.
    pub fn new(numbers: &Numbers, buildings: BTreeMap<String, Building>) -> Policy {
        let Numbers {
            interval_seconds,
            gateways,
            wireless_hosts,
            ..
        } = *numbers;
        Policy {
            interval: Duration::from_secs(interval_seconds),
            gateways,
            wireless_hosts,
            buildings,
        }
    }

    /// The announce interval of a host whose whole building is complete.
    pub fn idle_interval(&self) -> Duration {
        6 * self.interval
    }

    /// The maximum time that a host may receive nothing, or an incomplete one may be silent.
    pub fn patience(&self) -> Duration {
        3 * self.interval
    }

    /// The time after the start in which the tracker does not know every host yet. Clients take a
    /// second or two more than an interval.
    pub fn settling(&self) -> Duration {
        2 * self.interval
    }

    /// The number of hosts of a place that learn peers outside of it.
    pub fn gateways(&self, place: &Place) -> usize {
        match place {
            Place::Servers => 0,
            Place::Wireless => self.wireless_hosts,
            Place::Building(name) => self
                .buildings
                .get(name)
                .and_then(|building| building.gateways)
                .unwrap_or(self.gateways),
        }
    }

    /// The uplink budget of each gateway of a building, an equal share of the building's; `None`
    /// for no limit.
    pub fn uplink_bytes_per_second(&self, building: &str) -> Option<u64> {
        let together = self.buildings.get(building)?.uplink_bytes_per_second?;
        let gateways = self.gateways(&Place::Building(building.to_owned())) as u64;
        Some((together / gateways.max(1)).max(1))
    }
}
