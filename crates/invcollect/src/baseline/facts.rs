//! The facts that are compared with the baseline: they change only with the hardware.
//!
//! Each thing has a *subject*, which stays the same when it is moved or renamed: the serial number
//! of a memory module or a disk, the Ethernet address of an interface. Things without a serial
//! number are identified by their kind, and counted. Things that come and go in normal use (on USB,
//! wireless networks, bridges) are not facts.

use std::collections::BTreeMap;

use envelope::{Change, EventAbout, Part};
use serde::{Deserialize, Serialize};

use crate::report::{Checks, Device, Disk, Host, Interface, Module, Wanted};

const GIB: f64 = (1u64 << 30) as f64;
/// PCI classes that are covered by the devices behind them (disks, interfaces), or that boards
/// renumber (bridges).
const CLASSES_TOLD_ELSEWHERE: &[&str] = &["01", "02", "06"];

/// The compared facts. A part that could not be read is absent, and is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Facts {
    /// Whether the case was opened.
    pub opened: Option<bool>,
    /// The machine's serial number, from its firmware.
    pub serial: Option<String>,
    /// The machine's UUID, from its firmware.
    pub uuid: Option<String>,
    /// The firmware's version.
    pub firmware: Option<String>,
    /// The settings of the firmware that firmware.ini wants, by name; in a baseline only those
    /// whose other value was accepted.
    pub settings: Option<BTreeMap<String, Wish>>,
    /// The processors.
    pub processor: Option<String>,
    /// The memory modules, in the order of their slots.
    pub memory: Option<Vec<Thing>>,
    /// The built-in disks, by serial number.
    pub disks: Option<Vec<Thing>>,
    /// The wired interfaces, by name.
    pub links: Option<Vec<Link>>,
    /// The PCI devices, by address.
    pub devices: Option<Vec<Thing>>,
}

/// A setting of the firmware, and what firmware.ini wants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Wish {
    /// Its key in firmware.ini.
    pub setting: String,
    /// The wanted value.
    pub wanted: String,
    /// The value; absent when it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
}

impl Wish {
    /// Whether it is known to have another value than the wanted one.
    fn differs(&self) -> bool {
        self.is.as_ref().is_some_and(|is| *is != self.wanted)
    }
}

/// A thing that can be present or absent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Thing {
    /// Its identity.
    pub subject: String,
    /// Its kind and place, in words.
    pub text: String,
    /// Its slot or port, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Its kind, wherever it is plugged in.
    #[serde(default)]
    pub kind: String,
    /// Its serial number, when it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its world-wide name; of disks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Its size; absent for devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The checks and their faults; of disks only. A check that was never made is absent.
    #[serde(default, skip_serializing_if = "Checks::is_empty")]
    pub checks: Checks,
}

impl Thing {
    /// Copies what is known of the same thing and could not be read this time.
    fn complete(&mut self, known: &Thing) {
        if self.serial.is_none() && known.serial.is_some() {
            self.subject.clone_from(&known.subject);
            self.serial.clone_from(&known.serial);
        }
        self.wwn = self.wwn.take().or_else(|| known.wwn.clone());
        for (word, fault) in &known.checks {
            self.checks
                .entry(word.clone())
                .or_insert_with(|| fault.clone());
        }
    }

    /// The same thing without its faults, which are compared separately.
    pub fn without_faults(&self) -> Thing {
        let well = self.checks.iter().filter(|(_, fault)| fault.is_none());
        Thing {
            checks: well.map(|(word, _)| (word.clone(), None)).collect(),
            ..self.clone()
        }
    }

    /// Copies the current place of the same thing, which is expected there once it is missing.
    pub fn moved(&mut self, now: &Thing) {
        if now.place.is_some() && now.place != self.place {
            self.place.clone_from(&now.place);
            self.text.clone_from(&now.text);
        }
    }

    /// Whether the serial number of either is unknown: then other properties decide.
    fn may_be(&self, other: &Thing) -> bool {
        self.serial.is_none() || other.serial.is_none()
    }

