//! The driver of one PCI device: its override, unbind, bind, and the proof that it happened.

use std::path::PathBuf;

use jsonpipe::{Common, Exit, ExitContext};
use pci::{Node, PciAddress, VFIO};

use crate::journal::{Before, is_name};
use crate::sysfs::{self, Fault, LIMIT};

const DRIVERS: &str = "/sys/bus/pci/drivers";
const PROBE: &str = "/sys/bus/pci/drivers_probe";
/// How the kernel shows that there is no override.
const NONE: &str = "(null)";

/// The driver that the device is bound to, by its link: a write's success proves nothing.
pub(crate) fn driver(common: &Common, device: PciAddress) -> Option<String> {
    let link = pci::path(common, device).join("driver").read_link().ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// The state of the device. Status 74 when it cannot be read, 75 when its driver does not answer.
pub(crate) fn before(common: &Common, device: PciAddress) -> anyhow::Result<Before> {
    let driver_override = override_of(common, device)
        .map_err(|fault| failed(&fault, format_args!("reading driver_override of {device}")))?;
    Ok(Before {
        device,
        driver: driver(common, device),
        driver_override,
    })
}

/// Gives the device, which is in the state `now`, to vfio-pci. One that has it stays as it is.
pub(crate) fn take(common: &Common, now: &Before) -> anyhow::Result<()> {
    let device = now.device;
    if now.driver.as_deref() == Some(VFIO) {
        return Ok(());
    }
    set_override(common, device, Some(VFIO))
        .map_err(|fault| failed(&fault, format_args!("setting driver_override of {device}")))?;
    unbind(common, device)?;
    sysfs::write(&common.path(PROBE), &device.to_string(), LIMIT)
        .map_err(|fault| failed(&fault, format_args!("probing {device}")))?;
    match driver(common, device).as_deref() {
        Some(VFIO) => Ok(()),
        other => Err(Exit::Config.error(format_args!(
            "binding {device} to {VFIO}: {}; the kernel's log has the reason",
            match other {
                Some(driver) => format!("{driver} has it"),
                None => "no driver has it".into(),
            }
        ))),
    }
}

/// Takes the device from its driver, if it has one. A driver that waits is status 75, with the
/// process that it waits for.
pub(crate) fn unbind(common: &Common, device: PciAddress) -> anyhow::Result<()> {
    let Some(driver) = driver(common, device) else {
        return Ok(());
    };
    // The driver removes them before it waits.
    let mut nodes = pci::nodes(common, device);
    nodes.extend(group_node(common, device));
    let path = pci::path(common, device).join("driver/unbind");
    let object = format!("unbinding {device} from {driver}");
    match sysfs::write(&path, &device.to_string(), LIMIT) {
        Err(Fault::Hangs) => Err(held(common, &nodes, &object)),
        Err(fault) => Err(failed(&fault, object)),
        Ok(()) if self::driver(common, device).is_some() => {
            Err(Exit::Io.error(format_args!("{object}: it is still bound")))
        }
        Ok(()) => Ok(()),
    }
}

/// Makes override and driver as they were, where they differ. Takes the device from vfio-pci only:
/// no guest gave it to another driver, and the host uses it. A device that is not there has neither.
pub(crate) fn give_back(common: &Common, before: &Before) -> anyhow::Result<()> {
    let device = before.device;
    if !is_there(common, device) {
        return Ok(());
    }
    let wanted = before.driver_override.as_deref();
    let set = || -> Result<(), Fault> {
        if override_of(common, device)?.as_deref() != wanted {
            set_override(common, device, wanted)?;
        }
        Ok(())
    };
    set().map_err(|fault| {
        failed(
            &fault,
            format_args!("resetting driver_override of {device}"),
        )
    })?;
    match driver(common, device) {
        now if now == before.driver => return Ok(()),
        Some(now) if now != VFIO => {
            return Err(Exit::TemporaryFailure.error(format_args!(
                "giving {device} back: {now} has it since, and the host may use it; unbind it or restart the machine"
            )));
        }
        _ => unbind(common, device)?,
    }
    let Some(driver) = &before.driver else {
        return Ok(());
    };
    let object = format!("binding {device} to {driver}");
    let directory = driver_directory(common, driver);
    if !is_name(driver) || !directory.is_dir() {
        return Err(Exit::Config.error(format_args!(
            "{object}: there is no such driver; load its module"
        )));
    }
    // To this driver alone, and with the kernel's reason where it fails: drivers_probe has none.
    sysfs::write(&directory.join("bind"), &device.to_string(), LIMIT)
        .map_err(|fault| failed(&fault, object))
}

/// Whether vfio-pci has the device by its override, or no driver has it for that override.
pub(crate) fn is_overridden(common: &Common, device: PciAddress) -> bool {
    let overridden = || override_of(common, device).ok().flatten();
    driver(common, device).is_none_or(|driver| driver == VFIO)
        && overridden().as_deref() == Some(VFIO)
}

/// Whether neither a driver nor an override has the device.
pub(crate) fn is_free(common: &Common, device: PciAddress) -> bool {
    driver(common, device).is_none() && matches!(override_of(common, device), Ok(None))
}

/// Gives the device to the driver that the kernel chooses, and returns that. The override goes
/// last, so that a kill at any instant leaves a device that is known by it, or one that is free.
pub(crate) fn release(common: &Common, device: PciAddress) -> anyhow::Result<String> {
    unbind(common, device)?;
    set_override(common, device, None).map_err(|fault| {
        failed(
            &fault,
            format_args!("resetting driver_override of {device}"),
        )
    })?;
    sysfs::write(&common.path(PROBE), &device.to_string(), LIMIT)
        .map_err(|fault| failed(&fault, format_args!("probing {device}")))?;
    driver(common, device).exit(Exit::Config, || {
        format!("probing {device}: the kernel found no driver; load its module, then write {device} to {PROBE}")
    })
}

/// How the device differs from its state before, if it does.
pub(crate) fn difference(common: &Common, before: &Before) -> Option<String> {
    let device = before.device;
    if !is_there(common, device) {
        return Some(format!(
            "{device}: not there any more; echo 1 >/sys/bus/pci/rescan, then run vm-passthrough restore"
        ));
    }
    let shown = |driver: Option<String>| driver.unwrap_or_else(|| "no driver".into());
    let now = driver(common, device);
    if now != before.driver {
        let (now, before) = (shown(now), shown(before.driver.clone()));
        return Some(format!("{device}: {now} instead of {before}"));
    }
    match override_of(common, device) {
        Ok(found) if found == before.driver_override => None,
        Ok(found) => Some(format!(
            "{device}: driver_override is {}",
            found.as_deref().unwrap_or(NONE)
        )),
        Err(fault) => Some(format!("{device}: reading driver_override: {fault}")),
    }
}

fn is_there(common: &Common, device: PciAddress) -> bool {
    pci::path(common, device).exists()
}

/// The node of the group of a device that vfio-pci has.
fn group_node(common: &Common, device: PciAddress) -> Option<Node> {
    let group = pci::device(common, device).ok()??.group?;
    Some(pci::group_node(common, group))
}

fn held(common: &Common, nodes: &[Node], object: &str) -> anyhow::Error {
    let holders = pci::holders(common, nodes);
    let holders: Vec<_> = holders.iter().map(ToString::to_string).collect();
    let seconds = LIMIT.as_secs();
    Exit::TemporaryFailure.error(if holders.is_empty() {
        format!("{object}: no answer from the driver within {seconds} s, and no process has a node of the device open; restart the machine if it stays so")
    } else {
        format!(
            "{object}: no answer from the driver within {seconds} s: {}; end that, then run vm-passthrough restore",
            holders.join(", ")
        )
    })
}

fn failed(fault: &Fault, object: impl std::fmt::Display) -> anyhow::Error {
    let exit = match fault {
        Fault::Hangs => Exit::TemporaryFailure,
        Fault::Refused(error) => Exit::of_change(error),
    };
    exit.error(format_args!("{object}: {fault}"))
}

fn override_path(common: &Common, device: PciAddress) -> PathBuf {
    pci::path(common, device).join("driver_override")
}

fn override_of(common: &Common, device: PciAddress) -> Result<Option<String>, Fault> {
    let value = sysfs::read(&override_path(common, device), LIMIT)?;
    Ok(Some(value).filter(|value| value != NONE && !value.is_empty()))
}

/// Sets the override, or removes it by an empty line, and verifies it.
fn set_override(common: &Common, device: PciAddress, value: Option<&str>) -> Result<(), Fault> {
    sysfs::write(
        &override_path(common, device),
        value.unwrap_or_default(),
        LIMIT,
    )?;
    if override_of(common, device)?.as_deref() == value {
        Ok(())
    } else {
        Err(std::io::Error::other("the kernel did not take it").into())
    }
}

fn driver_directory(common: &Common, driver: &str) -> PathBuf {
    common.path(DRIVERS).join(driver)
}
