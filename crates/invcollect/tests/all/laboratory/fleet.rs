//! What machines received, as a real Prometheus says (thesis, Figures 30 and 31): filled
//! beforehand, so that nothing is waited for.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::store::{HOUR, MONDAY, Store, time};

/// Prometheus alone in its own network.
struct Prometheus(Child);

impl Prometheus {
    /// With these samples; it is there when it says so.
    fn start(store: &Store, samples: &str) -> Prometheus {
        let (file, data) = (store.path().join("samples"), store.path().join("data"));
        fs::write(&file, samples).unwrap();
        let filled = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &data])
            .output()
            .unwrap();
        assert!(filled.status.success(), "{filled:?}");
        let script = "ip link set lo up && exec prometheus --config.file=/dev/null --storage.tsdb.path=\"$0\" \
                      --storage.tsdb.retention.time=100y --web.listen-address=127.0.0.1:9090";
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--net", "sh", "-c", script])
            .arg(&data)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = unshare.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(
            log.any(|line| line
                .unwrap()
                .contains("Server is ready to receive web requests")),
            "it did not come up"
        );
        std::thread::spawn(move || log.for_each(drop)); // it must not wait for a reader
        Prometheus(child)
    }

    fn fleet(&self, store: &Store, arguments: &[&str]) -> Value {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.0.id()))
            .arg(super::BINARY);
        command
            .arg("fleet")
            .arg(store.store())
            .arg("--config")
            .arg(store.config())
            .env("TZ", "UTC");
        command
            .args([
                "--since",
                &time(MONDAY + 10 * HOUR),
                "--prometheus",
                "http://127.0.0.1:9090",
            ])
            .args(arguments);
        let output = command.output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["fleet"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const QUICK: u64 = 10_000_000;
const SLOW: u64 = 1_500_000;
/// Legal in hosts.ini and in a label, and nothing in a query.
const ROOM: &str = "2\"} or vector(1) #";

/// Two buildings of two rooms of four machines; all receive for half an hour, one of them slowly
/// for the whole hour. What comes in by the port comes in by the bridge of the guest, too.
fn samples() -> String {
    let mut samples = String::from("# TYPE labtools_interface_receive_bytes counter\n");
    let mut links = String::from("# TYPE labtools_link_up gauge\n");
    for (building, room) in [("AT9", "1"), ("AT9", ROOM), ("AT10", "1"), ("AT10", ROOM)] {
        for host in 1..=4 {
            let name = format!("{}-{}-{host}", building.to_lowercase(), &room[..1]);
            let slow = name == "at10-1-3";
            let labels = format!(
                "campus=\"north\",building=\"{building}\",room=\"{}\",host=\"{name}\"",
                room.replace('"', "\\\"")
            );
            let mut received = 0;
            for minute in 0..=70 {
                let at = MONDAY + 10 * HOUR + minute * 60;
                for interface in ["eth0", "br0"] {
                    let _ = writeln!(
                        samples,
                        "labtools_interface_receive_bytes_total{{{labels},interface=\"{interface}\"}} {received} {at}"
                    );
                }
                let _ = writeln!(
                    links,
                    "labtools_link_up{{{labels},interface=\"eth0\",medium=\"wired\"}} 1 {at}"
                );
                received += match (slow, minute) {
                    (true, _) => SLOW * 60,
                    (false, 10..40) => QUICK * 60,
                    (false, _) => 0,
                };
            }
        }
    }
    samples + &links + "# EOF\n"
}

fn about(value: &Value, expected: u64) {
    let value = value.as_u64().unwrap();
    assert!(
        value.abs_diff(expected) <= expected / 100,
        "{value} is not {expected}"
    );
}

#[test]
fn received_bytes_by_computer_and_by_any_label() {
    let mut store = Store::new();
    store.list("AT10", "1", "at10-1-3");
    store.list("AT10", ROOM, "at10-2-1");
    let prometheus = Prometheus::start(&store, &samples());

    // Figure 30: an hour, each computer.
    let fleet = prometheus.fleet(&store, &["--period", "1h"]);
    let traffic = &fleet["traffic"];
    assert_eq!(
        (&traffic["by"], &traffic["step_seconds"]),
        (&"host".into(), &60.into())
    );
    let lines = traffic["lines"].as_array().unwrap();
    assert_eq!(
        (lines.len(), traffic["at"].as_array().unwrap().len()),
        (16, 61)
    );
    let line = |name: &str| lines.iter().find(|line| line["labels"][3] == name).unwrap();
    about(&line("at9-1-1")["peak_bytes_per_second"], QUICK);
    about(&line("at10-1-3")["bytes_per_second"][50], SLOW);
    // Half an hour at full speed is half of the mean; of the first minutes there is no mean yet.
    about(&line("at9-1-1")["bytes_per_second"][30], QUICK);
    assert_eq!(
        (
            &line("at9-1-1")["bytes_per_second"][0],
            &line("at9-1-1")["bytes_per_second"][60]
        ),
        (&Value::Null, &0.into())
    );
    assert_eq!(traffic["slow"], serde_json::json!(["at10-1-3"]));
    let slow: Vec<_> = fleet["visit"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["what"] == "slow_receive")
        .collect();
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert_eq!(
        slow[0]["likely"],
        serde_json::json!([
            "a damaged cable",
            "a bad wall point",
            "a bad port of the switch"
        ])
    );
    assert!(
        slow[0]["seen"]
            .as_str()
            .unwrap()
            .starts_with("received 1.5 MB/s while its room had "),
        "{slow:?}"
    );

    // Figure 31: the sum of a building.
    let fleet = prometheus.fleet(
        &store,
        &["--period", "1h", "--by", "building", "--building", "AT10"],
    );
    let lines = fleet["traffic"]["lines"].as_array().unwrap();
    assert_eq!(
        (lines.len(), &lines[0]["labels"]),
        (1, &serde_json::json!(["north", "AT10"]))
    );
    about(&lines[0]["peak_bytes_per_second"], 7 * QUICK + SLOW);
    // A room whose name would be a query, by interface; over two days, in pieces.
    let fleet = prometheus.fleet(
        &store,
        &["--period", "2days", "--by", "interface", "--room", ROOM],
    );
    let lines = fleet["traffic"]["lines"].as_array().unwrap();
    assert_eq!(
        (lines.len(), &lines[0]["labels"]),
        (
            8,
            &serde_json::json!(["north", "AT10", ROOM, "at10-2-1", "eth0"])
        )
    );
    assert_eq!(fleet["traffic"]["step_seconds"], 600);
    about(&lines[0]["peak_bytes_per_second"], QUICK);
}
