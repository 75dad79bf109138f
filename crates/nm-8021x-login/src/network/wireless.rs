//! Wireless networks of a realm: which of them are in the air. (NetworkManager's D-Bus reference,
//! org.freedesktop.NetworkManager.Device.Wireless and .AccessPoint.)
//!
//! A name of the air is compared with those of the realm's file, byte by byte, and goes no further:
//! anybody can send any bytes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::bus::{Bus, Target};
use super::network_manager::{self, Device, Kind};
use crate::clock;

/// A list of networks that is older than this is asked for anew.
const OLD_SECONDS: i64 = 30;
/// How long a network may take to be found.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);
/// NetworkManager signals every network that it finds; the list is read this often at most.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// A search for the networks of a realm, on the devices that have not found one yet.
#[derive(Debug)]
pub struct Search {
    /// Objects and interfaces.
    devices: Vec<(String, String)>,
    /// The names, the best one first.
    ssids: Vec<String>,
    until: Instant,
    looked: Option<Instant>,
}

impl Search {
    /// One that finds nothing.
    pub fn none() -> Search {
        Search {
            devices: Vec::new(),
            ssids: Vec::new(),
            until: Instant::now(),
            looked: None,
        }
    }

    /// Begins one, and asks for a new list where the old one is old.
    pub fn begin(bus: &Bus, devices: Vec<(String, String)>, ssids: &[String]) -> Search {
        let devices = if ssids.is_empty() {
            Vec::new()
        } else {
            devices
        };
        for (path, _) in &devices {
            if is_old(bus, path) {
                let options = HashMap::<&str, Variant<'_>>::new();
                let _ = bus.call::<_, ()>(wireless(path), "RequestScan", &(options,)); // one is under way already
            }
        }
        Search {
            devices,
            ssids: ssids.to_owned(),
            until: Instant::now() + SEARCH_TIMEOUT,
            looked: None,
        }
    }

    /// Whether nothing more will be found.
    pub fn is_over(&self) -> bool {
        self.devices.is_empty() || Instant::now() > self.until
    }

    /// The devices that have found one since the last time.
    pub fn found(&mut self, bus: &Bus) -> Vec<Device> {
        if self.is_over()
            || self
                .looked
                .is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS)
        {
            return Vec::new();
        }
        self.looked = Some(Instant::now());
        let mut found = Vec::new();
        self.devices.retain(|(path, interface)| {
            let best = in_reach(bus, path, &self.ssids);
            let is_found = best.is_some();
            found.extend(best.map(|ssid| Device {
                path: path.clone(),
                interface: interface.clone(),
                kind: Kind::Wifi { ssid },
            }));
            !is_found
        });
        found
    }
}

/// The best of these networks that a device sees now, without a search for more.
pub fn in_reach(bus: &Bus, path: &str, ssids: &[String]) -> Option<String> {
    let air = networks(bus, path).unwrap_or_default();
    let best = ssids
        .iter()
        .find(|ssid| air.contains(&ssid.as_bytes().to_vec()));
    best.cloned()
}

fn wireless(path: &str) -> Target<'_> {
    Target {
        service: network_manager::SERVICE,
        path,
        interface: "org.freedesktop.NetworkManager.Device.Wireless",
    }
}

/// Whether the list of networks was made long ago, or never. `LastScan` is in milliseconds since
/// the boot, and -1 for never.
fn is_old(bus: &Bus, path: &str) -> bool {
    let (Ok(scanned), Ok(now)) = (
        bus.property::<i64>(wireless(path), "LastScan"),
        clock::boot_seconds(),
    ) else {
        return true;
    };
    scanned < 0 || now.cast_signed() - scanned / 1000 > OLD_SECONDS
}

/// The names of the networks that a device sees.
fn networks(bus: &Bus, path: &str) -> zbus::Result<Vec<Vec<u8>>> {
    let points: Vec<OwnedObjectPath> = bus.property(wireless(path), "AccessPoints")?;
    let name = |point: &OwnedObjectPath| -> zbus::Result<Vec<u8>> {
        let point = Target {
            service: network_manager::SERVICE,
            path: point.as_str(),
            interface: "org.freedesktop.NetworkManager.AccessPoint",
        };
        let ssid: OwnedVariant = bus.property(point, "Ssid")?;
        Vec::<u8>::try_from(ssid)
    };
    // One may be gone again.
    Ok(points.iter().filter_map(|point| name(point).ok()).collect())
}
