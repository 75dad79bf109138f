//! The network in the section `host`: interfaces and routes.

use serde::Serialize;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// What the kernel calls it now: `eth0`; a removable one, whose name may hold its address, is
    /// `removable0` and so on.
    pub name: String,
    /// Whether it is hardware; bridges, tunnels and the like are not.
    pub hardware: bool,
    /// What is made of other interfaces: `bond`, `bridge` or `vlan`; absent for all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Whether it comes and goes: on USB, or behind a port for what is outside the case. No events
    /// are told of it, and it has no addresses here: it may be somebody's telephone.
    pub removable: bool,
    /// Whether it is wireless.
    pub wireless: bool,
    /// Its Ethernet address: `00:1b:21:0a:0b:0c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The Ethernet address that it was made with; absent when it has none, or the kernel does not
    /// know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permanent_mac: Option<String>,
    /// Its driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Where it is plugged in: `0000:00:19.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// Whether there is a link; absent while the interface is down, when nobody can know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// How fast the link is, one way; of a wireless one, what it sends at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_bits_per_second: Option<u64>,
    /// The best that both ends of the cable offer; absent when the other end does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_speed_bits_per_second: Option<u64>,
    /// `full` or `half`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplex: Option<String>,
    /// True when a technician accepted the link, or that there is none, and it has not become worse
    /// since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// Its addresses with the length of the prefix: `10.0.3.7/24`; none of a removable one.
    pub addresses: Vec<String>,
    /// Bytes that came in since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes that went out since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Frames that came in broken since boot: a bad cable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_errors: Option<u64>,
    /// The wireless network that it is in; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub station: Option<Station>,
}

impl Interface {
    /// What it is known by: the address that it was made with, otherwise the one that it has,
    /// otherwise its name.
    pub fn subject(&self) -> &str {
        self.permanent_mac
            .as_ref()
            .or(self.mac.as_ref())
            .unwrap_or(&self.name)
    }

    /// Whether it is part of the machine and wired: its link is one that somebody can make worse.
    pub fn stays(&self) -> bool {
        self.hardware && !self.removable && !self.wireless
    }
}

/// A connection to an access point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Station {
    /// The network's name, while the interface has an address of campus.ini: others may bear
    /// somebody's name, as telephones do. What of it is not UTF-8 is replaced by U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssid: Option<String>,
    /// The access point, under the same condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bssid: Option<String>,
    /// Its channel, in MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_mhz: Option<u64>,
    /// How well it is heard: -60 is good, -80 hardly works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_dbm: Option<i64>,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Where to: `0.0.0.0/0` is the default route.
    pub destination: String,
    /// By whom; absent on the same wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Through which interface.
    pub interface: String,
    /// The lower one is taken.
    pub metric: u64,
}

impl Route {
    /// Whether it is the one for all that has no other.
    pub fn is_default(&self) -> bool {
        ["0.0.0.0/0", "::/0"].contains(&self.destination.as_str())
    }
}
