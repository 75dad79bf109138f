//! The wireless networks of the machine, from nl80211 (linux/nl80211.h).

use std::collections::HashMap;
use std::io;

use serde::Deserialize;

use crate::read::netlink::{Family, attribute, find, number};
use crate::report::Station;

const GET_INTERFACE: u8 = 5;
const GET_STATION: u8 = 17;
const IFINDEX: u16 = 3;
const IFNAME: u16 = 4;
const MAC: u16 = 6;
const STA_INFO: u16 = 21;
const WIPHY_FREQ: u16 = 38;
const SSID: u16 = 52;
const STA_INFO_SIGNAL: u16 = 7;
const STA_INFO_TX_BITRATE: u16 = 8;
const RATE_INFO_BITRATE: u16 = 1;
const RATE_INFO_BITRATE32: u16 = 5;

/// nl80211's answer for a connected interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// The network's name, arbitrary bytes chosen by its owner.
    pub ssid: Option<String>,
    /// The access point.
    pub bssid: Option<String>,
    /// Its channel, in MHz.
    pub frequency_mhz: Option<u64>,
    /// The signal strength.
    pub signal_dbm: Option<i64>,
    /// The transmit rate, in bits per second.
    pub speed_bits_per_second: Option<u64>,
}

impl Answer {
    /// The form of the report.
    pub fn station(&self) -> Station {
        let Answer {
            ssid,
            bssid,
            frequency_mhz,
            signal_dbm,
            ..
        } = self.clone();
        Station {
            ssid,
            bssid,
            frequency_mhz,
            signal_dbm,
        }
    }
}

/// The network of each connected interface. `NotFound` when the kernel has no wireless support.
pub fn stations() -> io::Result<HashMap<String, Answer>> {
    let mut nl80211 = Family::find("nl80211")?;
    let mut stations = HashMap::new();
    for interface in nl80211.ask(GET_INTERFACE, true, &[])? {
        let (Some(name), Some(index)) = (
            find(&interface, IFNAME).map(text),
            number(&interface, IFINDEX),
        ) else {
            continue;
        };
        let found = nl80211.ask(GET_STATION, true, &attribute(IFINDEX, &index.to_ne_bytes()))?;
        // A client has one station, the access point. Without one it is not connected.
        if let Some(station) = found.first() {
            stations.insert(name, answer(&interface, station));
        }
    }
    Ok(stations)
}

fn answer(interface: &[u8], station: &[u8]) -> Answer {
    let info = find(station, STA_INFO).unwrap_or_default();
    let rate = find(info, STA_INFO_TX_BITRATE).and_then(|rate| {
        // In 100 kb/s; the older field of 16 bits is too small for newer rates.
        let short = || {
            find(rate, RATE_INFO_BITRATE)?
                .try_into()
                .ok()
                .map(u16::from_ne_bytes)
                .map(u64::from)
        };
        number(rate, RATE_INFO_BITRATE32)
            .map(u64::from)
            .or_else(short)
    });
    Answer {
        ssid: find(interface, SSID)
            .map(text)
            .filter(|ssid| !ssid.is_empty()),
        bssid: find(station, MAC).map(mac),
        frequency_mhz: number(interface, WIPHY_FREQ).map(u64::from),
        signal_dbm: find(info, STA_INFO_SIGNAL)
            .and_then(|signal| Some(i64::from(*signal.first()? as i8))),
        speed_bits_per_second: rate.filter(|rate| *rate > 0).map(|rate| rate * 100_000),
    }
}

/// The name is untrusted text.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    jsonpipe::shown(text.trim_end_matches('\0')).into_owned()
}

fn mac(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::netlink::nest;

    #[test]
    fn a_station_is_read() {
        let interface = [
            attribute(SSID, b"eduroam"),
            attribute(WIPHY_FREQ, &5180u32.to_ne_bytes()),
        ]
        .concat();
        let rate = nest(
            STA_INFO_TX_BITRATE,
            &attribute(RATE_INFO_BITRATE32, &8667u32.to_ne_bytes()),
        );
        let info = nest(
            STA_INFO,
            &[attribute(STA_INFO_SIGNAL, &[-61i8 as u8]), rate].concat(),
        );
        let station = [attribute(MAC, &[2, 0, 0, 0xa, 0xb, 0xc]), info].concat();
        let expected = Answer {
            ssid: Some("eduroam".into()),
            bssid: Some("02:00:00:0a:0b:0c".into()),
            frequency_mhz: Some(5180),
            signal_dbm: Some(-61),
            speed_bits_per_second: Some(866_700_000),
        };
        assert_eq!(answer(&interface, &station), expected);
        assert_eq!(answer(&[], &[]), Answer::default());
    }

    #[test]
    fn a_hostile_name_stays_a_name() {
        let ssid = |bytes: &[u8]| answer(&attribute(SSID, bytes), &[]).ssid;
        assert_eq!(
            ssid(b"\x1b[2J\n\"x\xff").as_deref(),
            Some("\u{fffd}[2J\u{fffd}\"x\u{fffd}")
        );
        assert_eq!(ssid("a\u{202e}b".as_bytes()).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(ssid(b""), None);
        assert_eq!(ssid(&[0; 32]), None, "a hidden one");
    }
}
