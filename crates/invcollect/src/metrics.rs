//! `invcollect metrics`: the machine as a textfile for node_exporter (Prometheus text format
//! 0.0.4).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use jsonpipe::{Answer, Common, Document, Exit, Pipe, atomic};

use crate::baseline::Baseline;
use crate::baseline::facts::{Facts, pairs};
use crate::collect;
use crate::push::backlog::Backlog;
use crate::read::machine::{Machine, PATIENCE};
use crate::report::metrics::{self as names, Kind, Metric, Written};
use crate::report::{Disk, Host, Interface};

/// `invcollect metrics FILE`: status 2 for a name that node_exporter does not read, 73, 74 or 77
/// when the file cannot be written.
pub fn metrics(common: &Common, pipe: &Pipe, file: &Path, dry_run: bool) -> anyhow::Result<Answer> {
    if file.extension().is_none_or(|extension| extension != "prom") {
        return Err(Exit::Usage.error(format_args!(
            "{}: node_exporter reads no other files than *.prom",
            file.display()
        )));
    }
    let mut host = collect::host(common, pipe);
    // `host.changes` reports a missing or unreadable baseline.
    let baseline = Baseline::read(common).ok().flatten();
    let machine = Machine::new(common);
    let spool = machine.within(PATIENCE, "spool", Backlog::read).flatten();
    host.missing.extend(machine.into_missing());
    let samples = samples(&host, baseline.as_ref(), spool.as_ref());
    let text = text(&samples, &place_labels(&host));
    if !dry_run {
        pipe.note(format_args!(
            "writing {} samples to {}",
            samples.len(),
            file.display()
        ));
        atomic::write(file, 0o644, |file| file.write_all(text.as_bytes()))?;
    }
    let written = Written {
        changed: true,
        path: file.to_string_lossy().into_owned(),
        samples: samples.len() as u64,
        missing: host.missing,
    };
    let mut document = Document::default();
    document.set("metrics", &written)?;
    Ok(Answer::yes(document))
}

/// A value of a metric, with its labels apart from those of the place.
struct Sample {
    metric: Metric,
    labels: Vec<String>,
    value: f64,
}

/// Collects samples.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    /// Unknown values have no sample.
    fn add(&mut self, metric: Metric, labels: &[&str], value: Option<impl Into<Number>>) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        // Prometheus rejects a file with two samples of the same labels.
        if !self
            .0
            .iter()
            .any(|known| known.metric == metric && known.labels == labels)
        {
            self.0.extend(value.map(|value| Sample {
                metric,
                labels,
                value: value.into().0,
            }));
        }
    }
}

/// A number of Prometheus, which has one type. Above 2^53 it loses an irrelevant precision: a byte
/// in nine petabytes.
struct Number(f64);

