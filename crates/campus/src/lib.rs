//! The map of the campus: the network of each room of each building (campus.ini), and the machines
//! (hosts.ini).
//!
//! The tracker introduces hosts by it, and the inventory finds a machine's place with it.
//!
//! **Admission rule.** Belongs here: reading the two files, and finding the network of an address.
//! Not: the machines that are awake, their content, or introductions.
//!
//! Networks may overlap: an address belongs to the one with the longest prefix. An ambiguous file
//! is refused.
//!
//! Several rooms may share one Ethernet: the key `ethernet` names it, because a broadcast, or a
//! frame on the wire, reaches all of them or none.

pub mod hosts;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use jsonpipe::{Common, Exit, ini};
use serde::{Deserialize, Serialize};

/// The role of a network (`role` of campus.ini).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Machines that share data with their building.
    #[default]
    Lab,
    /// The machines that are the source of images.
    Servers,
    /// Machines that fetch only from the servers, and do not share.
    Wireless,
}

/// `[net.NAME]` in campus.ini.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// Its addresses: `10.0.3.0/24`.
    pub cidr: String,
    /// The addresses of its Ethernet, if that holds more than this network: `10.0.0.0/16`. Applies
    /// to all networks in it.
    pub ethernet: Option<String>,
    /// The campus.
    pub campus: String,
    /// The building, which is on one campus.
    pub building: String,
    /// The room.
    pub room: String,
    /// Its role.
    #[serde(default)]
    pub role: Role,
    /// The multicast group and the port of the segment that connects the guests of the room:
    /// `239.192.1.1:5010`.
    pub segment: Option<String>,
}

/// A network of the campus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Its name in campus.ini: `at9-101`.
    pub name: String,
    /// The campus.
    pub campus: String,
    /// The building, which is on one campus.
    pub building: String,
    /// The room.
    pub room: String,
    /// Its role.
    pub role: Role,
    /// The multicast group and the port of the segment that connects the guests of the room.
    pub segment: Option<SocketAddrV4>,
}

/// All networks.
#[derive(Clone, Debug)]
pub struct Campus {
    /// The longest prefixes first.
    nets: Vec<(Cidr, Arc<Net>)>,
    /// The networks that the key `ethernet` names; they do not overlap.
    ethernets: Vec<Cidr>,
}

impl Campus {
    /// Reads campus.ini. Status 66 when it does not exist, 78 when it is invalid.
    pub fn read(common: &Common) -> anyhow::Result<Campus> {
        let path = common.config("campus.ini");
        ini::require(
            &path,
            "list the networks there; seedctl-track(8) describes it",
        )?;
        let entries = ini::read_table(&path, "net")?;
        Campus::new(entries)
            .map_err(|message| Exit::Config.error(format_args!("{}: {message}", path.display())))
    }

