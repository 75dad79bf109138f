//! The text console, which gives up the graphics card before its driver does.
//!
//! The console draws on a framebuffer. Its driver is either the card's own, or one of the firmware's
//! framebuffer on a machine that has booted without the card's: a platform device.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jsonpipe::{Common, Exit};
use serde::{Deserialize, Serialize};

use crate::sysfs::{self, LIMIT};

const CONSOLES: &str = "/sys/class/vtconsole";
const PLATFORM_DRIVERS: &str = "/sys/bus/platform/drivers";
/// The drivers of the firmware's framebuffer.
const FIRMWARE_DRIVERS: [&str; 3] = ["efi-framebuffer", "simple-framebuffer", "vesa-framebuffer"];

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// The parts of the console on the graphics card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Console {
    /// The console drivers that draw on a framebuffer, `vtcon1`.
    consoles: Vec<String>,
    /// The firmware's framebuffers.
    framebuffers: Vec<Framebuffer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Framebuffer {
    driver: String,
    /// The platform device, `efi-framebuffer.0`.
    device: String,
}

impl Console {
    /// The console as it is.
    pub(crate) fn read(common: &Common) -> Console {
        let draws = |directory: &Path| {
            let is_framebuffer = text(&directory.join("name")).contains("frame buffer");
            is_framebuffer && text(&directory.join("bind")) == "1"
        };
        let consoles = names(&common.path(CONSOLES))
            .into_iter()
            .filter(|name| is_console(name) && draws(&common.path(CONSOLES).join(name)))
            .collect();
        let framebuffers = FIRMWARE_DRIVERS
            .iter()
            .flat_map(|driver| {
                names(&common.path(PLATFORM_DRIVERS).join(driver))
                    .into_iter()
                    .map(|device| Framebuffer {
                        driver: (*driver).to_owned(),
                        device,
                    })
            })
            .filter(Framebuffer::is_valid)
            .collect();
        Console {
            consoles,
            framebuffers,
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.consoles.iter().all(|name| is_console(name))
            && self.framebuffers.iter().all(Framebuffer::is_valid)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.consoles.is_empty() && self.framebuffers.is_empty()
    }

    /// Adds the parts of `later` that it does not have.
    pub(crate) fn extend(&mut self, later: &Console) {
        for console in &later.consoles {
            if !self.consoles.contains(console) {
                self.consoles.push(console.clone());
            }
        }
        for framebuffer in &later.framebuffers {
            if !self.framebuffers.contains(framebuffer) {
                self.framebuffers.push(framebuffer.clone());
            }
        }
    }

    /// Takes it off the graphics card.
    pub(crate) fn take(&self, common: &Common) -> anyhow::Result<()> {
        for console in &self.consoles {
            bind_console(common, console, "0")?;
        }
        for framebuffer in &self.framebuffers {
            framebuffer.write(common, "unbind")?;
        }
        Ok(())
    }

    /// Puts each part back, where it is not, whatever fails. The driver of the card must be there
    /// again, and has until `patience` is over to bring up its framebuffer.
    pub(crate) fn give_back(&self, common: &Common, patience: Duration) -> Vec<anyhow::Result<()>> {
        let mut results = Vec::new();
        for framebuffer in &self.framebuffers {
            if !framebuffer.is_bound(common) {
                results.push(framebuffer.write(common, "bind"));
            }
        }
        for console in &self.consoles {
            // Some graphics drivers bring up their framebuffer after they have the card. The console
            // is there from then on, and the kernel puts it on the screen itself.
            let deadline = Instant::now() + patience;
            while !common.path(CONSOLES).join(console).exists() && Instant::now() < deadline {
                sleep(BETWEEN_LOOKS);
            }
            if !is_on(common, console) {
                results.push(bind_console(common, console, "1"));
            }
        }
        results
    }

    /// How it differs from its state before, if it does.
    pub(crate) fn difference(&self, common: &Common) -> Option<String> {
        let framebuffer = self
            .framebuffers
            .iter()
            .find(|framebuffer| !framebuffer.is_bound(common))
            .map(|framebuffer| format!("{}: not bound", framebuffer.device));
        framebuffer.or_else(|| {
            let off = self.consoles.iter().find(|name| !is_on(common, name))?;
            Some(format!("console {off}: not on the screen"))
        })
    }
}

impl Framebuffer {
    fn is_valid(&self) -> bool {
        let number = self.device.strip_prefix(&self.driver);
        FIRMWARE_DRIVERS.contains(&self.driver.as_str())
            && number.is_some_and(|number| is_number(number.strip_prefix('.')))
    }

    fn directory(&self, common: &Common) -> PathBuf {
        common.path(PLATFORM_DRIVERS).join(&self.driver)
    }

    fn is_bound(&self, common: &Common) -> bool {
        self.directory(common).join(&self.device).exists()
    }

    fn write(&self, common: &Common, file: &str) -> anyhow::Result<()> {
        let path = self.directory(common).join(file);
        sysfs::write(&path, &self.device, LIMIT)
            .map_err(|fault| Exit::Io.error(format_args!("{file} of {}: {fault}", self.device)))
    }
}

fn bind_console(common: &Common, console: &str, value: &str) -> anyhow::Result<()> {
    let path = common.path(CONSOLES).join(console).join("bind");
    let done = sysfs::write(&path, value, LIMIT);
    done.map_err(|fault| {
        let way = if value == "0" { "off" } else { "back on" };
        Exit::Io.error(format_args!(
            "taking console {console} {way} the screen: {fault}"
        ))
    })?;
    if text(&path) == value {
        return Ok(());
    }
    Err(Exit::Io.error(format_args!(
        "writing {value} to {}: the kernel did not take it",
        path.display()
    )))
}

fn is_on(common: &Common, console: &str) -> bool {
    text(&common.path(CONSOLES).join(console).join("bind")) == "1"
}

fn is_console(name: &str) -> bool {
    is_number(name.strip_prefix("vtcon"))
}

fn is_number(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A missing file has no text.
fn text(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// In order; none in a missing directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}
