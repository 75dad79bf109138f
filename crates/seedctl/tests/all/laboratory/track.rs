//! The tracker and stock aria2: who connects to whom, and what crosses the uplinks.
//!
//! `LABTOOLS_SABOTAGE=introduce-all`, in a debug build, introduces everybody to everybody: then
//! `the_hosts_of_a_building_are_introduced_to_each_other` must fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use manifest::InfoHash;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::campus::Campus;
use crate::tracker::{BINARY, Running, prepare, publish};

const HOSTS: [(&str, &str); 6] = [
    ("server", "10.0.0.2"),
    ("b1-h1", "10.0.1.10"),
    ("b1-h2", "10.0.1.11"),
    ("b2-h1", "10.0.2.10"),
    ("b2-h2", "10.0.2.11"),
    ("wireless", "10.0.254.10"),
];
const IMAGE_BYTES: u64 = 12 << 20;

/// A campus with an image to distribute: two buildings, the second behind 8 Mbit/s, with two hosts
/// each, and a wireless host.
struct Distribution {
    campus: Campus,
    infohash: InfoHash,
    clients: BTreeMap<String, Child>,
}

impl Distribution {
    fn prepare() -> Distribution {
        Distribution::announced_every(2)
    }

    fn announced_every(seconds: u64) -> Distribution {
        let campus = Campus::up(&[
            "--buildings",
            "2",
            "--hosts",
            "2",
            "--slow",
            "2",
            "--wireless",
        ]);
        let image: Vec<u8> = {
            let mut random = 1u64;
            let mut next = || {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (random >> 56) as u8
            };
            (0..IMAGE_BYTES).map(|_| next()).collect()
        };
        let server = campus.path("server");
        fs::write(server.join("qcow2/image"), image).unwrap();
        let torrent = campus.shared().join("image.torrent").display().to_string();
        let image = server.join("qcow2/image").display().to_string();
        let announce = [
            "-p",
            "-l",
            "17",
            "-a",
            "http://10.0.0.2:6969/announce",
            "-o",
            &torrent,
            &image,
        ];
        run(Command::new("mktorrent").args(announce));
        let shown = run(Command::new("aria2c").args(["-S", &torrent]));
        let infohash = shown
            .lines()
            .find_map(|line| InfoHash::parse(line.strip_prefix("Info Hash: ")?))
            .unwrap();
        prepare(&server);
        publish(&server, 7, infohash, IMAGE_BYTES);
        for name in ["server", "b1-h1", "b1-h2", "b2-h1", "b2-h2", "wireless"] {
            fs::write(
                campus.path(name).join("etc/labtools/seedctl.ini"),
                format!("[tracker]\ninterval_seconds={seconds}\n"),
            )
            .unwrap();
        }
        Distribution {
            campus,
            infohash,
            clients: BTreeMap::new(),
        }
    }

    fn tracker(&self) -> Running {
        Running::start(&mut self.campus.on("server", &[BINARY, "track", "-v"]))
    }