    /// Builds the map from the sections of campus.ini, by name. The error names the section and the
    /// key.
    pub fn new(entries: Vec<(String, Entry)>) -> Result<Campus, String> {
        let mut nets: Vec<(Cidr, Arc<Net>)> = Vec::new();
        let mut ethernets: Vec<Cidr> = Vec::new();
        let mut campuses: HashMap<String, String> = HashMap::new();
        for (
            name,
            Entry {
                cidr,
                ethernet,
                campus,
                building,
                room,
                role,
                segment,
            },
        ) in entries
        {
            let cidr =
                Cidr::parse(&cidr).map_err(|message| format!("net.{name}.cidr: {message}"))?;
            for (key, value) in [
                ("campus", &campus),
                ("building", &building),
                ("room", &room),
            ] {
                if value.is_empty() {
                    return Err(format!("net.{name}.{key}: empty"));
                }
            }
            if let Some((_, other)) = nets.iter().find(|(known, _)| *known == cidr) {
                return Err(format!(
                    "net.{name}.cidr: {} has the same; which of the two is it?",
                    other.name
                ));
            }
            let known = campuses
                .entry(building.clone())
                .or_insert_with(|| campus.clone());
            if *known != campus {
                return Err(format!(
                    "net.{name}.campus: the building {building} stands on {known} already"
                ));
            }
            if let Some(text) = &ethernet {
                let wrong = |message| format!("net.{name}.ethernet: {message}");
                let ethernet = Cidr::parse(text).map_err(wrong)?;
                if !ethernet.holds(cidr) {
                    return Err(wrong(format!("{ethernet} does not hold {cidr}")));
                }
                if let Some(other) = ethernets
                    .iter()
                    .find(|other| other.holds(ethernet) || ethernet.holds(**other))
                {
                    if *other != ethernet {
                        return Err(wrong(format!(
                            "{ethernet} has addresses of {other}, another Ethernet; which of the two is it?"
                        )));
                    }
                } else {
                    ethernets.push(ethernet);
                }
            }
            let segment = segment.as_deref().map(group).transpose();
            let segment = segment.map_err(|message| format!("net.{name}.segment: {message}"))?;
            let shared = nets.iter().find(|(_, other)| {
                segment.is_some()
                    && other.segment == segment
                    && (&other.building, &other.room) != (&building, &room)
            });
            if let Some((_, other)) = shared {
                return Err(format!(
                    "net.{name}.segment: the room of {} has the same; give each room its own",
                    other.name
                ));
            }
            nets.push((
                cidr,
                Arc::new(Net {
                    name,
                    campus,
                    building,
                    room,
                    role,
                    segment,
                }),
            ));
        }
        if nets.is_empty() {
            return Err("describes no network; a section [net.NAME] each".into());
        }
        nets.sort_by_key(|(cidr, _)| std::cmp::Reverse(cidr.prefix));
        Ok(Campus { nets, ethernets })
    }

    /// The network of an address; `None` when it is not of this campus. IPv4 inside IPv6 counts as
    /// IPv4.
    pub fn find(&self, address: IpAddr) -> Option<&Arc<Net>> {
        let address = address.to_canonical();
        self.nets
            .iter()
            .find(|(cidr, _)| cidr.contains(address))
            .map(|(_, net)| net)
    }

    /// The Ethernet of an address: its network, or the one that contains it. `None` when it is not
    /// of this campus.
    pub fn ethernet(&self, address: IpAddr) -> Option<Cidr> {
        let (net, _) = self
            .nets
            .iter()
            .find(|(cidr, _)| cidr.contains(address.to_canonical()))?;
        Some(
            *self
                .ethernets
                .iter()
                .find(|ethernet| ethernet.holds(*net))
                .unwrap_or(net),
        )
    }

    /// The broadcast address of its Ethernet; `None` where there is none, as in IPv6.
    pub fn broadcast(&self, address: IpAddr) -> Option<Ipv4Addr> {
        let ethernet = self.ethernet(address)?;
        let IpAddr::V4(first) = ethernet.address else {
            return None;
        };
        let host_bits = u32::MAX
            .checked_shr(u32::from(ethernet.prefix))
            .unwrap_or(0);
        (ethernet.prefix < 31).then(|| (first.to_bits() | host_bits).into())
    }

    /// All networks, with their addresses: the longest prefixes first.
    pub fn nets(&self) -> impl Iterator<Item = (Cidr, &Net)> {
        self.nets.iter().map(|(cidr, net)| (*cidr, net.as_ref()))
    }

    /// Whether some network is in this building.
    pub fn has_building(&self, building: &str) -> bool {
        self.nets.iter().any(|(_, net)| net.building == building)
    }
}

