//! A new entry of models.ini, made from a machine.

use jsonpipe::{Common, Exit, Missing, ini, shown};
use pci::{Device, PciAddress};

use crate::hardware::{Amount, Hardware};
use crate::models::{FILE, Model, check};

const GIB: u64 = 1 << 30;
const NO_GROUPS: &str = "this kernel has no IOMMU groups; switch on VT-d or AMD-Vi in the firmware and, for Intel, intel_iommu=on, and probe again";
const NO_VALUE: &str = "it ends in a backslash, which no value of INI does";

/// A section of models.ini for the machine that it was made on, for a technician to review.
#[derive(Debug)]
pub struct Entry {
    /// The model.
    pub name: String,
    /// The section, with comments on what to check.
    pub text: String,
    /// Its content.
    pub model: Model,
    /// The keys that are not in it, and why.
    pub missing: Vec<Missing>,
}

impl Entry {
    /// Makes it from the devices, memory, processor and BIOS of this machine. Status 78 when the
    /// firmware names no model, or one that no section can have; 74 when sysfs cannot be read.
    pub fn of_machine(common: &Common) -> anyhow::Result<Entry> {
        let way_out = "no section can describe this machine";
        let name = crate::of_machine(common).map_err(|why| {
            Exit::Config.error(format_args!(
                "naming the model by {}: {why}; {way_out}",
                crate::PRODUCT_NAME
            ))
        })?;
        if name.contains(['[', ']']) {
            return Err(Exit::Config.error(format_args!(
                "naming the model: {name}: a section cannot have brackets in its name; {way_out}"
            )));
        }
        let hardware = Hardware::read(common)?;
        let devices = Devices::choose(common, &hardware.devices)?;
        let mut missing = Vec::new();
        let text = text(&name, &hardware, &devices, &mut missing);
        // What is written here must be readable.
        let path = common.config(FILE);
        let [(_, model)] =
            <[(String, Model); 1]>::try_from(ini::parse_table(&path, &text, "model")?)
                .map_err(|_| Exit::Software.error("an entry that is not one section"))?;
        check(&path, &name, &model)?;
        Ok(Entry {
            name,
            text,
            model,
            missing,
        })
    }
}

/// The devices of a machine, by their place in the entry.
#[derive(Debug, Default)]
struct Devices {
    taken: Vec<Device>,
    parked: Vec<Device>,
    /// Devices that guests could use and do not get, with the reason.
    left: Vec<(Device, String)>,
    is_grouped: bool,
}

impl Devices {
    /// Takes graphics, USB controllers and audio, with the other members of their IOMMU groups. A
    /// device stays the host's when a member of its group must.
    fn choose(common: &Common, all: &[Device]) -> anyhow::Result<Devices> {
        let mut chosen = Devices {
            is_grouped: all.iter().any(|device| device.group.is_some()),
            ..Devices::default()
        };
        let added: Vec<PciAddress> = all
            .iter()
            .filter(|device| device.is_display() && !device.address.is_integrated_graphics())
            .map(|device| device.address)
            .collect();
        let is_on_added_card = |device: &Device| {
            added.iter().any(|card| {
                (card.bus(), card.slot()) == (device.address.bus(), device.address.slot())
            })
        };
        let mut wanted = Vec::new();
        for device in all.iter().filter(|device| is_for_guests(device)) {
            if is_on_added_card(device) {
                let why = "of a graphics card that is not the processor's: remove it, or list it";
                chosen.left.push((device.clone(), why.into()));
            } else {
                wanted.push(device);
            }
        }
        for device in &wanted {
            let members = match device.group {
                Some(group) => pci::members(common, group)?,
                None => Vec::new(),
            };
            let others: Vec<Device> = members
                .into_iter()
                .filter(|member| !member.is_bridge())
                .filter(|member| !wanted.iter().any(|device| device.address == member.address))
                .collect();
            if let Some(other) = others.iter().find(|member| !may_be_parked(member)) {
                let why = format!(
                    "its group also has {} {}, {}, which stays the host's",
                    other.address,
                    other.id,
                    class(other)
                );
                chosen.left.push(((*device).clone(), why));
                continue;
            }
            chosen.taken.push((*device).clone());
            for other in others {
                if !chosen.parked.contains(&other) {
                    chosen.parked.push(other);
                }
            }
        }
        Ok(chosen)
    }
}

/// Whether guests get devices of this kind: graphics, USB and audio.
fn is_for_guests(device: &Device) -> bool {
    // UHCI, OHCI, EHCI and xHCI; not USB4's router, and not a machine that is a device itself.
    let is_usb = matches!(device.class, 0x0c_0300 | 0x0c_0310 | 0x0c_0320 | 0x0c_0330);
    device.is_display() || is_usb || matches!(device.class >> 8, 0x0401 | 0x0403)
}

