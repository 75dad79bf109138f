//! The facts that are compared with the baseline: they stay the same while the hardware does.
//!
//! Each thing is known by its *subject*, which stays when it is moved or renamed: the serial number
//! of a memory module or a disk, the Ethernet address of an interface. Things without a serial
//! number are known by their kind, and counted. What comes and goes by itself (what is on USB,
//! wireless networks, bridges) is no fact.

use envelope::{Change, Part};
use serde::{Deserialize, Serialize};

use crate::report::{Checks, Device, Disk, Host, Interface, Module};

const GIB: f64 = (1u64 << 30) as f64;
/// PCI classes that are told by what they lead to (disks, interfaces), or that boards number anew
/// (bridges).
const CLASSES_TOLD_ELSEWHERE: &[&str] = &["01", "02", "06"];

/// What is compared. A part that could not be read is absent, and then not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Facts {
    /// Whether the case was opened.
    pub opened: Option<bool>,
    /// The machine's serial number, as its firmware has it.
    pub serial: Option<String>,
    /// The machine's UUID, as its firmware has it.
    pub uuid: Option<String>,
    /// The firmware's version.
    pub firmware: Option<String>,
    /// The processors.
    pub processor: Option<String>,
    /// The memory modules, in the order of their slots.
    pub memory: Option<Vec<Thing>>,
    /// The disks that stay, by serial number.
    pub disks: Option<Vec<Thing>>,
    /// The wired interfaces, by name.
    pub links: Option<Vec<Link>>,
    /// The PCI devices, by address.
    pub devices: Option<Vec<Thing>>,
}

/// A thing that is there or not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Thing {
    /// What it is known by.
    pub subject: String,
    /// What it is and where, for people.
    pub text: String,
    /// Where it is plugged in, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What it is, wherever it is plugged in.
    #[serde(default)]
    pub kind: String,
    /// Its serial number, when it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its world-wide name; of disks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// How much it is; absent for devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What was asked about it, and the faults; of disks only. What was never asked is not there.
    #[serde(default, skip_serializing_if = "Checks::is_empty")]
    pub checks: Checks,
}

impl Thing {
    /// Takes over what is known of the same thing, and could not be read this time.
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

    /// The same, with nothing wrong about it: what is wrong is no thing that is there.
    pub fn without_faults(&self) -> Thing {
        let well = self.checks.iter().filter(|(_, fault)| fault.is_none());
        Thing {
            checks: well.map(|(word, _)| (word.clone(), None)).collect(),
            ..self.clone()
        }
    }

    /// Takes over where the same thing is now: it is looked for there when it is gone.
    pub fn moved(&mut self, now: &Thing) {
        if now.place.is_some() && now.place != self.place {
            self.place.clone_from(&now.place);
            self.text.clone_from(&now.text);
        }
    }

    /// Whether the serial number of one of them is not known: then other signs count.
    fn may_be(&self, other: &Thing) -> bool {
        self.serial.is_none() || other.serial.is_none()
    }

    /// Whether they can be one by their size: some makers number all alike.
    fn is_as_large(&self, other: &Thing) -> bool {
        self.bytes
            .zip(other.bytes)
            .is_none_or(|(mine, others)| mine == others)
    }

    /// Whether both say the same serial number.
    fn is_numbered_as(&self, other: &Thing) -> bool {
        self.serial.is_some() && self.serial == other.serial && self.is_as_large(other)
    }

    /// An older baseline has no place, and its text says where.
    fn is_in_place_of(&self, other: &Thing) -> bool {
        match (&self.place, &other.place) {
            (Some(old), Some(new)) => old == new,
            _ => self.text == other.text,
        }
    }
}

/// For each of the old ones, which of the new ones it is. Serial numbers decide; those of a disk or
/// module that was asked in vain are replaced by the world-wide name, by what and where it is, and
/// at last by what it is. Of several that are equal, it is the one in the same place, if there is
/// one.
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

/// The same of links: those with one Ethernet address are told apart by their names.
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
    /// Its name when it was looked at.
    pub name: String,
    /// Whether it had a link; absent when it was down, and nobody could know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// How fast, in bits a second.
    pub speed: Option<u64>,
    /// The best that both ends offered.
    pub best: Option<u64>,
    /// Whether only one end could send at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half: Option<bool>,
}

impl Link {
    /// How fast it could be, as far as this one knows, when both ends offer `best` now: a bad cable
    /// may never have run at that. What was accepted was offered then, too.
    pub fn expected(&self, best: Option<u64>) -> Option<u64> {
        if best > self.best {
            self.speed.max(best)
        } else {
            self.speed
        }
    }

    /// Whether a link is slower than it could be, or sends by turns though it did not.
    pub fn is_better_than(&self, now: &Link) -> bool {
        now.speed.is_some_and(|speed| {
            self.expected(now.best)
                .is_some_and(|expected| speed < expected)
        }) || now.half == Some(true) && self.half != Some(true)
    }
}

impl Facts {
    /// Of what was read of a machine.
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

    /// These, and what they do not know of `others`: parts, and what was not asked this time about
    /// a disk.
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
        Facts {
            opened: self.opened.or(others.opened),
            serial: self.serial.or(others.serial),
            uuid: self.uuid.or(others.uuid),
            firmware: self.firmware.or(others.firmware),
            processor: self.processor.or(others.processor),
            memory: self.memory.or(others.memory),
            disks: self.disks.or(others.disks),
            links: self.links.or(others.links),
            devices: self.devices.or(others.devices),
        }
    }

    /// How much memory that is; unknown when the size of one module is.
    pub fn memory_bytes(&self) -> Option<u64> {
        let modules = self.memory.as_ref()?.iter();
        modules
            .map(|module| module.bytes)
            .try_fold(0u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
    }

    /// Takes in the faults of disks that were told, and cannot be read just now.
    pub fn accept_faults(&mut self, told: &[Change]) {
        for about in told.iter().map(|change| &change.about) {
            let Some(disks) = self.disks.as_mut().filter(|_| about.part == Part::Disk) else {
                continue;
            };
            let is_it = |disk: &Thing| disk.subject == about.subject;
            // Of those that are alike, it is the one that was told.
            let at = disks
                .iter()
                .position(|disk| is_it(disk) && about.before.as_ref() == Some(&disk.text));
            let at = at.or_else(|| disks.iter().position(is_it));
            if let (Some(disk), Some(fault)) = (at.map(|at| &mut disks[at]), &about.fault) {
                let known = disk.checks.entry(fault.clone()).or_default();
                *known = known.take().or_else(|| about.after.clone());
            }
        }
    }
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
    // What it is known by stays as the firmware has it.
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

/// Those that stay. Of two with one serial number it is told where they are.
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