/// A range of addresses, RFC 4632: `10.0.3.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    fn parse(text: &str) -> Result<Cidr, String> {
        let form = || "not ADDRESS/PREFIX, as 10.0.3.0/24 or 2001:db8:3::/64".to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: IpAddr = address.parse().map_err(|_| form())?;
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(form());
        }
        let prefix: u8 = prefix.parse().map_err(|_| form())?;
        if prefix > length(address) {
            return Err(format!(
                "the prefix is longer than an address; a single host is {address}/{}",
                length(address)
            ));
        }
        if address.to_canonical() != address {
            return Err("IPv4 inside IPv6; write it as IPv4".into());
        }
        let cidr = Cidr {
            address: first(address, prefix),
            prefix,
        };
        if cidr.address != address {
            return Err(format!(
                "{address} is inside of that network; write {}/{prefix}",
                cidr.address
            ));
        }
        Ok(cidr)
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && first(address, self.prefix) == self.address
    }

    /// Whether it contains all addresses of the other one.
    fn holds(&self, other: Cidr) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The multicast group and the port of a segment. RFC 2365 leaves 239.0.0.0/8 to each site.
fn group(text: &str) -> Result<SocketAddrV4, &'static str> {
    text.parse::<SocketAddrV4>()
        .ok()
        .filter(|group| group.ip().octets()[0] == 239 && group.port() != 0)
        .ok_or("not GROUP:PORT with a group of 239.0.0.0/8, as 239.192.1.1:5010")
}

