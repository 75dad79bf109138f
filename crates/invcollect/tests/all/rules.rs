//! The alert rules of scripts/collector, as promtool judges them, and against the metrics that
//! `invcollect metrics` has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use invcollect::report::metrics;

fn part(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts/collector")
        .join(name)
}

fn promtool(arguments: &[&str], file: &str) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .arg(part(file))
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "promtool {arguments:?} {file}: {said}"
    );
    said
}

/// The values of a key that stands on its line after `before`.
fn values(text: &str, before: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix(before))
        .map(|value| value.trim().to_owned())
        .collect()
}

#[test]
fn promtool_finds_nothing_wrong_and_every_case_is_as_it_should_be() {
    promtool(&["check", "rules"], "rules.yml");
    promtool(&["check", "config", "--syntax-only"], "prometheus.yml");
    promtool(&["test", "rules"], "rules.test.yml");
    promtool(&["test", "rules"], "rules.weeks.test.yml");
}

#[test]
fn every_alert_says_what_to_do_and_has_a_case() {
    let rules = fs::read_to_string(part("rules.yml")).unwrap();
    let cases = fs::read_to_string(part("rules.test.yml")).unwrap()
        + &fs::read_to_string(part("rules.weeks.test.yml")).unwrap();
    let named = values(&cases, "- name: ");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 18);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(named.contains(name), "{name} has no case that fires");
        assert!(
            cases.contains(&format!("alertname: {name}, exp_alerts: []")),
            "{name} has no case that does not fire"
        );
        assert!(
            alert.contains("labels: {action: visit}") || alert.contains("labels: {action: remote}"),
            "{name}"
        );
        assert!(
            values(alert, "do: ").iter().any(|text| text.len() > 20),
            "{name} does not say what to do"
        );
        let summary = values(alert, "summary: ").into_iter().next().unwrap();
        let place = "{{ $labels.host }} ({{ $labels.building }}, room {{ $labels.room }}): ";
        let whole = [
            "{{ $labels.building }}, room {{ $labels.room }}: ",
            "the collector: ",
        ];
        assert!(
            summary.starts_with(&format!("\"{place}"))
                || (["RoomSilent", "SpoolsGrowing"].contains(&name)
                    && whole.iter().any(|place| summary.contains(place))),
            "{name} does not say where: {summary}"
        );
    }
}

/// A rule of a metric that nobody writes would never tell anything.
#[test]
fn the_rules_speak_of_metrics_that_there_are() {
    let rules = fs::read_to_string(part("rules.yml")).unwrap();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: BTreeSet<&str> = rules
        .split(|c| !word(c))
        .filter(|name| name.starts_with("labtools_"))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let metric = metrics::ALL
            .iter()
            .find(|metric| metric.name == name)
            .unwrap_or_else(|| panic!("{name}: no such metric"));
        // What it is selected by, it has.
        let opening = format!("{name}{{");
        let selectors = rules
            .split(&opening)
            .skip(1)
            .map(|rest| rest.split('}').next().unwrap());
        for label in selectors.flat_map(|selector| selector.split(',')) {
            let label = label.split(['=', '!']).next().unwrap();
            assert!(metric.labels.contains(&label), "{name}: no label {label}");
        }
    }
}