    /// Whether their sizes allow that they are one thing: some makers use one serial number for
    /// all.
    fn is_as_large(&self, other: &Thing) -> bool {
        self.bytes
            .zip(other.bytes)
            .is_none_or(|(mine, others)| mine == others)
    }

    /// Whether both have the same serial number.
    fn is_numbered_as(&self, other: &Thing) -> bool {
        self.serial.is_some() && self.serial == other.serial && self.is_as_large(other)
    }

    /// An older baseline has no place, only a text that contains it.
    fn is_in_place_of(&self, other: &Thing) -> bool {
        match (&self.place, &other.place) {
            (Some(old), Some(new)) => old == new,
            _ => self.text == other.text,
        }
    }
}

/// For each old thing, the index of the same new one. Serial numbers decide. If that of a disk or
/// module could not be read, the world-wide name decides, then kind and place, and finally the kind
/// alone. Among several equal things, the one in the same place is preferred.
pub fn pairs(old: &[Thing], new: &[Thing]) -> Vec<Option<usize>> {
    let passes: [fn(&Thing, &Thing) -> bool; 6] = [
        // The name spaces of an NVMe disk share its serial number.
        |old, new| old.is_numbered_as(new) && old.wwn.is_some() && old.wwn == new.wwn,
        Thing::is_numbered_as,
        |old, new| old.may_be(new) && old.subject == new.subject,
        |old, new| old.may_be(new) && old.wwn.is_some() && old.wwn == new.wwn,
        |old, new| old.may_be(new) && old.text == new.text,
        |old, new| old.may_be(new) && old.kind == new.kind,
    ];
    let each = passes
        .iter()
        .flat_map(|is_same| [(is_same, true), (is_same, false)]);
    paired(
        old,
        new,
        each.map(|(is_same, in_place)| {
            move |old: &Thing, new: &Thing| {
                (!in_place || old.is_in_place_of(new)) && is_same(old, new)
            }
        }),
    )
}

/// The same for links: links with one Ethernet address are distinguished by their names.
pub fn linked(old: &[Link], new: &[Link]) -> Vec<Option<usize>> {
    let passes: [fn(&Link, &Link) -> bool; 2] = [
        |old, new| old.subject == new.subject && old.name == new.name,
        |old, new| old.subject == new.subject,
    ];
    paired(old, new, passes.into_iter())
}

fn paired<T, Same: Fn(&T, &T) -> bool>(
    old: &[T],
    new: &[T],
    passes: impl Iterator<Item = Same>,
) -> Vec<Option<usize>> {
    let mut found: Vec<Option<usize>> = vec![None; old.len()];
    let mut left: Vec<usize> = (0..new.len()).collect();
    for is_same in passes {
        for (old, found) in old
            .iter()
            .zip(&mut found)
            .filter(|(_, found)| found.is_none())
        {
            *found = left
                .iter()
                .position(|new_at| is_same(old, &new[*new_at]))
                .map(|at| left.remove(at));
        }
    }
    found
}

/// A wired interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Link {
    /// Its Ethernet address, otherwise its name.
    pub subject: String,
    /// Its name at that time.
    pub name: String,
    /// Whether it had a link; absent when it was down, which hides the link state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// Its speed, in bits per second.
    pub speed: Option<u64>,
    /// The best speed that both ends offered.
    pub best: Option<u64>,
    /// Whether only one end could send at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half: Option<bool>,
}

impl Link {
    /// The best speed it could have, by this older link, when both ends now offer `best`. An
    /// accepted speed was also offered. A bad cable may never have reached it.
    pub fn expected(&self, best: Option<u64>) -> Option<u64> {
        if best > self.best {
            self.speed.max(best)
        } else {
            self.speed
        }
    }

    /// Whether the link now is slower than it could be, or has become half duplex.
    pub fn is_better_than(&self, now: &Link) -> bool {
        now.speed.is_some_and(|speed| {
            self.expected(now.best)
                .is_some_and(|expected| speed < expected)
        }) || now.half == Some(true) && self.half != Some(true)
    }
}

