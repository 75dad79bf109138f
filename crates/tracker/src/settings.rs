//! The sections of seedctl.ini that are the tracker's.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use jsonpipe::ini::Configuration;
use serde::Deserialize;

/// How the tracker is set up. What the file does not say is as without it.
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
    /// The address and port to listen at: `[::]:6969`, which is IPv4, too.
    pub listen: SocketAddr,
    /// How often a client announces itself while its building is not complete.
    pub interval_seconds: u64,
    /// How many hosts of a building are told the servers and the other buildings' gateways.
    pub gateways: usize,
    /// How many wireless hosts are told the servers at a time, of each torrent.
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

/// `[building.NAME]` in seedctl.ini: what differs in a building.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Building {
    /// Instead of the tracker's own number.
    pub gateways: Option<usize>,
    /// What its gateways together may fetch from outside; absent for no limit.
    pub uplink_bytes_per_second: Option<u64>,
}

impl Settings {
    /// Takes its sections out of the file.
    pub fn read(file: &mut Configuration) -> anyhow::Result<Settings> {
        Ok(Settings {
            everywhere: file.section("tracker")?.unwrap_or_default(),
            buildings: file.table("building")?.into_iter().collect(),
        })
    }

    /// What the types cannot say.
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
