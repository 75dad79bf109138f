//! The configuration of the policy by campus.ini and seedctl.ini: the places, and the numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use campus::{Net, Role};

use crate::settings::{Building, Numbers};

/// Hosts that are treated as one.
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
    /// Where the hosts of a network belong.
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
    /// How often a host that is not done announces itself.
    pub interval: Duration,
    gateways: usize,
    wireless_hosts: usize,
    buildings: BTreeMap<String, Building>,
}

impl Policy {
    /// From seedctl.ini.
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

    /// How often a host announces itself once its whole building is done.
    pub fn idle_interval(&self) -> Duration {
        6 * self.interval
    }

    /// How long a host may get nothing, and how long one that is not done may be silent.
    pub fn patience(&self) -> Duration {
        3 * self.interval
    }

    /// How long after its start the tracker does not yet know everybody. Clients take a second or
    /// two more than an interval.
    pub fn settling(&self) -> Duration {
        2 * self.interval
    }

    /// How many hosts of a place are told what is outside of it.
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

    /// What each of a building's gateways may fetch from outside, its share of the building's
    /// budget; `None` for no limit.
    pub fn uplink_bytes_per_second(&self, building: &str) -> Option<u64> {
        let together = self.buildings.get(building)?.uplink_bytes_per_second?;
        let gateways = self.gateways(&Place::Building(building.to_owned())) as u64;
        Some((together / gateways.max(1)).max(1))
    }
}
