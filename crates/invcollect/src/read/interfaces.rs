//! The network interfaces, from /sys/class/net and the kernel's answers.

use crate::read::devices;
use crate::read::kernel::{self, Answers};
use crate::read::machine::{Machine, PATIENCE};
use crate::report::Interface;

const DIRECTORY: &str = "/sys/class/net";
const TYPE_ETHERNET: u64 = 1; // ARPHRD_ETHER, also of wireless interfaces

/// All interfaces except the loopback, by name.
pub fn read(machine: &Machine) -> Vec<Interface> {
    let names = match machine.list(DIRECTORY) {
        Ok(names) => names,
        Err(error) => {
            machine.unreadable("interfaces", DIRECTORY, &error);
            return Vec::new();
        }
    };
    let ethernet =
        |name: &String| machine.number(format!("{DIRECTORY}/{name}/type")) == Some(TYPE_ETHERNET);
    let names: Vec<String> = names.into_iter().filter(ethernet).collect();
    let answers = kernel::ask(machine, &names);
    // The files of an interface need the same lock.
    let read = move |machine: &Machine| {
        names
            .into_iter()
            .map(|name| interface(machine, &answers, name))
            .collect()
    };
    machine
        .within(PATIENCE, "interfaces", read)
        .unwrap_or_default()
}

fn interface(machine: &Machine, answers: &Answers, name: String) -> Interface {
    let directory = format!("{DIRECTORY}/{name}");
    let exists = |file: &str| machine.path(format!("{directory}/{file}")).exists();
    let value = |file: &str| machine.value(format!("{directory}/{file}"));
    let number = |file: &str| machine.number(format!("{directory}/{file}"));
    let carrier = number("carrier").map(|carrier| carrier == 1); // unreadable while the interface is down
    let wireless = exists("phy80211") || exists("wireless");
    let station = answers.stations.get(&name).filter(|_| wireless);
    let mut speed = station.and_then(|station| station.speed_bits_per_second);
    let mut best = None;
    if !wireless && carrier == Some(true) {
        // The kernel reports -1 for an unknown speed.
        speed = number("speed")
            .filter(|megabits| (1..=10_000_000).contains(megabits))
            .map(|megabits| megabits * 1_000_000);
        best = answers.best_speeds.get(&name).copied();
    }
    Interface {
        kind: kind(machine, &directory),
        hardware: exists("device"),
        removable: machine
            .linked(format!("{directory}/device/subsystem"))
            .as_deref()
            == Some("usb")
            || devices::is_removable(machine, &directory),
        wireless,
        mac: value("address").filter(|mac| mac != "00:00:00:00:00:00"),
        permanent_mac: answers.permanent_addresses.get(&name).cloned(),
        driver: machine.linked(format!("{directory}/device/driver")),
        pci: machine
            .linked(format!("{directory}/device"))
            .filter(|address| address.split(':').count() == 3),
        carrier,
        speed_bits_per_second: speed,
        best_speed_bits_per_second: best,
        duplex: value("duplex").filter(|duplex| carrier == Some(true) && duplex != "unknown"),
        accepted: None,
        addresses: answers.addresses.get(&name).cloned().unwrap_or_default(),
        received_bytes: number("statistics/rx_bytes"),
        sent_bytes: number("statistics/tx_bytes"),
        receive_errors: number("statistics/rx_errors"),
        station: station.map(|station| station.station()),
        // Root chooses the name.
        name: jsonpipe::shown(&name).into_owned(),
    }
}

/// Its type by the kernel, otherwise by the settings that only this type has.
fn kind(machine: &Machine, directory: &str) -> Option<&'static str> {
    let told = machine
        .text(format!("{directory}/uevent"))
        .unwrap_or_default();
    let told = told.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
    let has = |name: &str| machine.path(format!("{directory}/{name}")).is_dir();
    ["bond", "bridge", "vlan"]
        .into_iter()
        .find(|kind| told == Some(kind))
        .or_else(|| {
            [("bonding", "bond"), ("bridge", "bridge")]
                .into_iter()
                .find_map(|(settings, kind)| has(settings).then_some(kind))
        })
}
