//! The network in the section `host`: interfaces and routes.

use serde::Serialize;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The kernel's current name: `eth0`; a removable one, whose name may contain its address, is
    /// `removable0` and so on.
    pub name: String,
    /// Whether it is hardware; bridges, tunnels and similar ones are not.
    pub hardware: bool,
    /// The kind of a virtual interface: `bond`, `bridge` or `vlan`; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Whether it is removable: on USB, or behind an external port. It causes no events, and has no
    /// addresses here: it may be a user's telephone.
    pub removable: bool,
    /// Whether it is wireless.
    pub wireless: bool,
    /// Its Ethernet address: `00:1b:21:0a:0b:0c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The permanent Ethernet address; absent when it has none, or the kernel does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permanent_mac: Option<String>,
    /// Its driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its PCI address: `0000:00:19.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// Whether there is a link; absent while the interface is down, which hides the link state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// The speed of the link, one way; of a wireless one, the transmit rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_bits_per_second: Option<u64>,
    /// The best speed that both ends of the cable offer; absent when the other end does not report
    /// its modes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_speed_bits_per_second: Option<u64>,
    /// `full` or `half`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplex: Option<String>,
    /// True when a technician accepted the link, or its absence, and it has not become worse since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// Its addresses with the length of the prefix: `10.0.3.7/24`; empty for a removable one.
    pub addresses: Vec<String>,
    /// Bytes received since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes sent since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Damaged frames received since boot: a bad cable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_errors: Option<u64>,
    /// The wireless network that it uses; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub station: Option<Station>,
}

impl Interface {
    /// Its identity: the permanent address, otherwise the current one, otherwise its name.
    pub fn subject(&self) -> &str {
        self.permanent_mac
            .as_ref()
            .or(self.mac.as_ref())
            .unwrap_or(&self.name)
    }

    /// Whether it is built in and wired: its link can be made worse by a person.
    pub fn stays(&self) -> bool {
        self.hardware && !self.removable && !self.wireless
    }
}

/// A connection to an access point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Station {
    /// The network's name, while the interface has an address of campus.ini: other names may be
    /// personal, as those of telephones. Bytes that are not UTF-8 are replaced by U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssid: Option<String>,
    /// The access point, under the same condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bssid: Option<String>,
    /// Its channel, in MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_mhz: Option<u64>,
    /// The signal strength: -60 is good, -80 hardly works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_dbm: Option<i64>,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The destination: `0.0.0.0/0` is the default route.
    pub destination: String,
    /// The gateway; absent on the same segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The interface.
    pub interface: String,
    /// The route with the lower metric is used.
    pub metric: u64,
}

impl Route {
    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        ["0.0.0.0/0", "::/0"].contains(&self.destination.as_str())
    }
}
