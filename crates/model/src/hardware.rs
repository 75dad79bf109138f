//! The hardware of a machine, and its differences from the entry in models.ini.

use std::cmp::Ordering;
use std::fs;

use jsonpipe::Common;
use pci::{Device, Id, PciAddress};

use crate::bios::Bios;
use crate::firmware;
use crate::listed::Listed;
use crate::memory::Memory;
use crate::models::Model;

const PROCESSOR: &str = "/proc/cpuinfo";

/// The part of the memory that a firmware can keep for itself and the graphics.
const KEPT_BYTES: u64 = 1 << 30;
/// The kernel describes each page of 4096 bytes in 64; the rest is for its code and its buffers.
const KERNEL_PART: u64 = 32;

/// The hardware of a machine, as far as models.ini describes it. What is unknown has a reason.
#[derive(Debug)]
pub struct Hardware {
    /// The PCI devices, by address.
    pub devices: Vec<Device>,
    /// The memory.
    pub memory: Result<Amount, String>,
    /// The version of the BIOS.
    pub bios: Result<Bios, String>,
    /// The name of the processor, as it calls itself.
    pub processor: Result<String, String>,
}

/// An amount of memory that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// The sum of the modules in bytes, as the firmware's tables have it.
    Modules(u64),
    /// The memory in bytes that the kernel can use (MemTotal), which is less than that.
    Usable(u64),
}

/// A difference between a machine and its entry in models.ini.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// No device is where the guests' one should be.
    NoDevice {
        /// The entry.
        listed: Listed,
    },
    /// Another device is there.
    OtherDevice {
        /// The entry.
        listed: Listed,
        /// The device that is there.
        found: Id,
    },
    /// A graphics card that guests do not get: the firmware may have switched off the integrated
    /// one for it, and the monitor may be connected to it.
    ExtraGraphics {
        /// Its address.
        address: PciAddress,
        /// Its vendor and device.
        id: Id,
    },
    /// The machine has less memory than when new.
    LessMemory {
        /// The machine's.
        found: Amount,
        /// The entry's.
        factory: Memory,
    },
    /// The BIOS is older than the tested ones.
    OlderBios {
        /// The machine's.
        found: Bios,
        /// The entry's.
        tested: Bios,
    },
    /// The versions of the BIOS have no common order; neither is known to be older.
    OtherBios {
        /// The machine's.
        found: Bios,
        /// The entry's.
        tested: Bios,
    },
    /// Another processor.
    OtherProcessor {
        /// The machine's, as it calls itself.
        found: String,
        /// The entry's.
        listed: String,
    },
    /// A property that the entry has and the machine does not tell.
    Unknown {
        /// The key of the entry.
        key: &'static str,
        /// The reason.
        reason: String,
    },
}

/// The differences of this machine from `model`: devices first, then graphics cards, memory, BIOS
/// and processor. Status 74 when sysfs cannot be read.
pub fn differences(common: &Common, model: &Model) -> anyhow::Result<Vec<Difference>> {
    Ok(Hardware::read(common)?.differences(model))
}

/// The difference of this machine's BIOS from `model`, if there is one.
pub fn bios_difference(common: &Common, model: &Model) -> Option<Difference> {
    compare_bios(&firmware::bios(common), model)
}

fn compare_bios(found: &Result<Bios, String>, model: &Model) -> Option<Difference> {
    let tested = model.bios.clone()?;
    let found = match found {
        Ok(found) => found.clone(),
        Err(reason) => return Some(unknown("bios", reason)),
    };
    match found.compare(&tested) {
        Some(Ordering::Less) => Some(Difference::OlderBios { found, tested }),
        None => Some(Difference::OtherBios { found, tested }),
        Some(_) => None,
    }
}

