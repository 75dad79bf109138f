//! What a test waits for, and what it asks of the laboratory meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use super::Laboratory;

/// Waits for what will happen; the minutes only report a hang.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let hung = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < hung, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Laboratory {
    /// How many verdicts RADIUS gave on a password that came through the tunnel: `Login OK` or
    /// `Login incorrect`.
    pub fn verdicts(&self, words: &str) -> usize {
        fs::read_to_string(self.path("log/radiusd.log"))
            .unwrap()
            .lines()
            .filter(|line| line.contains(words) && line.contains("via TLS tunnel"))
            .count()
    }

    /// Whether the switch lets the computer through on this port.
    pub fn is_open(&self, port: &str) -> bool {
        self.script("port", &[port]) == "authorized"
    }

    /// Whether a command on the lab machine succeeds.
    pub fn succeeds(&self, command: &[&str]) -> bool {
        self.on_computer(command).output().unwrap().status.success()
    }

    /// Whether packets reach the server behind all networks, by whichever link.
    pub fn reaches_the_server(&self) -> bool {
        self.succeeds(&["ping", "-c1", "-W1", "192.0.2.1"])
    }

    /// The interface by which packets leave for the server behind all networks.
    pub fn way_out(&self) -> String {
        let output = self
            .on_computer(&["ip", "route", "get", "192.0.2.1"])
            .output()
            .unwrap();
        let route = String::from_utf8(output.stdout).unwrap();
        let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
        words.nth(1).unwrap_or_default().to_owned()
    }

    /// The addresses of an interface, of both families.
    pub fn addresses(&self, interface: &str) -> String {
        let output = self
            .on_computer(&["ip", "-o", "address", "show", "dev", interface])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Takes the cable out of port b, so that a session has one link.
    pub fn use_one_cable(&self) {
        self.script("mode", &["unplug", "b"]);
        wait_until("NetworkManager to see that eth1 has no cable", || {
            self.succeeds(&[
                "sh",
                "-c",
                "nmcli -g DEVICE,STATE device | grep -qx eth1:unavailable",
            ])
        });
    }
}