    /// Starts aria2 on a host, as it comes.
    fn client(&mut self, host: &str) {
        let torrent = self
            .campus
            .shared()
            .join("image.torrent")
            .display()
            .to_string();
        let log = format!("--log={}", self.log(host));
        let mut options = vec![
            "aria2c",
            "--no-conf",
            "--dir=/qcow2",
            "--seed-ratio=0",
            "--enable-dht=false",
            "--listen-port=6881",
        ];
        options.extend([
            "--check-integrity=true",
            "--log-level=info",
            "--quiet",
            &log,
            &torrent,
        ]);
        let client = self
            .campus
            .on(host, &options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.clients.insert(host.to_owned(), client);
    }

    fn log(&self, host: &str) -> String {
        self.campus
            .shared()
            .join(format!("{host}.log"))
            .display()
            .to_string()
    }

    /// What the tracker says at /swarms, asked from the server: its hosts, by address.
    fn hosts(&self) -> BTreeMap<String, Value> {
        let asked = self
            .campus
            .on("server", &[BINARY, "swarm"])
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        let all = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let swarms = all(&document["swarm"], "swarms");
        let mine = swarms
            .iter()
            .filter(|swarm| swarm["infohash"] == self.infohash.to_string());
        let hosts = mine
            .flat_map(|swarm| all(swarm, "buildings"))
            .flat_map(|building| all(&building, "hosts"));
        hosts
            .map(|host| (host["address"].as_str().unwrap().to_owned(), host))
            .collect()
    }

    /// Waits until the tracker says something of its hosts. The test's own end is the limit.
    fn wait_until(
        &self,
        what: impl Fn(&BTreeMap<String, Value>) -> bool,
    ) -> BTreeMap<String, Value> {
        loop {
            let hosts = self.hosts();
            if what(&hosts) {
                return hosts;
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn wait_until_complete(&self, names: &[&str]) {
        self.wait_until(|hosts| names.iter().all(|name| is_complete(hosts, name)));
    }

    /// To whom a host opened connections, by name.
    fn opened(&self, host: &str) -> BTreeSet<&'static str> {
        let log = fs::read_to_string(self.log(host)).unwrap_or_default();
        let opened = log
            .lines()
            .filter_map(|line| line.split_once("Connecting to ")?.1.split_once(':'));
        opened
            .filter(|(_, port)| port.starts_with("6881"))
            .filter_map(|(address, _)| name_of(address))
            .collect()
    }

    /// How often the image came into a building.
    fn crossings(&self, building: &str) -> f64 {
        let crossings: Value = serde_json::from_str(&self.campus.script("crossings", &[])).unwrap();
        crossings["buildings"][building]["in_bytes"]
            .as_f64()
            .unwrap()
            / IMAGE_BYTES as f64
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        for client in self.clients.values_mut() {
            let _ = client.kill(); // it may have ended
            let _ = client.wait();
        }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn name_of(address: &str) -> Option<&'static str> {
    HOSTS
        .iter()
        .find(|(_, known)| *known == address)
        .map(|(name, _)| *name)
}

fn address_of(name: &str) -> &'static str {
    HOSTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, address)| *address)
        .unwrap()
}

fn left(hosts: &BTreeMap<String, Value>, name: &str) -> Option<u64> {
    hosts.get(address_of(name))?["left_bytes"].as_u64()
}

fn is_complete(hosts: &BTreeMap<String, Value>, name: &str) -> bool {
    left(hosts, name) == Some(0)
}

fn is_gateway(hosts: &BTreeMap<String, Value>, name: &str) -> bool {
    hosts
        .get(address_of(name))
        .is_some_and(|host| host["gateway"] == true)
}

#[test]
fn the_hosts_of_a_building_are_introduced_to_each_other() {
    // So long that on no machine, however busy, a gateway is thought to have stalled.
    let mut distribution = Distribution::announced_every(60);
    let _tracker = distribution.tracker();
    distribution.client("server");
    distribution.wait_until_complete(&["server"]);
    for gateway in ["b1-h1", "b2-h1"] {
        distribution.client(gateway);
        distribution.wait_until(|hosts| is_gateway(hosts, gateway));
    }
    distribution.client("b2-h2");
    distribution.client("wireless");
    distribution.wait_until_complete(&["b1-h1", "b2-h1", "b2-h2", "wireless"]);
    // One that wakes when all have finished.
    distribution.client("b1-h2");
    distribution.wait_until_complete(&["b1-h2"]);

    let expected: [(&str, &[&str], &[&str]); 6] = [
        ("server", &[], &[]),
        ("b1-h1", &["server"], &["server", "b2-h1"]),
        ("b1-h2", &["b1-h1"], &["b1-h1"]),
        ("b2-h1", &["server"], &["server", "b1-h1", "b2-h2"]),
        ("b2-h2", &["b2-h1"], &["b2-h1"]),
        ("wireless", &["server"], &["server"]),
    ];
    for (host, least, most) in expected {
        let opened = distribution.opened(host);
        for other in &opened {
            assert!(most.contains(other), "{host} was introduced to {other}");
        }
        assert!(opened.len() >= least.len(), "{host} opened {opened:?}");
    }
    for building in ["b1", "b2"] {
        let crossings = distribution.crossings(building);
        assert!(
            (1.0..1.15).contains(&crossings),
            "crossings of {building}: {crossings:.2}"
        );
    }
    // A lab host learns about its own building, and nothing more.
    let asked = |host: &str, path: &str| {
        let url = format!("http://10.0.0.2:6969/{path}");
        run(&mut distribution
            .campus
            .on(host, &["curl", "-s", "-w", " %{http_code}", &url]))
    };
    assert!(
        asked("b1-h1", "swarms").ends_with(" 403") && asked("b1-h1", "metrics").ends_with(" 403")
    );
    let building = asked(
        "b2-h1",
        &format!("building?info_hash={}", distribution.infohash),
    );
    let expected = r#"{"building":"b2","role":"lab","complete":2,"incomplete":0,"gateway":false,"servers":1,"interval_seconds":60}"#;
    assert_eq!(building, format!("{expected} 200"));
    let metrics = distribution.campus.shared().join("metrics");
    fs::write(
        &metrics,
        asked("server", "metrics").trim_end_matches(" 200"),
    )
    .unwrap();
    run(Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(metrics).unwrap()));
}

