//! The text of the thesis's script (Figure 28): the output of eight commands, including errors,
//! each under `---- COMMAND ----`.
//!
//! A lab machine [`write`]s it for a collector that accepts only this form, without starting the
//! commands. A server [`parse`]s it, from such a machine or from the script itself.

mod cctk;
mod form;
mod parse;
mod write;

pub use cctk::{opened, settings};
pub use form::{Files, Filesystem, Interface, Memory, Route, Text};
pub use parse::parse;
pub use write::write;

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text {
        Text {
            settings: [("AcPwrRcvry", "last"), ("WakeOnLan", "lanwlan")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            serial: Some("7XK2L42".into()),
            opened: Some(true),
            memory: Memory {
                usable_bytes: Some(8_060_904 << 10),
                available_bytes: Some(1_207_312 << 10),
            },
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
                Interface {
                    name: "eth1".into(),
                    hardware: true,
                    carrier: Some(false),
                    ..Interface::default()
                },
                Interface {
                    name: "wlan0".into(),
                    hardware: true,
                    wireless: true,
                    ..Interface::default()
                },
            ],
            routes: vec![
                Route {
                    destination: "0.0.0.0/0".into(),
                    gateway: Some("10.3.7.1".into()),
                    interface: "eth0".into(),
                    metric: 202,
                },
                Route {
                    destination: "10.3.7.0/24".into(),
                    gateway: None,
                    interface: "eth0".into(),
                    metric: 0,
                },
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
        // Without any value or kernel file.
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
        Text {
            settings,
            ..written.clone()
        }
    }

    #[test]
    fn text_without_one_known_header_is_none() {
        for text in ["", "---- ls ----\n", "MemTotal: 1 kB\n"] {
            assert_eq!(parse(text), None);
        }
    }
}