/// The number of bits of an address.
fn length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address of an address's network. A prefix of 0 leaves no bit.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A campus from `CIDR BUILDING ROOM ROLE`; the networks are named `n0`, `n1`, ...
    fn campus(nets: &[(&str, &str, &str, Role)]) -> Result<Campus, String> {
        let entry = |(index, (cidr, building, room, role)): (usize, &(&str, &str, &str, Role))| {
            let [cidr, campus, building, room] =
                [cidr, "campus", building, room].map(|text: &str| text.to_owned());
            (
                format!("n{index}"),
                Entry {
                    cidr,
                    ethernet: None,
                    campus,
                    building,
                    room,
                    role: *role,
                    segment: None,
                },
            )
        };
        Campus::new(nets.iter().enumerate().map(entry).collect())
    }

    fn name(campus: &Campus, address: &str) -> Option<String> {
        campus
            .find(address.parse().unwrap())
            .map(|net| net.name.clone())
    }

    #[test]
    fn the_longest_prefix_wins() {
        let campus = campus(&[
            ("10.0.0.0/8", "all", "1", Role::Lab),
            ("10.0.3.0/24", "at9", "1", Role::Lab),
            ("10.0.3.128/25", "at9", "2", Role::Wireless),
            ("10.0.3.200/32", "at9", "3", Role::Servers),
            ("2001:db8::/32", "all", "1", Role::Lab),
            ("2001:db8:3::/48", "at9", "1", Role::Lab),
        ])
        .unwrap();
        for (address, net) in [
            ("10.9.9.9", Some("n0")),
            ("10.0.3.1", Some("n1")),
            ("10.0.3.127", Some("n1")),
            ("10.0.3.128", Some("n2")),
            ("10.0.3.200", Some("n3")),
            ("::ffff:10.0.3.200", Some("n3")),
            ("11.0.0.1", None),
            ("2001:db8:3::1", Some("n5")),
            ("2001:db8:4::1", Some("n4")),
            ("2001:db9::1", None),
            ("::1", None),
        ] {
            assert_eq!(name(&campus, address).as_deref(), net, "{address}");
        }
        assert!(campus.has_building("at9") && !campus.has_building("at8"));
        let broadcast = |address: &str| {
            campus
                .broadcast(address.parse().unwrap())
                .map(|address| address.to_string())
        };
        assert_eq!(
            ["10.9.9.9", "10.0.3.1"].map(broadcast),
            ["10.255.255.255", "10.0.3.255"].map(|address| Some(address.into()))
        );
        assert_eq!(
            ["10.0.3.200", "2001:db8::1", "11.0.0.1"].map(broadcast),
            [None, None, None]
        );
    }

    #[test]
    fn an_ethernet_holds_several_rooms() {
        let campus = |nets: &[(&str, Option<&str>)]| {
            let entry = |(index, (cidr, ethernet)): (usize, &(&str, Option<&str>))| {
                let [cidr, campus, building, room] =
                    [cidr, "campus", "at9", "1"].map(|text: &str| text.to_owned());
                let ethernet = ethernet.map(str::to_owned);
                (
                    format!("n{index}"),
                    Entry {
                        cidr,
                        ethernet,
                        campus,
                        building,
                        room,
                        role: Role::Lab,
                        segment: None,
                    },
                )
            };
            Campus::new(nets.iter().enumerate().map(entry).collect())
        };
        // The key of one room applies to the other; the room behind a router has its own Ethernet.
        let rooms = [
            ("10.0.1.0/25", Some("10.0.1.0/24")),
            ("10.0.1.128/25", None),
            ("10.0.2.0/25", None),
            ("10.0.0.0/8", None),
        ];
        let of = |address: &str| {
            let (campus, address) = (campus(&rooms).unwrap(), address.parse().unwrap());
            (
                campus.ethernet(address).unwrap().to_string(),
                campus.broadcast(address).unwrap().to_string(),
            )
        };
        for address in ["10.0.1.7", "10.0.1.200"] {
            assert_eq!(
                of(address),
                ("10.0.1.0/24".into(), "10.0.1.255".into()),
                "{address}"
            );
        }
        assert_eq!(of("10.0.2.7"), ("10.0.2.0/25".into(), "10.0.2.127".into()));
        assert_eq!(
            of("10.9.9.9"),
            ("10.0.0.0/8".into(), "10.255.255.255".into())
        );
        for (ethernet, message) in [
            (
                "10.0.1.0/26",
                "net.n0.ethernet: 10.0.1.0/26 does not hold 10.0.1.0/25",
            ),
            (
                "10.0.2.0/24",
                "net.n0.ethernet: 10.0.2.0/24 does not hold 10.0.1.0/25",
            ),
            (
                "10.0.1.1/24",
                "net.n0.ethernet: 10.0.1.1 is inside of that network; write 10.0.1.0/24",
            ),
            (
                "2001:db8::/32",
                "net.n0.ethernet: 2001:db8::/32 does not hold 10.0.1.0/25",
            ),
        ] {
            assert_eq!(
                campus(&[("10.0.1.0/25", Some(ethernet))]).unwrap_err(),
                message
            );
        }
        let twice = campus(&[
            ("10.0.1.0/25", Some("10.0.1.0/24")),
            ("10.0.1.128/25", Some("10.0.0.0/16")),
        ])
        .unwrap_err();
        assert_eq!(
            twice,
            "net.n1.ethernet: 10.0.0.0/16 has addresses of 10.0.1.0/24, another Ethernet; which of the two is it?"
        );
    }

    #[test]
    fn a_default_network_of_one_family_is_not_of_the_other() {
        let campus = campus(&[("::/0", "all", "1", Role::Lab)]).unwrap();
        assert_eq!(
            (
                name(&campus, "10.0.0.1"),
                name(&campus, "2001:db8::1").as_deref()
            ),
            (None, Some("n0"))
        );
    }

    #[test]
    fn a_segment_is_one_rooms() {
        let campus = |nets: &[(&str, &str)]| {
            let entry = |(index, (room, segment)): (usize, &(&str, &str))| {
                let [campus, building, room] = ["campus", "at9", room].map(str::to_owned);
                let entry = Entry {
                    cidr: format!("10.0.{index}.0/24"),
                    ethernet: None,
                    campus,
                    building,
                    room,
                    role: Role::Lab,
                    segment: Some((*segment).to_owned()),
                };
                (format!("n{index}"), entry)
            };
            Campus::new(nets.iter().enumerate().map(entry).collect())
        };
        let one = "239.192.1.1:5010";
        let both = campus(&[("101", one), ("101", one), ("102", "239.192.1.2:5010")]).unwrap();
        let segment = |address: &str| both.find(address.parse().unwrap()).unwrap().segment;
        assert_eq!(segment("10.0.1.7"), Some(one.parse().unwrap()));
        assert_ne!(segment("10.0.2.7"), segment("10.0.1.7"));
        assert_eq!(
            campus(&[("101", one), ("102", one)]).unwrap_err(),
            "net.n1.segment: the room of n0 has the same; give each room its own"
        );
        for text in [
            "",
            "239.192.1.1",
            "224.0.0.1:5010",
            "239.192.1.1:0",
            "10.0.0.1:5010",
            "[ff05::1]:5010",
        ] {
            assert_eq!(
                campus(&[("101", text)]).unwrap_err(),
                "net.n0.segment: not GROUP:PORT with a group of 239.0.0.0/8, as 239.192.1.1:5010",
                "{text}"
            );
        }
    }

    #[test]
    fn ambiguous_nets_are_refused() {
        let error = |cidr: &str| {
            campus(&[
                ("10.0.3.0/24", "b", "1", Role::Lab),
                (cidr, "b", "1", Role::Lab),
            ])
            .unwrap_err()
        };
        assert_eq!(
            error("10.0.3.0/24"),
            "net.n1.cidr: n0 has the same; which of the two is it?"
        );
        assert_eq!(
            error("10.0.4.7/24"),
            "net.n1.cidr: 10.0.4.7 is inside of that network; write 10.0.4.0/24"
        );
        assert_eq!(
            error("2001:db8::1/64"),
            "net.n1.cidr: 2001:db8::1 is inside of that network; write 2001:db8::/64"
        );
        assert_eq!(
            error("10.0.4.0/33"),
            "net.n1.cidr: the prefix is longer than an address; a single host is 10.0.4.0/32"
        );
        assert_eq!(
            error("::ffff:10.0.4.0/120"),
            "net.n1.cidr: IPv4 inside IPv6; write it as IPv4"
        );
        for cidr in [
            "10.0.4.0",
            "10.0.4/24",
            "10.0.4.0/+24",
            "10.0.4.0/",
            "10.0.04.0/24",
            "/24",
            "10.0.4.0/24/24",
            "x/1",
            "::/999",
        ] {
            assert!(
                error(cidr).starts_with("net.n1.cidr: not ADDRESS/PREFIX"),
                "{cidr}"
            );
        }
        assert_eq!(
            campus(&[]).unwrap_err(),
            "describes no network; a section [net.NAME] each"
        );
        assert_eq!(
            campus(&[("10.0.0.0/8", "b", "", Role::Lab)]).unwrap_err(),
            "net.n0.room: empty"
        );

        let net = |campus: &str, cidr: &str| {
            let [cidr, campus, building, room] = [cidr, campus, "at9", "1"].map(str::to_owned);
            (
                campus.clone(),
                Entry {
                    cidr,
                    ethernet: None,
                    campus,
                    building,
                    room,
                    role: Role::Lab,
                    segment: None,
                },
            )
        };
        assert_eq!(
            Campus::new(vec![
                net("north", "10.1.0.0/16"),
                net("south", "10.2.0.0/16")
            ])
            .unwrap_err(),
            "net.south.campus: the building at9 stands on north already"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_network_or_not(text in "[0-9a-f.:/]{0,24}") {
            let _ = Cidr::parse(&text);
        }

        #[test]
        fn a_network_holds_its_first_address_and_its_last(bits in any::<u32>(), prefix in 0u8..=32) {
            let address = IpAddr::V4(bits.into());
            let start = first(address, prefix);
            let cidr = Cidr::parse(&format!("{start}/{prefix}")).unwrap();
            prop_assert!(cidr.contains(address) && cidr.contains(start));
        }
    }
}
