//! The inventory in GLPI's own format (glpi-project/inventory_format 1.2.3), which a GLPI server
//! accepts without an agent.
//!
//! Sizes are in MiB, `speed` is a string, and unknown values are left out, since null is not
//! allowed. The section `host` is included as `content.x_invcollect`: since 1.2 the schema allows
//! additional keys below `content` (GLPI 11, which ignores them and keeps them in its file of the
//! inventory); before, it refuses the whole inventory (GLPI 10).

use std::net::IpAddr;

use jsonpipe::{Exit, ExitContext};
use serde_json::{Map, Value, json};

use crate::report::{Disk, Host, Interface};

const MIB: u64 = 1 << 20;
/// Above the packages of any PC.
const CPUS_MAX: u64 = 64;

/// The document, with a newline. Status 66 for a machine without an id: GLPI would take it for a
/// new one, or for another one without an id.
pub fn inventory(host: &Host) -> anyhow::Result<String> {
    let no_id = || {
        let reason = host
            .missing
            .iter()
            .find(|missing| missing.key == "id")
            .map(|missing| missing.reason.as_str());
        // The fault of the file, if it exists.
        let wrong = reason
            .filter(|reason| reason.starts_with(envelope::HOST_ID))
            .map(|reason| format!(": {reason}"));
        let wrong =
            wrong.unwrap_or_else(|| format!("; the installer writes {}", envelope::HOST_ID));
        format!("making the inventory for GLPI: no id of this machine{wrong}")
    };
    let id = host.id.clone().exit(Exit::NoInput, no_id)?;
    let is_known = |key: &str| !host.missing.iter().any(|missing| missing.key == key);
    let content = [
        (
            "versionclient",
            Some(json!(concat!("invcollect_v", env!("CARGO_PKG_VERSION")))),
        ),
        ("hardware", Some(hardware(host))),
        ("bios", Some(bios(host))),
        ("operatingsystem", Some(operating_system(host))),
        ("cpus", Some(cpus(host))),
        // An empty list would make GLPI remove the modules.
        ("memories", host.memory.slots.map(|_| memories(host))),
        (
            "storages",
            is_known("disks").then(|| host.disks.iter().map(storage).collect()),
        ),
        ("drives", Some(drives(host))),
        (
            "networks",
            Some(
                host.interfaces
                    .iter()
                    .flat_map(|interface| networks(host, interface))
                    .collect(),
            ),
        ),
        ("controllers", Some(controllers(host))),
        ("softwares", Some(softwares(host))),
        ("x_invcollect", Some(serde_json::to_value(host)?)),
    ];
    let mut document = object(vec![
        ("deviceid", Some(id.into())),
        ("itemtype", Some("Computer".into())),
        ("action", Some("inventory".into())),
        ("content", Some(object(content.into()))),
    ])
    .to_string();
    document.push('\n');
    Ok(document)
}

/// An object of the known members.
fn object(members: Vec<(&str, Option<Value>)>) -> Value {
    let known = members
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(known.collect::<Map<_, _>>())
}

fn text(value: &Option<String>) -> Option<Value> {
    value.clone().map(Value::from)
}

fn mib(bytes: Option<u64>) -> Option<Value> {
    bytes.map(|bytes| (bytes / MIB).into())
}

fn hardware(host: &Host) -> Value {
    let default = |route: &&crate::report::Route| route.destination == "0.0.0.0/0";
    object(vec![
        ("name", text(&host.hostname)),
        ("uuid", text(&host.system.uuid)),
        ("memory", mib(host.memory.installed_bytes)),
        (
            "defaultgateway",
            host.routes
                .iter()
                .find(default)
                .and_then(|route| text(&route.gateway)),
        ),
        ("chassis_type", host.chassis.kind_name.map(Value::from)),
    ])
}

