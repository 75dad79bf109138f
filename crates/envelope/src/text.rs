//! The text of the thesis's script (Figure 28): the output of eight commands, each under `---- COMMAND ----`, errors among it.
//!
//! A lab machine [`write`]s it for a collector that knows nothing else, and starts none of the commands. A server [`parse`]s it,
//! from such a machine or from the script itself.

mod cctk;
mod parse;
mod write;

pub use cctk::{opened, settings};
pub use parse::parse;
pub use write::write;

/// The firmware's settings, Dell's.
const CCTK: &str = "cctk -o /dev/stdout";
const MEMINFO: &str = "cat /proc/meminfo";
const DF: &str = "df";
const NET_DEV: &str = "cat /proc/net/dev";
const NET_WIRELESS: &str = "cat /proc/net/wireless";
const ADDRESSES: &str = "ip addr";
const ROUTES: &str = "ip route";
/// An interface follows.
const ETHTOOL: &str = "ethtool ";
/// The one interface that the script asks about.
const ETHTOOL_INTERFACE: &str = "eth0";

/// What such a text says. What it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The firmware's settings, by name.
    pub settings: Vec<(String, String)>,
    /// The serial number, Dell's service tag.
    pub serial: Option<String>,
    /// Whether the switch of the case saw it opened.
    pub opened: Option<bool>,
    /// The memory.
    pub memory: Memory,
    /// The mounted file systems.
    pub filesystems: Vec<Filesystem>,
    /// The network interfaces.
    pub interfaces: Vec<Interface>,
    /// The routes of IPv4.
    pub routes: Vec<Route>,
}

/// `MemTotal` and `MemAvailable` of /proc/meminfo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The memory that the kernel has.
    pub usable_bytes: Option<u64>,
    /// The part of it that is free, or can be.
    pub available_bytes: Option<u64>,
}

/// A line of `df`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// The device, or the server's directory.
    pub source: String,
    /// Where it is mounted.
    pub path: String,
    /// The size that df prints.
    pub total_bytes: u64,
    /// The part in use.
    pub used_bytes: u64,
    /// The part that users can still take.
    pub available_bytes: u64,
}

/// An interface, in `ip addr`, /proc/net/dev, /proc/net/wireless and `ethtool`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's name: `eth0`.
    pub name: String,
    /// Whether it is hardware: neither a bridge nor a part of another one.
    pub hardware: bool,
    /// Whether /proc/net/wireless has it.
    pub wireless: bool,
    /// Whether there is a link; absent when it is down.
    pub carrier: Option<bool>,
    /// Its Ethernet address.
    pub mac: Option<String>,
    /// Its addresses, with the length of the prefix.
    pub addresses: Vec<String>,
    /// The speed of the link.
    pub speed_bits_per_second: Option<u64>,
    /// The best speed that both ends offer.
    pub best_speed_bits_per_second: Option<u64>,
    /// `full` or `half`.
    pub duplex: Option<String>,
    /// Since the boot.
    pub received_bytes: Option<u64>,
    /// Since the boot.
    pub sent_bytes: Option<u64>,
}

/// A line of `ip route`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// With the length of the prefix; `0.0.0.0/0` is the default route.
    pub destination: String,
    /// The next router.
    pub gateway: Option<String>,
    /// The interface.
    pub interface: String,
    /// The lowest one wins.
    pub metric: u64,
}

/// The files that the text has as they are; absent where the kernel has none.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// /proc/meminfo
    pub meminfo: Option<String>,
    /// /proc/net/dev, and no line of an interface that is not told.
    pub net_dev: Option<String>,
    /// /proc/net/wireless, the same.
    pub net_wireless: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text {
        Text {
            settings: [("AcPwrRcvry", "last"), ("WakeOnLan", "lanwlan")].map(|(name, value)| (name.into(), value.into())).into(),
            serial: Some("7XK2L42".into()),
            opened: Some(true),
            memory: Memory { usable_bytes: Some(8_060_904 << 10), available_bytes: Some(1_207_312 << 10) },
            filesystems: vec![
                Filesystem {
                    source: "/dev/sda2".into(),
                    path: "/".into(),
                    total_bytes: 20 << 30,
                    used_bytes: 8 << 30,
                    available_bytes: 11 << 30,
                },
                Filesystem {
                    source: "/dev/disk/by-id/a-long-name-of-a-disk".into(),
                    path: "/mnt/second disk".into(),
                    total_bytes: 1 << 40,
                    used_bytes: 0,
                    available_bytes: 1 << 40,
                },
            ],
            interfaces: vec![
                Interface {
                    name: "eth0".into(),
                    hardware: true,
                    carrier: Some(true),
                    mac: Some("18:03:73:aa:bb:cc".into()),
                    addresses: vec!["10.3.7.21/24".into(), "fe80::1a03:73ff:feaa:bbcc/64".into()],
                    speed_bits_per_second: Some(100_000_000),
                    duplex: Some("half".into()),
                    received_bytes: Some(73_456_789_012),
                    sent_bytes: Some(1_234_567_890),
                    ..Interface::default()
                },
                Interface { name: "eth1".into(), hardware: true, carrier: Some(false), ..Interface::default() },
                Interface { name: "wlan0".into(), hardware: true, wireless: true, ..Interface::default() },
            ],
            routes: vec![
                Route {
                    destination: "0.0.0.0/0".into(),
                    gateway: Some("10.3.7.1".into()),
                    interface: "eth0".into(),
                    metric: 202,
                },
                Route { destination: "10.3.7.0/24".into(), gateway: None, interface: "eth0".into(), metric: 0 },
            ],
        }
    }

    fn files() -> Files {
        Files {
            meminfo: Some("MemTotal:        8060904 kB\nMemFree: 412340 kB\nMemAvailable:    1207312 kB\n".into()),
            net_dev: Some(" face |bytes\n    lo: 1 2\n  eth0: 73456789012 6 3 0 0 0 0 1 1234567890 9 0 0 0 0 0 0\n".into()),
            net_wireless: Some(" face | tus\n wlan0: 0000 0. 0. 0. 0 0 0 0 0 0\n".into()),
        }
    }

    #[test]
    fn text_that_a_machine_writes_is_what_a_server_reads() {
        let written = text();
        assert_eq!(parse(&write(&written, &files())), Some(expected(&written)));
        // Nothing known, and no file of the kernel.
        let nothing = Text::default();
        assert_eq!(parse(&write(&nothing, &Files::default())), Some(nothing));
    }

    #[test]
    fn text_says_whether_the_case_was_opened() {
        for opened in [None, Some(true), Some(false)] {
            let written = Text { opened, ..text() };
            assert_eq!(parse(&write(&written, &files())).unwrap().opened, opened);
        }
    }

    /// The serial number and the switch are settings as well.
    fn expected(written: &Text) -> Text {
        let mut settings = written.settings.clone();
        settings.push(("chasintrusion".into(), "tripped".into()));
        settings.push(("svctag".into(), "7XK2L42".into()));
        Text { settings, ..written.clone() }
    }

    #[test]
    fn text_without_one_known_header_is_none() {
        for text in ["", "---- ls ----\n", "MemTotal: 1 kB\n"] {
            assert_eq!(parse(text), None);
        }
    }
}