/// Whether the host can be without it for the time of a session: no storage (or a card reader, or
/// a class that can be anything), no network, no bridge, no graphics.
fn may_be_parked(device: &Device) -> bool {
    !matches!(device.class >> 16, 0x00..=0x03 | 0x06 | 0x0d | 0x12.. )
        && device.class >> 8 != 0x0805
}

/// The class in words, of the usual devices.
fn class(device: &Device) -> String {
    let words = match device.class >> 8 {
        0x0100..=0x01ff => "storage",
        0x0200..=0x02ff | 0x0d00..=0x0dff => "network",
        0x0300..=0x03ff => "graphics",
        0x0401 | 0x0403 => "audio",
        0x0580 => "memory controller",
        0x0780 => "communication controller",
        0x0c03 => "USB controller",
        0x0c05 => "SMBus",
        0x1180 => "signal processing controller",
        class => return format!("class {class:04x}"),
    };
    words.to_owned()
}

fn text(name: &str, hardware: &Hardware, devices: &Devices, missing: &mut Vec<Missing>) -> String {
    let mut lines = vec![
        format!("# {name}, as vm-passthrough probe found it. Review each line on this machine, compare it with a second one of"),
        "# the model, and add the section to /etc/labtools/models.ini. Its keys: vm-passthrough(8).".into(),
        "#".into(),
        "# For guests. Where processors differ, add the ids of their graphics, as 8086:0152/8086:0162:".into(),
    ];
    let described = |device: &Device| format!("#   {}", described(device));
    lines.extend(devices.taken.iter().map(described));
    if !devices.parked.is_empty() {
        lines.push(
            "# In the same groups. Check that the host can do without them while a guest runs:"
                .into(),
        );
        lines.extend(devices.parked.iter().map(described));
    }
    for (device, why) in &devices.left {
        let Device { address, id, .. } = device;
        lines.push(format!(
            "# Not for guests: {address} {id}, {}: {why}",
            class(device)
        ));
    }
    lines.push(format!("[model.{name}]"));
    lines.push(format!("devices = {}", list(&devices.taken)));
    let mut unknown = |key: &str, reason: &str| {
        missing.push(Missing {
            key: key.into(),
            reason: reason.into(),
        });
        format!("# {key}: unknown: {}", shown(reason))
    };
    if !devices.is_grouped {
        lines.push(unknown("parked", NO_GROUPS));
    } else if !devices.parked.is_empty() {
        lines.push(format!("parked = {}", list(&devices.parked)));
    }
    match &hardware.memory {
        Ok(Amount::Usable(bytes) | Amount::Modules(bytes)) => lines.extend([
            format!(
                "# {} MiB are usable. Check the modules: dmidecode -t memory",
                bytes >> 20
            ),
            format!("memory_installed = {}G", bytes.div_ceil(GIB)),
        ]),
        Err(reason) => lines.push(unknown("memory_installed", reason)),
    }
    match &hardware.processor {
        Ok(processor) if is_value(processor) => lines.extend([
            format!("# {processor}"),
            format!("processor = {}", number(processor)),
        ]),
        Ok(_) => lines.push(unknown("processor", NO_VALUE)),
        Err(reason) => lines.push(unknown("processor", reason)),
    }
    match hardware.bios.as_ref().map(ToString::to_string) {
        Ok(bios) if is_value(&bios) => lines.extend([
            "# The oldest BIOS that was tested. Test a guest with this one.".into(),
            format!("bios = {bios}"),
        ]),
        Ok(_) => lines.push(unknown("bios", NO_VALUE)),
        Err(reason) => lines.push(unknown("bios", reason)),
    }
    lines.join("\n") + "\n"
}

/// The value of a list of devices.
fn list(devices: &[Device]) -> String {
    let listed: Vec<String> = devices
        .iter()
        .map(|device| format!("{} {}", device.address, device.id))
        .collect();
    listed.join(", ")
}

fn described(device: &Device) -> String {
    let driver = device.driver.as_deref().map(shown);
    let group = device.group.map(|group| group.to_string());
    format!(
        "{} {}  {}, driver {}, group {}",
        device.address,
        device.id,
        class(device),
        driver.as_deref().unwrap_or("none"),
        group.as_deref().unwrap_or("unknown")
    )
}

/// A value of INI is one line, and does not end in a backslash.
fn is_value(text: &str) -> bool {
    crate::is_plain(text) && !text.ends_with('\\')
}

/// The number of a processor of Intel's, such as i7-3770; otherwise the whole name.
fn number(processor: &str) -> &str {
    let is_number =
        |word: &&str| matches!(word.as_bytes(), [b'i', digit, b'-', ..] if digit.is_ascii_digit());
    processor
        .split_whitespace()
        .find(is_number)
        .unwrap_or(processor)
}
