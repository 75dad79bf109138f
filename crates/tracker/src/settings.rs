//! The tracker's sections of seedctl.ini.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use jsonpipe::ini::Configuration;
use serde::Deserialize;

/// The tracker's settings. Keys missing in the file have their defaults.
#[derive(Debug, Default)]
pub struct Settings {
    /// `[tracker]`.
    pub everywhere: Numbers,
    /// `[building.NAME]`.
    pub buildings: BTreeMap<String, Building>,
}

/// `[tracker]` in seedctl.ini.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Numbers {
    /// The address and port to listen on: `[::]:6969`, which includes IPv4.
    pub listen: SocketAddr,
    /// The announce interval of a client whose building is not complete.
    pub interval_seconds: u64,
    /// The number of hosts of a building that learn the servers and the other buildings' gateways.
    pub gateways: usize,
    /// The number of wireless hosts that learn the servers at a time, per torrent.
    pub wireless_hosts: usize,
}

impl Default for Numbers {
    fn default() -> Numbers {
        let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 6969));
        Numbers {
            listen,
            interval_seconds: 10,
            gateways: 1,
            wireless_hosts: 4,
        }
    }
}

/// `[building.NAME]` in seedctl.ini: the exceptions of a building.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Building {
    /// Overrides the tracker's number.
    pub gateways: Option<usize>,
    /// The budget of its gateways together for fetching from outside; absent for no limit.
    pub uplink_bytes_per_second: Option<u64>,
}

impl Settings {
    /// Takes the tracker's sections out of the file.
    pub fn read(file: &mut Configuration) -> anyhow::Result<Settings> {
        Ok(Settings {
            everywhere: file.section("tracker")?.unwrap_or_default(),
            buildings: file.table("building")?.into_iter().collect(),
        })
    }

    /// Checks that the types cannot express.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=600).contains(&self.everywhere.interval_seconds) {
            return Err("tracker.interval_seconds: not from 1 to 600".into());
        }
        let gateways = self
            .buildings
            .iter()
            .map(|(name, building)| (format!("building.{name}"), building.gateways));
        for (section, gateways) in
            gateways.chain([("tracker".to_owned(), Some(self.everywhere.gateways))])
        {
            if gateways.is_some_and(|gateways| !(1..=16).contains(&gateways)) {
                return Err(format!("{section}.gateways: not from 1 to 16"));
            }
        }
        for (name, building) in &self.buildings {
            if building.uplink_bytes_per_second == Some(0) {
                return Err(format!(
                    "building.{name}.uplink_bytes_per_second: 0 lets nothing in; leave it out for no limit"
                ));
            }
        }
        Ok(())
    }
}