fn bios(host: &Host) -> Value {
    object(vec![
        ("bmanufacturer", text(&host.firmware.vendor)),
        ("bversion", text(&host.firmware.version)),
        (
            "bdate",
            host.firmware
                .date
                .as_deref()
                .and_then(date)
                .map(Value::from),
        ),
        ("smanufacturer", text(&host.system.manufacturer)),
        ("smodel", text(&host.system.model)),
        ("ssn", text(&host.system.serial)),
        ("mmanufacturer", text(&host.board.manufacturer)),
        ("mmodel", text(&host.board.product)),
        ("msn", text(&host.board.serial)),
        ("enclosureserial", text(&host.chassis.serial)),
        ("assettag", text(&host.chassis.asset_tag)),
    ])
}

/// Converts `06/28/2018`, the form of SMBIOS, to `2018-06-28`.
fn date(american: &str) -> Option<String> {
    let [month, day, year] = american.split('/').collect::<Vec<_>>().try_into().ok()?;
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    (digits(month, 2) && digits(day, 2) && digits(year, 4)).then(|| format!("{year}-{month}-{day}"))
}

fn operating_system(host: &Host) -> Value {
    let boot_time = host
        .boot
        .booted_at
        .as_ref()
        .map(|at| at.replace('T', " ").trim_end_matches('Z').to_owned());
    object(vec![
        ("kernel_name", Some("linux".into())),
        ("kernel_version", text(&host.boot.kernel)),
        ("arch", Some(std::env::consts::ARCH.into())),
        ("boot_time", boot_time.map(Value::from)),
        ("timezone", Some(json!({"name": "UTC", "offset": "+0000"}))),
    ])
}

fn cpus(host: &Host) -> Value {
    let processor = &host.processor;
    let per_package = |cores: u64| cores.checked_div(processor.packages?);
    let cpu = object(vec![
        ("name", text(&processor.model)),
        ("arch", Some(std::env::consts::ARCH.into())),
        (
            "core",
            processor.cores.and_then(per_package).map(Value::from),
        ),
        (
            "thread",
            processor
                .threads
                .zip(processor.cores)
                .and_then(|(threads, cores)| threads.checked_div(cores))
                .map(Value::from),
        ),
    ]);
    // At least one, if any is known.
    let least = u64::from(processor.model.is_some() || processor.threads.is_some());
    let count = processor.packages.unwrap_or(least).min(CPUS_MAX);
    Value::Array((0..count).map(|_| cpu.clone()).collect())
}

fn memories(host: &Host) -> Value {
    let module = |module: &crate::report::Module| {
        object(vec![
            ("capacity", mib(module.bytes)),
            ("caption", text(&module.slot)),
            ("manufacturer", text(&module.manufacturer)),
            ("serialnumber", text(&module.serial)),
            ("model", text(&module.part)),
            (
                "speed",
                module
                    .megatransfers_per_second
                    .map(|speed| speed.to_string().into()),
            ),
            ("numslots", Some(module.number.into())),
            ("type", module.kind_name.map(Value::from)),
        ])
    };
    host.memory.modules.iter().map(module).collect()
}

fn storage(disk: &Disk) -> Value {
    let interface = match disk.transport {
        Some("sata") => Some("SATA"),
        Some("usb") => Some("USB"),
        Some("scsi") => Some("SCSI"),
        Some("nvme") => Some("NVME"), // the spelling of GLPI's own agent
        _ => None,
    };
    object(vec![
        ("name", Some(disk.name.clone().into())),
        ("model", text(&disk.model)),
        ("serial", text(&disk.serial)),
        ("wwn", text(&disk.wwn)),
        ("disksize", mib(disk.bytes)),
        ("type", Some("disk".into())),
        (
            "description",
            disk.transport
                .map(|transport| transport.to_uppercase().into()),
        ),
        ("interface", interface.map(Value::from)),
    ])
}

fn drives(host: &Host) -> Value {
    let drive = |filesystem: &crate::report::Filesystem| {
        object(vec![
            ("type", Some(filesystem.path.clone().into())),
            ("volumn", Some(filesystem.source.clone().into())),
            ("filesystem", Some(filesystem.kind.clone().into())),
            ("total", mib(filesystem.total_bytes)),
            ("free", mib(filesystem.available_bytes)),
        ])
    };
    host.filesystems.iter().map(drive).collect()
}