impl Facts {
    /// The facts of a machine that was read.
    pub fn of(host: &Host) -> Facts {
        let known = |key: &str| !host.missing.iter().any(|missing| missing.key == key);
        let processor = &host.processor;
        let cores = processor
            .cores
            .map_or_else(String::new, |cores| format!(" ({cores} cores)"));
        let is_told_elsewhere = |device: &Device| {
            CLASSES_TOLD_ELSEWHERE
                .iter()
                .any(|class| device.class.starts_with(class))
        };
        let devices = host
            .devices
            .iter()
            .filter(|device| !device.removable && !is_told_elsewhere(device));
        let device = |device: &Device| Thing {
            subject: device.id.clone(),
            text: format!(
                "PCI device {} of class {} at {}",
                device.id, device.class, device.address
            ),
            place: Some(device.address.clone()),
            kind: device.id.clone(),
            serial: None,
            wwn: None,
            bytes: None,
            checks: Checks::new(),
        };
        Facts {
            opened: host.chassis.opened,
            serial: host.system.serial.clone(),
            uuid: host.system.uuid.clone(),
            firmware: host.firmware.version.clone(),
            settings: known("firmware.wanted")
                .then(|| host.firmware.wanted.iter().map(wish).collect()),
            processor: processor.model.as_ref().map(|model| model.clone() + &cores),
            memory: host
                .memory
                .slots
                .map(|_| host.memory.modules.iter().map(module).collect()),
            disks: known("disks").then(|| disks(host)),
            links: known("interfaces").then(|| {
                host.interfaces
                    .iter()
                    .filter(|interface| interface.stays())
                    .map(link)
                    .collect()
            }),
            devices: (!host.devices.is_empty()).then(|| devices.map(device).collect()),
        }
    }

    /// These facts, completed from `others`: missing parts, and checks of a disk that were not made
    /// this time.
    pub fn or(mut self, others: Facts) -> Facts {
        for (mine, others) in [
            (&mut self.memory, &others.memory),
            (&mut self.disks, &others.disks),
        ] {
            let (Some(mine), Some(others)) = (mine, others) else {
                continue;
            };
            for (at, thing) in pairs(others, mine).into_iter().zip(others) {
                if let Some(at) = at {
                    mine[at].complete(thing);
                }
            }
        }
        if let (Some(mine), Some(others)) = (&mut self.links, &others.links) {
            for (at, known) in linked(others, mine).into_iter().zip(others) {
                if let Some(link) = at
                    .map(|at| &mut mine[at])
                    .filter(|link| link.carrier.is_none())
                {
                    *link = Link {
                        name: std::mem::take(&mut link.name),
                        ..known.clone()
                    };
                }
            }
        }
        if let (Some(mine), Some(others)) = (&mut self.settings, &others.settings) {
            for (attribute, wish) in mine.iter_mut().filter(|(_, wish)| wish.is.is_none()) {
                if let Some(known) = others.get(attribute) {
                    wish.clone_from(known);
                }
            }
        }
        Facts {
            opened: self.opened.or(others.opened),
            serial: self.serial.or(others.serial),
            uuid: self.uuid.or(others.uuid),
            firmware: self.firmware.or(others.firmware),
            settings: self.settings.or(others.settings),
            processor: self.processor.or(others.processor),
            memory: self.memory.or(others.memory),
            disks: self.disks.or(others.disks),
            links: self.links.or(others.links),
            devices: self.devices.or(others.devices),
        }
    }

