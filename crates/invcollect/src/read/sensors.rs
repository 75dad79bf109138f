//! Temperatures and the intrusion switch, from /sys/class/hwmon.

use crate::read::machine::Machine;
use crate::report::Temperature;

const DIRECTORY: &str = "/sys/class/hwmon";
/// The drivers of processors' own sensors.
const PROCESSORS: &[&str] = &["coretemp", "k10temp", "zenpower", "cpu_thermal"];

/// By sensor.
pub fn temperatures(machine: &Machine) -> Vec<Temperature> {
    let mut temperatures = Vec::new();
    let mut places = Vec::new();
    for chip in machine.names(DIRECTORY) {
        let directory = format!("{DIRECTORY}/{chip}");
        let Some(name) = machine.value(format!("{directory}/name")) else {
            continue;
        };
        for file in machine.names(&directory) {
            let Some(channel) = file
                .strip_prefix("temp")
                .and_then(|rest| rest.strip_suffix("_input"))
            else {
                continue;
            };
            let celsius =
                |what: &str| celsius(machine.value(format!("{directory}/temp{channel}_{what}"))?);
            let Some(now) = celsius("input") else {
                continue;
            };
            // The device of the chip: the chip's own number changes between boots.
            let part = machine
                .linked(format!("{directory}/device"))
                .unwrap_or_else(|| chip.clone());
            places.push([part, format!("temp{channel}"), chip.clone()]);
            let label = machine
                .value(format!("{directory}/temp{channel}_label"))
                .unwrap_or_else(|| format!("temp{channel}"));
            temperatures.push(Temperature {
                processor: PROCESSORS.contains(&name.as_str()),
                celsius: now,
                critical_celsius: celsius("crit"),
                sensor: format!("{name} {label}"),
            });
        }
    }
    // Two chips of a kind have sensors of the same name, and some chips use a label twice.
    for at in 0..3 {
        let told: Vec<_> = temperatures
            .iter()
            .map(|one| one.sensor.clone())
            .zip(&places)
            .collect();
        for (temperature, (name, place)) in temperatures.iter_mut().zip(&told) {
            if told
                .iter()
                .any(|(other, elsewhere)| other == name && elsewhere[at] != place[at])
            {
                temperature.sensor = format!("{name} {}", place[at]);
            }
        }
    }
    if !temperatures.iter().any(|temperature| temperature.processor) {
        machine.missing(
            "temperatures",
            "no sensor of the processor; the module coretemp or k10temp is not loaded, or has nothing to say",
        );
    }
    temperatures.sort_by(|a, b| a.sensor.cmp(&b.sensor));
    temperatures
}

/// In thousandths of a degree. An unconnected sensor reads 0 or nonsense; no room is that cold, no
/// running chip that hot.
fn celsius(text: String) -> Option<f64> {
    let thousandths: i64 = text.parse().ok()?;
    (1..150_000)
        .contains(&thousandths)
        .then_some(thousandths as f64 / 1000.0)
}

/// Whether an intrusion switch recorded that the case was opened; `None` without a switch with a
/// driver.
pub fn intrusion(machine: &Machine) -> Option<bool> {
    let mut opened = None;
    for chip in machine.names(DIRECTORY) {
        for file in machine.names(format!("{DIRECTORY}/{chip}")) {
            if file.starts_with("intrusion") && file.ends_with("_alarm") {
                let alarm = machine.number(format!("{DIRECTORY}/{chip}/{file}"));
                opened = alarm
                    .map(|alarm| alarm != 0 || opened == Some(true))
                    .or(opened);
            }
        }
    }
    opened
}