fn kind(interface: &Interface) -> &'static str {
    match interface.kind {
        _ if interface.wireless => "wifi",
        Some("bond") => "aggregate",
        Some("bridge") => "bridge",
        Some("vlan") => "alias",
        _ => "ethernet",
    }
}

/// One network for each address, as agents do it; one for an interface without an address.
fn networks(host: &Host, interface: &Interface) -> Vec<Value> {
    let common = |members: Vec<(&str, Option<Value>)>| {
        let station = interface.station.as_ref();
        let always = vec![
            ("description", Some(interface.name.clone().into())),
            ("mac", text(&interface.mac)),
            (
                "status",
                interface
                    .carrier
                    .map(|carrier| if carrier { "up" } else { "down" }.into()),
            ),
            ("type", Some(kind(interface).into())),
            ("virtualdev", Some((!interface.hardware).into())),
            ("driver", text(&interface.driver)),
            ("pcislot", text(&interface.pci)),
            (
                "speed",
                interface
                    .speed_bits_per_second
                    .map(|speed| (speed / 1_000_000).to_string().into()),
            ),
            ("wifi_ssid", station.and_then(|station| text(&station.ssid))),
            (
                "wifi_bssid",
                station.and_then(|station| text(&station.bssid)),
            ),
        ];
        object(always.into_iter().chain(members).collect())
    };
    let gateway = |is_default: &str| {
        let route = host
            .routes
            .iter()
            .find(|route| route.destination == is_default && route.interface == interface.name)?;
        text(&route.gateway)
    };
    let parsed = interface.addresses.iter().filter_map(|address| {
        let (address, prefix) = address.split_once('/')?;
        Some((address.parse::<IpAddr>().ok()?, prefix.parse::<u32>().ok()?))
    });
    let entries: Vec<Value> = parsed
        .map(|(address, prefix)| match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
                let dotted = |bits: u32| Some(std::net::Ipv4Addr::from(bits).to_string().into());
                common(vec![
                    ("ipaddress", Some(v4.to_string().into())),
                    ("ipmask", dotted(mask)),
                    ("ipsubnet", dotted(v4.to_bits() & mask)),
                    ("ipgateway", gateway("0.0.0.0/0")),
                ])
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
                let colons = |bits: u128| Some(std::net::Ipv6Addr::from(bits).to_string().into());
                common(vec![
                    ("ipaddress6", Some(v6.to_string().into())),
                    ("ipmask6", colons(mask)),
                    ("ipsubnet6", colons(v6.to_bits() & mask)),
                ])
            }
        })
        .collect();
    if entries.is_empty() {
        vec![common(Vec::new())]
    } else {
        entries
    }
}

fn controllers(host: &Host) -> Value {
    let controller = |device: &crate::report::Device| {
        let (vendor, product) = device.id.split_once(':').unwrap_or_default();
        object(vec![
            ("pcislot", Some(device.address.clone().into())),
            ("vendorid", Some(vendor.into())),
            ("productid", Some(product.into())),
            ("pciclass", device.class.get(..4).map(Value::from)),
            ("driver", text(&device.driver)),
        ])
    };
    host.devices.iter().map(controller).collect()
}

/// The programs in the bases, as users find them; two bases may have two versions of a program.
fn softwares(host: &Host) -> Value {
    let programs = host
        .bases
        .iter()
        .flat_map(|base| base.programs.iter().map(move |program| (base, program)));
    let software = |(base, program): (&crate::report::Base, &crate::report::Program)| {
        object(vec![
            ("name", Some(program.name.clone().into())),
            ("version", Some(program.version.clone().into())),
            ("from", Some(format!("base {}", base.name).into())),
        ])
    };
    programs.map(software).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_turned_around() {
        assert_eq!(date("06/28/2018").as_deref(), Some("2018-06-28"));
        for text in [
            "",
            "06/28/18",
            "2018-06-28",
            "6/28/2018",
            "ab/cd/efgh",
            "06/28/2018/1",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