    /// The total memory; unknown when the size of a module is.
    pub fn memory_bytes(&self) -> Option<u64> {
        let modules = self.memory.as_ref()?.iter();
        modules
            .map(|module| module.bytes)
            .try_fold(0u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
    }

    /// Accepts the reported faults of disks and settings that cannot be read at the moment.
    pub fn accept_faults(&mut self, told: &[Change]) {
        for about in told.iter().map(|change| &change.about) {
            self.accept_setting(about);
            let Some(disks) = self.disks.as_mut().filter(|_| about.part == Part::Disk) else {
                continue;
            };
            let is_it = |disk: &Thing| disk.subject == about.subject;
            // Of several alike, it is the reported one.
            let at = disks
                .iter()
                .position(|disk| is_it(disk) && about.before.as_ref() == Some(&disk.text));
            let at = at.or_else(|| disks.iter().position(is_it));
            if let (Some(disk), Some(fault)) = (at.map(|at| &mut disks[at]), &about.fault) {
                let known = disk.checks.entry(fault.clone()).or_default();
                *known = known.take().or_else(|| about.after.clone());
            }
        }
        if let Some(settings) = &mut self.settings {
            settings.retain(|_, wish| wish.differs());
        }
    }

    fn accept_setting(&mut self, about: &EventAbout) {
        let (Part::Firmware, Some(setting), Some(wanted)) =
            (about.part, &about.fault, &about.before)
        else {
            return;
        };
        let told = Wish {
            setting: setting.clone(),
            wanted: wanted.clone(),
            is: about.after.clone(),
        };
        let settings = self.settings.get_or_insert_default();
        let wish = settings
            .entry(about.subject.clone())
            .or_insert(told.clone());
        if wish.is.is_none() {
            *wish = told;
        }
    }
}

fn wish(wanted: &Wanted) -> (String, Wish) {
    let wish = Wish {
        setting: wanted.setting.to_owned(),
        wanted: wanted.wanted.clone(),
        is: wanted.is.clone(),
    };
    (wanted.attribute.clone(), wish)
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "of unknown size".to_owned(),
        |bytes| format!("{:.4} GiB", bytes as f64 / GIB).replace(".0000", ""),
    )
}

fn module(module: &Module) -> Thing {
    let about = |maker| {
        [maker, &module.part]
            .into_iter()
            .flatten()
            .fold(size(module.bytes), |text, part| text + " " + part)
    };
    let shown = about(&module.manufacturer);
    // The identity stays as the firmware spells it.
    let about = about(if module.manufacturer_id.is_some() {
        &module.manufacturer_id
    } else {
        &module.manufacturer
    });
    Thing {
        subject: module.serial.clone().unwrap_or_else(|| about.clone()),
        text: module
            .place
            .as_ref()
            .map_or_else(|| shown.clone(), |place| format!("{shown} in {place}")),
        place: module.place.clone(),
        kind: about,
        serial: module.serial.clone(),
        wwn: None,
        bytes: module.bytes,
        checks: Checks::new(),
    }
}

/// The built-in disks. If two share a serial number, the text includes their places.
fn disks(host: &Host) -> Vec<Thing> {
    let things: Vec<Thing> = host
        .disks
        .iter()
        .filter(|disk| !disk.removable)
        .map(disk)
        .collect();
    let is_alone = |thing: &Thing| {
        things
            .iter()
            .filter(|other| other.subject == thing.subject)
            .count()
            == 1
    };
    let placed = |thing: &Thing| match &thing.place {
        Some(place) if !is_alone(thing) => Thing {
            text: format!("{} at {place}", thing.text),
            ..thing.clone()
        },
        _ => thing.clone(),
    };
    things.iter().map(placed).collect()
}

fn disk(disk: &Disk) -> Thing {
    let about = disk.model.as_ref().map_or_else(
        || size(disk.bytes),
        |model| format!("{model} {}", size(disk.bytes)),
    );
    Thing {
        subject: disk
            .serial
            .clone()
            .or_else(|| disk.wwn.clone())
            .unwrap_or_else(|| about.clone()),
        text: about.clone(),
        place: disk.place.clone(),
        kind: about,
        serial: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        bytes: disk.bytes,
        checks: disk.checks.clone(),
    }
}

fn link(interface: &Interface) -> Link {
    Link {
        subject: interface.subject().to_owned(),
        name: interface.name.clone(),
        carrier: interface.carrier,
        speed: interface.speed_bits_per_second,
        best: interface.best_speed_bits_per_second,
        half: interface.duplex.as_ref().map(|duplex| duplex == "half"),
    }
}
