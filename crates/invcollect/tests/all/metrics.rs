//! `metrics`: what Prometheus gets.

mod accepted;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use invcollect::report::metrics::{ALL, Kind};

use crate::machine;
use crate::machine::Machine;
use crate::machine::smbios::Tables;

/// The file that `metrics` writes of this machine, after promtool has read it.
fn metrics(machine: &Machine) -> String {
    let file = machine.path("labtools.prom");
    let ended = machine.run(&["metrics", file.to_str().unwrap()]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    let text = fs::read_to_string(&file).unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(ended.document()["metrics"]["samples"], samples);
    text
}

/// The samples, without the labels that all have, which are checked.
fn samples(text: &str) -> BTreeMap<String, f64> {
    const PLACE: &str = "{campus=\"sa\",building=\"b1\",room=\"101\",host=\"b1-h7\"";
    let sample = |line: &str| {
        let (name, rest) = line
            .split_once(PLACE)
            .unwrap_or_else(|| panic!("not with the labels of the place: {line}"));
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        (
            format!("{name}{{{}}}", labels.trim_start_matches(',')),
            value.parse().unwrap(),
        )
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(sample)
        .collect()
}

#[test]
fn a_machine_is_measured() {
    let machine = Machine::optiplex();
    machine.run(&["changes"]);
    machine.write("var/lib/labtools/spool/001790000001.snapshot", "0123456789");
    machine.write(
        "var/lib/labtools/spool/.001790000002.snapshot.tmp",
        "not finished",
    );
    machine.write("var/lib/labtools/spool/sent", "is at the collector");
    machine.write("var/lib/labtools/spool/rejected/001790000000.snapshot", "x");
    let samples = samples(&metrics(&machine));
    for (name, value) in [
        ("labtools_chassis_opened{}", 0.0),
        ("labtools_memory_installed_bytes{}", 8589934592.0),
        ("labtools_memory_baseline_bytes{}", 8589934592.0),
        ("labtools_memory_expected_bytes{}", 8589934592.0),
        ("labtools_processors{}", 8.0),
        ("labtools_cpu_temperature_celsius{}", 47.0),
        (
            "labtools_disk_present{disk=\"WD-WCC2EKP12345\",model=\"WDC WD5000AAKX-7\"}",
            1.0,
        ),
        (
            "labtools_disk_size_bytes{disk=\"WD-WCC2EKP12345\"}",
            500107862016.0,
        ),
        ("labtools_link_up{interface=\"eth0\",medium=\"wired\"}", 1.0),
        (
            "labtools_link_speed_bytes_per_second{interface=\"eth0\",medium=\"wired\"}",
            125e6,
        ),
        (
            "labtools_link_best_speed_bytes_per_second{interface=\"eth0\",medium=\"wired\"}",
            125e6,
        ),
        (
            "labtools_interface_receive_bytes_total{interface=\"eth0\"}",
            9007199254740993.0,
        ),
        (
            "labtools_interface_transmit_bytes_total{interface=\"eth0\"}",
            2000.0,
        ),
        ("labtools_wireless_only{}", 0.0),
        ("labtools_guest_running{base=\"\"}", 0.0),
        ("labtools_base_generation{base=\"windows\"}", 7.0),
        ("labtools_image_version{slot=\"a\"}", 12.0),
        ("labtools_clock_before_image{}", 0.0),
        ("labtools_spool_bytes{}", 10.0),
        ("labtools_spool_reports{}", 1.0),
        ("labtools_spool_rejected_reports{}", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}: {samples:#?}");
    }
    let about = format!(
        "labtools_host_info{{id=\"{}\",model=\"OptiPlex 7010\",serial=\"ABC1234\",firmware=\"A29\",kernel=\"6.1.0-41-amd64\"}}",
        machine::ID
    );
    assert_eq!(samples[&about], 1.0);
    assert!(
        samples["labtools_spool_oldest_timestamp_seconds{}"]
            <= samples["labtools_collected_timestamp_seconds{}"]
    );
}

#[test]
fn metrics_cover_calls_of_a_technician() {
    let machine = Machine::optiplex();
    machine.run(&["changes"]);
    let mut tables = Tables::optiplex();
    tables.slots[2].mib = 0;
    machine.firmware(&tables);
    machine.intrusion(true);
    machine.remove("sys/block/sda");
    machine.speed("eth0", None);
    machine.wireless("wlan0", "00:1b:21:0a:0b:0e", true);
    machine.write(
        "dev/kmsg",
        "6,300,1,-;rtc_cmos 00:05: setting system clock to 2012-01-01T00:00:04 UTC (1325376004)\n",
    );
    machine.run(&["changes"]);
    let samples = samples(&metrics(&machine));
    for (name, value) in [
        ("labtools_chassis_opened{}", 1.0),
        ("labtools_memory_installed_bytes{}", 4294967296.0),
        ("labtools_memory_baseline_bytes{}", 8589934592.0),
        (
            "labtools_disk_present{disk=\"WD-WCC2EKP12345\",model=\"\"}",
            0.0,
        ),
        ("labtools_link_up{interface=\"eth0\",medium=\"wired\"}", 0.0),
        (
            "labtools_link_up{interface=\"wlan0\",medium=\"wireless\"}",
            1.0,
        ),
        ("labtools_wireless_only{}", 1.0),
        ("labtools_clock_before_image{}", 1.0),
        ("labtools_changes{part=\"memory\",action=\"removed\"}", 1.0),
        ("labtools_changes{part=\"disk\",action=\"removed\"}", 1.0),
        ("labtools_changes{part=\"chassis\",action=\"opened\"}", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}: {samples:#?}");
    }
    assert!(
        !samples.contains_key(
            "labtools_link_speed_bytes_per_second{interface=\"eth0\",medium=\"wired\"}"
        )
    );
}

/// Two disks that a maker numbered alike, there and gone: Prometheus would take none of the file.
/// `metrics` asks promtool.
#[test]
fn disks_with_the_same_serial_number_are_told_apart() {
    let machine = Machine::optiplex();
    machine.sata_disk(
        "sdb",
        "ata2/host1/target1:0:0/1:0:0:0",
        "WDC WD5000AAKX-7",
        "WD-WCC2EKP12345",
        976_773_168,
    );
    machine.run(&["changes"]);
    let present = |samples: &BTreeMap<String, f64>| {
        let of_disks = samples
            .iter()
            .filter(|(name, _)| name.starts_with("labtools_disk_present{"));
        of_disks
            .map(|(name, value)| (name.clone(), *value))
            .collect::<Vec<_>>()
    };
    let disk = |disk: &str, model: &str| {
        format!("labtools_disk_present{{disk=\"{disk}\",model=\"{model}\"}}")
    };
    let both = ["WD-WCC2EKP12345 sda", "WD-WCC2EKP12345 sdb"]
        .map(|name| (disk(name, "WDC WD5000AAKX-7"), 1.0));
    assert_eq!(present(&samples(&metrics(&machine))), both);
    // One of them is still there: its serial number is none that is gone.
    machine.remove("sys/block/sdb");
    let one = [
        (disk("WD-WCC2EKP12345 0000:00:1f.2 ata2", ""), 0.0),
        (disk("WD-WCC2EKP12345", "WDC WD5000AAKX-7"), 1.0),
    ];
    assert_eq!(present(&samples(&metrics(&machine))), one);
    machine.remove("sys/block/sda");
    assert_eq!(
        present(&samples(&metrics(&machine))),
        [(disk("WD-WCC2EKP12345", ""), 0.0)]
    );

    // In a machine that has just booted they may not have been found yet.
    machine.boot("22222222-0000-4000-8000-000000000002", 10);
    assert_eq!(present(&samples(&metrics(&machine))), []);
}

/// An interface that is switched off has no link that somebody could mend.
#[test]
fn a_link_that_nobody_can_know_of_has_no_sample() {
    let machine = Machine::optiplex();
    machine.wireless("wlan0", "00:1b:21:0a:0b:0e", true);
    machine.write("sys/class/net/eth0/carrier", "");
    let samples = samples(&metrics(&machine));
    assert!(
        !samples.contains_key("labtools_link_up{interface=\"eth0\",medium=\"wired\"}"),
        "{samples:#?}"
    );
    assert!(
        !samples.contains_key("labtools_wireless_only{}"),
        "{samples:#?}"
    );
}

/// The other end of the cable may not say what it offers; the baseline knows what it was.
#[test]
fn a_link_is_compared_with_what_it_was() {
    let machine = Machine::optiplex();
    machine.netlink(r#"{"addresses":{"eth0":["10.0.3.7/24"]}}"#);
    machine.run(&["changes"]);
    machine.speed("eth0", Some(100));
    let samples = samples(&metrics(&machine));
    assert_eq!(
        samples["labtools_link_speed_bytes_per_second{interface=\"eth0\",medium=\"wired\"}"],
        12.5e6
    );
    assert_eq!(
        samples["labtools_link_best_speed_bytes_per_second{interface=\"eth0\",medium=\"wired\"}"],
        125e6
    );
}

/// What node_exporter serves is what was written, and it has no complaint about it.
#[test]
fn node_exporter_serves_it() {
    let machine = Machine::optiplex();
    let text = metrics(&machine);
    let mut node_exporter = Command::new("prometheus-node-exporter");
    node_exporter.args([
        "--web.listen-address=127.0.0.1:0",
        "--web.disable-exporter-metrics",
    ]);
    node_exporter
        .args([
            "--collector.disable-defaults",
            "--collector.textfile",
            "--collector.textfile.directory",
        ])
        .arg(machine.root());
    let mut node_exporter = node_exporter.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(node_exporter.stderr.take().unwrap()).lines();
    let address = log.find_map(|line| {
        line.unwrap()
            .split_once("msg=\"Listening on\" address=")
            .map(|(_, address)| address.to_owned())
    });
    let mut connection = TcpStream::connect(address.expect("it listens")).unwrap();
    connection
        .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut served = String::new();
    connection.read_to_string(&mut served).unwrap();
    node_exporter.kill().unwrap();
    node_exporter.wait().unwrap();
    assert!(served.contains("node_textfile_scrape_error 0"), "{served}");
    for metric in ALL {
        let count = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with(&format!("{}{{", metric.name)))
                .count()
        };
        assert_eq!(count(&served), count(&text), "{}: {served}", metric.name);
    }
}

/// Every sample is of a metric of the list, with its labels.
#[test]
fn the_list_is_what_is_written() {
    let machine = Machine::optiplex();
    let text = metrics(&machine);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.split_once('{').unwrap();
        let metric = ALL
            .iter()
            .find(|metric| metric.name == name)
            .unwrap_or_else(|| panic!("{name} is not in the list"));
        assert!(
            metric
                .labels
                .iter()
                .all(|label| labels.contains(&format!(",{label}=\""))),
            "{line}"
        );
        assert_eq!(
            name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{name}"
        );
    }
}

#[test]
fn hostile_names_stay_labels() {
    let machine = Machine::optiplex();
    machine.write("proc/sys/kernel/hostname", "h\"} 1\\");
    machine.write(
        "etc/fstab",
        "/dev/sda1 /a\\012b\"{\\134 ext4 defaults 0 0\n",
    );
    machine.write(
        "proc/self/mountinfo",
        "27 1 8:1 / /a\\012b\"{\\134 rw - ext4 /dev/sda1 rw\n",
    );
    machine.write(
        "etc/labtools/campus.ini",
        "[net.n]\ncidr=10.0.3.0/24\ncampus=s\"a\nbuilding=b{1}\nroom=#\n",
    );
    let text = metrics(&machine);
    assert!(text.contains(",path=\"/a\\nb\\\"{\\\\\"} "), "{text}");
    assert!(
        text.contains("{campus=\"s\\\"a\",building=\"b{1}\",room=\"#\",host=\"h\\\"} 1\\\\\","),
        "{text}"
    );
}

#[test]
fn a_machine_of_which_nothing_is_known_has_metrics() {
    let text = metrics(&Machine::empty());
    assert!(
        text.contains("labtools_host_info{campus=\"\",building=\"\",room=\"\",host=\"\",id=\"\""),
        "{text}"
    );
}

#[test]
fn the_file_appears_whole_for_node_exporter() {
    let machine = Machine::optiplex();
    metrics(&machine);
    let file = machine.path("labtools.prom");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    fs::write(&file, "old").unwrap();
    let dry = machine.run(&["metrics", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!(
        (dry.status, fs::read_to_string(&file).unwrap().as_str()),
        (0, "old")
    );
    let other = machine.run(&["metrics", "labtools.txt"]);
    assert_eq!((other.status, other.stdout.as_str()), (2, ""));
    assert!(other.stderr.contains("*.prom"), "{}", other.stderr);
    let nowhere = machine.run(&[
        "metrics",
        machine.path("nowhere/labtools.prom").to_str().unwrap(),
    ]);
    assert_eq!(
        (nowhere.status, nowhere.stdout.as_str()),
        (74, ""),
        "{}",
        nowhere.stderr
    );
}
