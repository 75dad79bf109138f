//! The form of such a text: its headings and values.

/// The firmware's settings, Dell's.
pub(super) const CCTK: &str = "cctk -o /dev/stdout";
pub(super) const MEMINFO: &str = "cat /proc/meminfo";
pub(super) const DF: &str = "df";
pub(super) const NET_DEV: &str = "cat /proc/net/dev";
pub(super) const NET_WIRELESS: &str = "cat /proc/net/wireless";
pub(super) const ADDRESSES: &str = "ip addr";
pub(super) const ROUTES: &str = "ip route";
/// Followed by an interface.
pub(super) const ETHTOOL: &str = "ethtool ";
/// The only interface that the script queries.
pub(super) const ETHTOOL_INTERFACE: &str = "eth0";

/// The values of such a text; missing ones are absent.
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
    /// The used part.
    pub used_bytes: u64,
    /// The part available to users.
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

/// The files that the text contains verbatim; absent where the kernel has none.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// /proc/meminfo
    pub meminfo: Option<String>,
    /// /proc/net/dev, without the lines of interfaces that are not reported.
    pub net_dev: Option<String>,
    /// /proc/net/wireless, the same.
    pub net_wireless: Option<String>,
}