impl From<u64> for Number {
    fn from(value: u64) -> Number {
        Number(value as f64)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Number {
        Number(value as f64)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Number {
        Number(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Number {
        Number(if value { 1.0 } else { 0.0 })
    }
}

fn samples(host: &Host, baseline: Option<&Baseline>, spool: Option<&Backlog>) -> Vec<Sample> {
    let mut samples = Samples::default();
    of_the_machine(host, &mut samples);
    of_the_baseline(host, baseline, &mut samples);
    of_disks(host, baseline, &mut samples);
    of_interfaces(host, baseline, &mut samples);
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let base = host
        .guest
        .as_ref()
        .map(|guest| of(&guest.base))
        .unwrap_or_default();
    let is_known = !host.missing.iter().any(|missing| missing.key == "guest");
    samples.add(
        names::GUEST,
        &[&base],
        is_known.then_some(host.guest.is_some()),
    );
    for failure in &host.guest_failures {
        samples.add(names::GUEST_FAILURE, &[failure.cause], seconds(&failure.at));
    }
    if let Some(spool) = spool {
        samples.add(names::SPOOL, &[], Some(spool.bytes));
        samples.add(names::SPOOL_REPORTS, &[], Some(spool.reports));
        let oldest = spool
            .oldest
            .and_then(|oldest| oldest.duration_since(UNIX_EPOCH).ok());
        samples.add(
            names::SPOOL_OLDEST,
            &[],
            oldest.map(|oldest| oldest.as_secs()),
        );
        samples.add(names::SPOOL_REJECTED, &[], Some(spool.rejected));
    }
    samples.0
}

fn of_the_machine(host: &Host, samples: &mut Samples) {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let about = [
        &host.id,
        &host.system.model,
        &host.system.serial,
        &host.firmware.version,
        &host.boot.kernel,
    ]
    .map(of);
    samples.add(
        names::HOST,
        &about.each_ref().map(String::as_str),
        Some(true),
    );
    samples.add(names::COLLECTED, &[], seconds(&host.collected_at));
    samples.add(
        names::BOOTED,
        &[],
        host.boot.booted_at.as_deref().and_then(seconds),
    );
    samples.add(names::CLOCK, &[], host.boot.clock_before_image);
    if let Some(image) = &host.image {
        samples.add(names::IMAGE, &[&image.slot], image.version);
    }
    for base in &host.bases {
        samples.add(names::BASE, &[&base.name], Some(base.generation));
    }
    let accepted = host.chassis.accepted == Some(true);
    samples.add(
        names::CHASSIS,
        &[],
        host.chassis.opened.map(|opened| opened && !accepted),
    );
    let memory = &host.memory;
    samples.add(names::MEMORY, &[], memory.installed_bytes);
    let accepted = memory.accepted_bytes.unwrap_or(u64::MAX);
    samples.add(
        names::MEMORY_EXPECTED,
        &[],
        memory.expected_bytes.map(|expected| expected.min(accepted)),
    );
    samples.add(names::MEMORY_USABLE, &[], memory.usable_bytes);
    samples.add(names::MEMORY_AVAILABLE, &[], memory.available_bytes);
    samples.add(names::PROCESSORS, &[], host.processor.threads);
    let processor = || {
        host.temperatures
            .iter()
            .filter(|temperature| temperature.processor)
    };
    samples.add(
        names::CPU_TEMPERATURE,
        &[],
        processor()
            .map(|temperature| temperature.celsius)
            .reduce(f64::max),
    );
    samples.add(
        names::CPU_CRITICAL,
        &[],
        processor()
            .filter_map(|temperature| temperature.critical_celsius)
            .reduce(f64::min),
    );
    for temperature in &host.temperatures {
        samples.add(
            names::TEMPERATURE,
            &[&temperature.sensor],
            Some(temperature.celsius),
        );
    }
    for path in &host.unmounted {
        samples.add(names::FILESYSTEM_MOUNTED, &[path], Some(false));
    }
    for filesystem in &host.filesystems {
        samples.add(names::FILESYSTEM_MOUNTED, &[&filesystem.path], Some(true));
        samples.add(
            names::FILESYSTEM_SIZE,
            &[&filesystem.path],
            filesystem.total_bytes,
        );
        samples.add(
            names::FILESYSTEM_USED,
            &[&filesystem.path],
            filesystem.used_bytes,
        );
        samples.add(
            names::FILESYSTEM_READ_ONLY,
            &[&filesystem.path],
            Some(filesystem.read_only),
        );
        samples.add(
            names::FILESYSTEM_HANGING,
            &[&filesystem.path],
            filesystem.hanging,
        );
    }
}

fn of_the_baseline(host: &Host, baseline: Option<&Baseline>, samples: &mut Samples) {
    let Some(baseline) = baseline else { return };
    samples.add(names::MEMORY_BASELINE, &[], baseline.facts.memory_bytes());
    let mut kinds: Vec<_> = host
        .changes
        .iter()
        .map(|change| (change.about.part, change.about.action))
        .collect();
    kinds.sort();
    for kind in kinds.chunk_by(|a, b| a == b) {
        let (part, action) = kind[0];
        samples.add(
            names::CHANGES,
            &[part.word(), action.word()],
            Some(kind.len() as u64),
        );
    }
}

fn of_disks(host: &Host, baseline: Option<&Baseline>, samples: &mut Samples) {
    let subject = |disk: &Disk| {
        disk.serial
            .clone()
            .or_else(|| disk.wwn.clone())
            .unwrap_or_else(|| disk.name.clone())
    };
    let staying = || host.disks.iter().filter(|disk| !disk.removable);
    for disk in staying() {
        let mut label = subject(disk);
        // Some makers use one serial number for all disks.
        if staying().filter(|other| subject(other) == label).count() > 1 {
            label = format!("{label} {}", disk.name);
        }
        samples.add(
            names::DISK,
            &[&label, disk.model.as_deref().unwrap_or_default()],
            Some(true),
        );
        samples.add(names::DISK_SIZE, &[&label], disk.bytes);
        samples.add(
            names::DISK_HEALTHY,
            &[&label],
            disk.healthy
                .map(|healthy| healthy || disk.accepted == Some(true)),
        );
    }
    if host.boot.settles_in_seconds() > 0 {
        return; // missing devices may not have appeared yet
    }
    let now = Facts::of(host).disks;
    let (Some(expected), Some(now)) = (
        baseline.and_then(|baseline| baseline.facts.disks.as_ref()),
        now,
    ) else {
        return;
    };
    // A disk without a serial number has no label that distinguishes it from a present one.
    for (disk, _) in expected
        .iter()
        .zip(pairs(expected, &now))
        .filter(|(disk, at)| at.is_none() && disk.subject != disk.text)
    {
        // A missing disk that shares its serial number with a present one, as the name spaces of an
        // NVMe disk do, is distinguished by its place.
        let label = match &disk.place {
            _ if !now.iter().any(|other| other.subject == disk.subject) => disk.subject.clone(),
            Some(place) => format!("{} {place}", disk.subject),
            None => continue,
        };
        samples.add(names::DISK, &[&label, ""], Some(false));
    }
}

fn of_interfaces(host: &Host, baseline: Option<&Baseline>, samples: &mut Samples) {
    let links = || {
        baseline
            .iter()
            .flat_map(|baseline| baseline.facts.links.iter().flatten())
    };
    let bytes = |bits: Option<u64>| bits.map(|bits| bits / 8);
    for interface in &host.interfaces {
        let name = interface.name.as_str();
        let link = [
            name,
            if interface.wireless {
                "wireless"
            } else {
                "wired"
            },
        ];
        // Bridges and VLANs have the address and the link of the hardware below them.
        if interface.hardware {
            samples.add(names::LINK, &link, interface.carrier);
            samples.add(
                names::LINK_SPEED,
                &link,
                bytes(interface.speed_bits_per_second),
            );
        }
        if interface.stays() {
            let best = interface.best_speed_bits_per_second;
            let mut same = links().filter(|known| known.subject == interface.subject());
            let known = same
                .clone()
                .find(|known| known.name == interface.name)
                .or_else(|| same.next());
            samples.add(
                names::LINK_BEST,
                &link,
                bytes(known.map_or(best, |known| known.expected(best))),
            );
            let half = interface
                .duplex
                .as_ref()
                .map(|duplex| duplex == "half" && interface.accepted != Some(true));
            samples.add(names::LINK_HALF, &link, half);
        }
        samples.add(
            names::SIGNAL,
            &[name],
            interface
                .station
                .as_ref()
                .and_then(|station| station.signal_dbm),
        );
        samples.add(names::RECEIVED, &[name], interface.received_bytes);
        samples.add(names::SENT, &[name], interface.sent_bytes);
        samples.add(names::RECEIVE_ERRORS, &[name], interface.receive_errors);
    }
    // An interface that is switched off reports no link, and plugging in a cable would not help.
    let linked = |wireless: bool| {
        let of_kind = host
            .interfaces
            .iter()
            .filter(|interface| interface.hardware && interface.wireless == wireless);
        of_kind
            .filter_map(|interface| interface.carrier)
            .reduce(|some, one| some || one)
    };
    let is_missed = |interface: &Interface| interface.stays() && interface.accepted != Some(true);
    let missed = host
        .interfaces
        .iter()
        .any(|interface| is_missed(interface) && interface.carrier == Some(false));
    let wireless_only = linked(false).map(|wired| !wired && linked(true) == Some(true) && missed);
    samples.add(names::WIRELESS_ONLY, &[], wireless_only);
}

fn seconds(time: &str) -> Option<u64> {
    humantime::parse_rfc3339(time)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()
        .as_ref()
        .map(Duration::as_secs)
}

/// The labels of every metric.
fn place_labels(host: &Host) -> String {
    let place = host.place.as_ref();
    let of = |value: Option<&String>| escape(value.map_or("", |value| value));
    let campus = of(place.map(|place| &place.campus));
    let building = of(place.map(|place| &place.building));
    let room = of(place.map(|place| &place.room));
    format!(
        "campus=\"{campus}\",building=\"{building}\",room=\"{room}\",host=\"{}\"",
        of(host.hostname.as_ref())
    )
}

fn text(samples: &[Sample], place: &str) -> String {
    let mut text = String::new();
    for metric in names::ALL {
        let mut samples = samples
            .iter()
            .filter(|sample| sample.metric == *metric)
            .peekable();
        if samples.peek().is_none() {
            continue;
        }
        let Metric {
            name, help, kind, ..
        } = metric;
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in samples {
            let own = metric
                .labels
                .iter()
                .zip(&sample.labels)
                .map(|(name, value)| format!(",{name}=\"{}\"", escape(value)));
            let _ = writeln!(
                text,
                "{name}{{{place}{}}} {}",
                own.collect::<String>(),
                sample.value
            );
        }
    }
    text
}

/// Escapes a label's value: three characters have their own spelling (Prometheus, text-based
/// format). Terminal control characters are replaced, in case an earlier check missed them.
fn escape(value: &str) -> String {
    let value = value.replace(|c| c != '\n' && jsonpipe::is_hidden(c), "\u{fffd}");
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_labels_stay_labels() {
        let sample = Sample {
            metric: names::SIGNAL,
            labels: vec!["a\"} 1\n# \\".into()],
            value: -61.0,
        };
        let text = text(&[sample], "host=\"h\"");
        assert!(
            text.ends_with(
                "\nlabtools_wireless_signal_dbm{host=\"h\",interface=\"a\\\"} 1\\n# \\\\\"} -61\n"
            ),
            "{text}"
        );
        assert_eq!(super::text(&[], ""), "");
        assert_eq!(escape("\u{1b}[2J\u{202e}x"), "\u{fffd}[2J\u{fffd}x");
    }
}
