//! What the guests before have left, as findings.

use blockers::{Finding, Findings, Kind};
use handover::Reclaimed;
use jsonpipe::{Common, Exit, lock};
use model::Model;
use nix::unistd::geteuid;
use pci::{PciAddress, VFIO};

use crate::firewall;
use crate::obstacles::of_error;
use crate::restore::COMMAND;

/// Looks for it. A run, which `is_locked`, has given back what it can before; and while a guest
/// runs, its devices are not left. Status 74 when the journal cannot be read.
pub(crate) fn find(
    common: &Common,
    model: Option<&Model>,
    is_locked: bool,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let devices = listed(model);
    if is_locked {
        findings.blockers.extend(reclaimed(common, &devices)?);
        return Ok(());
    }
    if !geteuid().is_root() {
        findings.warn(Finding::new(
            Kind::NotLookedAt,
            "the journal of the last guest was not looked at, which needs root",
            "check as root",
        ));
        return Ok(());
    }
    if lock::is_held(common, occupancy::GUEST)? || firewall::has_guest() {
        return Ok(());
    }
    match handover::differences(common) {
        Err(error) if Exit::of(&error) == Exit::Config => {
            findings.block(of_error(Kind::NotGivenBack, &error));
        }
        Err(error) => return Err(error),
        Ok(Some(differences)) => {
            findings.blockers.extend(reclaimed(common, &devices)?);
            findings.warn(not_given_back(&differences));
        }
        Ok(None) => {
            let strays = handover::strays(common, &devices);
            findings.warnings.extend(strays.into_iter().map(stray));
        }
    }
    Ok(())
}

/// A run gives it back itself, so that it is no obstacle.
fn not_given_back(differences: &[String]) -> Finding {
    let cause = "a run was killed, or could not give everything back";
    let way_out = format!("run {COMMAND}; the next session also does so");
    if differences.is_empty() {
        Finding::new(Kind::NotGivenBack, cause, way_out)
    } else {
        let what = format!("{cause}: {}", differences.join("; "));
        Finding::new(Kind::NotGivenBack, what, way_out)
    }
}

/// A device whose driver_override is vfio-pci, where nothing shows why. Guests get it all the same.
pub(crate) fn stray(device: PciAddress) -> Finding {
    let what = format!(
        "its driver_override gives it to {VFIO}, but no guest runs and there is no journal: an administrator gave it to {VFIO}, or a run was killed after /run/labtools was deleted"
    );
    let way_out =
        format!("if the host should have it, run {COMMAND} {device}, or restart the machine");
    Finding::new(Kind::Stray, what, way_out)
        .device(device)
        .driver(VFIO)
}

/// The obstacles of devices that were not given back, and that the host has got back otherwise.
fn reclaimed(common: &Common, devices: &[PciAddress]) -> anyhow::Result<Vec<Finding>> {
    let reclaimed = handover::reclaimed(common, devices)?.into_iter();
    Ok(reclaimed
        .map(|found| {
            Finding::new(Kind::Reclaimed, found.what(), Reclaimed::WAY_OUT)
                .device(found.device)
                .driver(found.driver)
        })
        .collect())
}

/// The devices of the model, those that are parked included.
pub(crate) fn listed(model: Option<&Model>) -> Vec<PciAddress> {
    let lists = model.map(|model| model.devices.iter().chain(&model.parked));
    let listed = lists.into_iter().flatten();
    listed.map(|listed| listed.address).collect()
}
