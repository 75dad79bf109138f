//! The alert rules of scripts/collector.d, as promtool judges them, and against the metrics that `invcollect metrics` has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use invcollect::report::metrics;

fn part(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/collector.d").join(name)
}

fn promtool(arguments: &[&str], file: &str) -> String {
    let output = Command::new("promtool").args(arguments).arg(part(file)).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?} {file}: {said}");
    said
}

/// The values of a key that stands on its line after `before`.
fn values(text: &str, before: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(before)).map(|value| value.trim().to_owned()).collect()
}

#[test]
fn promtool_finds_nothing_wrong_and_every_case_is_as_it_should_be() {
    promtool(&["check", "rules"], "rules.yml");
    promtool(&["check", "config", "--syntax-only"], "prometheus.yml");
    promtool(&["test", "rules"], "rules.test.yml");
}

#[test]
fn every_alert_says_what_to_do_and_has_a_case() {
    let rules = fs::read_to_string(part("rules.yml")).unwrap();
    let cases = values(&fs::read_to_string(part("rules.test.yml")).unwrap(), "- name: ");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 16);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(cases.contains(name), "{name} has no case in rules.test.yml");
        assert!(alert.contains("labels: {action: visit}") || alert.contains("labels: {action: remote}"), "{name}");
        assert!(values(alert, "do: ").iter().any(|text| text.len() > 20), "{name} does not say what to do");
    }
}

/// A rule of a metric that nobody writes would never tell anything.
#[test]
fn the_rules_speak_of_metrics_that_there_are() {
    let rules = fs::read_to_string(part("rules.yml")).unwrap();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: BTreeSet<&str> = rules.split(|c| !word(c)).filter(|name| name.starts_with("labtools_")).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(metrics::ALL.iter().any(|metric| metric.name == name), "{name}: no such metric");
    }
}