impl Hardware {
    /// Reads it from sysfs and procfs; needs no privileges. Status 74 when sysfs cannot be read.
    pub fn read(common: &Common) -> anyhow::Result<Hardware> {
        let line = |path: &str, key: &str| -> Result<String, String> {
            let bytes = fs::read(common.path(path)).map_err(|error| format!("{path}: {error}"))?;
            String::from_utf8_lossy(&bytes)
                .lines()
                .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'))
                .map(|value| value.trim().to_owned())
                .ok_or_else(|| format!("{path}: no {key}"))
        };
        let processor = line(PROCESSOR, "model name").and_then(|name| {
            if crate::is_plain(&name) {
                Ok(name)
            } else {
                Err(format!("{PROCESSOR}: model name: no text"))
            }
        });
        Ok(Hardware {
            devices: pci::all(common)?,
            memory: meminfo::total(common).map(Amount::Usable),
            bios: firmware::bios(common),
            processor,
        })
    }

    /// Its differences from `model`, in the order of [`differences`].
    pub fn differences(&self, model: &Model) -> Vec<Difference> {
        let mut found = Vec::new();
        self.compare_devices(model, &mut found);
        match (&self.memory, model.memory_installed) {
            (Ok(amount), Some(factory)) if amount.is_less(factory) => {
                found.push(Difference::LessMemory {
                    found: *amount,
                    factory,
                });
            }
            (Err(reason), Some(_)) => found.push(unknown("memory_installed", reason)),
            _ => {}
        }
        found.extend(compare_bios(&self.bios, model));
        match (&self.processor, &model.processor) {
            (Ok(name), Some(listed)) if !has_words(name, listed) => {
                found.push(Difference::OtherProcessor {
                    found: name.clone(),
                    listed: listed.clone(),
                });
            }
            (Err(reason), Some(_)) => found.push(unknown("processor", reason)),
            _ => {}
        }
        found
    }

    fn compare_devices(&self, model: &Model, found: &mut Vec<Difference>) {
        let id_at = |address: PciAddress| {
            let device = self.devices.iter().find(|device| device.address == address);
            device.map(|device| device.id)
        };
        let other_device = |listed: &Listed, found: Id| {
            let listed = listed.clone();
            (!listed.ids.contains(&found)).then_some(Difference::OtherDevice { listed, found })
        };
        for listed in &model.devices {
            match id_at(listed.address) {
                Some(id) => found.extend(other_device(listed, id)),
                None => found.push(Difference::NoDevice {
                    listed: listed.clone(),
                }),
            }
        }
        // The firmware can switch these off, and nothing is lost.
        for listed in &model.parked {
            found.extend(id_at(listed.address).and_then(|id| other_device(listed, id)));
        }
        // A model whose guests get nothing may have any graphics card.
        let is_listed = |address| model.devices.iter().any(|listed| listed.address == address);
        for device in self.devices.iter().filter(|_| !model.devices.is_empty()) {
            if device.is_display() && !is_listed(device.address) {
                found.push(Difference::ExtraGraphics {
                    address: device.address,
                    id: device.id,
                });
            }
        }
    }
}

impl Amount {
    /// Whether a module is missing. Modules have at least 1 GiB, and rarely under 2.
    fn is_less(self, factory: Memory) -> bool {
        match self {
            Amount::Modules(bytes) => bytes < factory.bytes(),
            Amount::Usable(bytes) => {
                let kept = KEPT_BYTES + factory.bytes() / KERNEL_PART;
                bytes.saturating_add(kept) < factory.bytes()
            }
        }
    }
}

fn unknown(key: &'static str, reason: &str) -> Difference {
    Difference::Unknown {
        key,
        reason: reason.to_owned(),
    }
}

/// Whether the words of `part` stand in `text`, one after the other: `i7-3770` is no `i7-3770S`.
fn has_words(text: &str, part: &str) -> bool {
    let text: Vec<&str> = text.split_whitespace().collect();
    let part: Vec<&str> = part.split_whitespace().collect();
    text.windows(part.len()).any(|words| words == part)
}