#[test]
fn a_gateway_that_loses_its_power_is_replaced() {
    thread::scope(|scope| {
        for percent in [10, 50, 90] {
            scope.spawn(move || lose_power_at(percent));
        }
    });
}

/// The gateway of b2 loses its power when it has so much of the image.
fn lose_power_at(percent: u64) {
    let mut distribution = Distribution::prepare();
    let mut tracker = distribution.tracker();
    distribution.client("server");
    distribution.wait_until_complete(&["server"]);
    distribution.client("b2-h1");
    distribution.wait_until(|hosts| is_gateway(hosts, "b2-h1"));
    distribution.client("b2-h2");
    let enough = IMAGE_BYTES * (100 - percent) / 100;
    distribution.wait_until(|hosts| left(hosts, "b2-h1").is_some_and(|left| left <= enough));
    distribution.campus.script("off", &["b2-h1"]);
    distribution.wait_until(|hosts| is_gateway(hosts, "b2-h2") || is_complete(hosts, "b2-h2"));
    distribution.wait_until_complete(&["b2-h2"]);
    let crossings = distribution.crossings("b2");
    assert!(
        crossings < 1.5,
        "crossings of b2, its gateway gone at {percent} %: {crossings:.2}"
    );

    // It comes back: all that it needs is in its building.
    distribution.campus.script("on", &["b2-h1"]);
    distribution.client("b2-h1");
    distribution.wait_until_complete(&["b2-h1"]);
    let again = distribution.crossings("b2") - crossings;
    assert!(
        again < 0.2,
        "crossings of b2 for a host that came again: {again:.2}"
    );
    tracker.wait_for("is complete");
}

#[test]
fn a_gateway_that_gets_nothing_is_replaced() {
    let mut distribution = Distribution::prepare();
    let _tracker = distribution.tracker();
    distribution.client("server");
    distribution.wait_until_complete(&["server"]);
    // Its announces come through, its peers' bytes do not.
    let rules = "table ip x { chain out { type filter hook output priority 0; ip daddr 10.0.0.2 tcp dport 6881 drop; }; }";
    run(&mut distribution.campus.on("b2-h1", &["nft", rules]));
    distribution.client("b2-h1");
    distribution.wait_until(|hosts| is_gateway(hosts, "b2-h1"));
    distribution.client("b2-h2");
    distribution.wait_until(|hosts| is_gateway(hosts, "b2-h2"));
    distribution.wait_until_complete(&["b2-h1", "b2-h2"]);
    assert!(distribution.crossings("b2") < 1.15);
}

#[test]
fn a_swarm_outlives_its_tracker() {
    let mut distribution = Distribution::prepare();
    // The clients are there before the tracker is. Stock aria2 comes again after two minutes.
    for host in ["server", "b1-h1", "b2-h1", "b2-h2"] {
        distribution.client(host);
    }
    for host in ["server", "b1-h1", "b2-h1", "b2-h2"] {
        while !fs::read_to_string(distribution.log(host))
            .unwrap_or_default()
            .contains("URI=http://10.0.0.2:6969/announce")
        {
            sleep(Duration::from_millis(100));
        }
    }
    let tracker = distribution.tracker();
    let gateway = |hosts: &BTreeMap<String, Value>| {
        ["b2-h1", "b2-h2"]
            .into_iter()
            .find(|name| is_gateway(hosts, name))
    };
    let half = |hosts: &BTreeMap<String, Value>| {
        gateway(hosts)
            .and_then(|name| left(hosts, name))
            .is_some_and(|left| left < IMAGE_BYTES / 2)
    };
    let before = gateway(&distribution.wait_until(half)).unwrap();
    tracker.end(Signal::SIGKILL);
    let _tracker = distribution.tracker();
    let hosts =
        distribution.wait_until(|hosts| gateway(hosts).is_some() || is_complete(hosts, before));
    // The other one may be told to lack less when it has come as far and is heard of later: then
    // both know the outside.
    let one = is_complete(&hosts, before) || gateway(&hosts) == Some(before);
    distribution.wait_until_complete(&["b1-h1", "b2-h1", "b2-h2"]);
    let (crossings, most) = (distribution.crossings("b2"), if one { 1.15 } else { 1.5 });
    assert!(
        crossings < most,
        "crossings of b2: {crossings:.2}, of {most}"
    );
}
