//! `check`: everything that is against a hand-over on this machine.

use std::path::Path;

use blockers::{Finding, Guest, Kind, Wish};
use confined::Identity;
use jsonpipe::{Answer, Common, Document, Exit, Pipe};
use model::Model;
use nix::unistd::{Gid, Uid, geteuid};

use crate::profile::Every;
use crate::qemu::Qemu;
use crate::report::Check;
use crate::virtualizer::{Needs, Virtualizer};
use crate::{Plan, TOOL, memory, profile};

/// The nodes of ZFS volumes; only a machine with volumes has them.
const ZFS_VOLUMES: &str = "/dev/zvol";

/// Debian's user nobody.
const NOBODY: Identity = Identity {
    uid: Uid::from_raw(65534),
    gid: Gid::from_raw(65534),
    group: None,
};

/// Looks for obstacles to any guest of this machine, and changes nothing.
pub(crate) fn run(common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    let name = model::of_machine(common);
    let Every {
        profiles,
        model,
        settings,
    } = Every::read(common, name.as_deref().ok())?;
    let user = settings.identity();
    // Without the user, it can be asked as any that is not root.
    let identity = user.as_ref().copied().unwrap_or(NOBODY);
    let needs = needs(model.as_ref());
    let as_user = geteuid().is_root().then_some(identity);
    let virtualizer = Qemu {
        binary: settings.binary.clone(),
        version: None,
    };
    let unfit = virtualizer.obstacle(as_user, needs);
    let can_try = user.is_ok() && unfit.is_none();
    let kvm = can_try
        .then(|| virtualizer.try_kvm(common, &identity))
        .transpose()?;
    let zfs = common.path(ZFS_VOLUMES).is_dir();
    let reserve = settings.host_memory(zfs);
    let guests: Vec<Guest> = profiles
        .iter()
        .map(|(ostype, profile)| Guest {
            profile: ostype,
            memory_bytes: memory::of_guest(common, profile.memory, reserve)
                .unwrap_or(memory::least(profile.memory))
                .bytes(),
            hugepages: profile.hugepages.then_some(Path::new(handover::MOUNT)),
            zfs,
        })
        .collect();
    let mut findings = blockers::find(
        common,
        &Wish {
            name: name.as_deref().map_err(String::as_str),
            model: model.as_ref(),
            guests: &guests,
            reserve_bytes: reserve.bytes(),
            kvm: kvm
                .as_ref()
                .map(|kvm| kvm.as_ref().copied().map_err(String::as_str)),
            is_locked: false,
        },
    )?;
    if !can_try {
        findings.warnings.push(Finding::new(
            Kind::NotLookedAt,
            format_args!(
                "KVM was not tried, because {} or its user is not there",
                virtualizer.name()
            ),
            "remove that blocker, and check again",
        ));
    }
    findings.blockers.extend(no_slot(model.as_ref()));
    findings.blockers.extend(user.err().map(no_user));
    findings.blockers.extend(unfit);
    for blocker in &findings.blockers {
        pipe.warn(blocker);
    }
    for warning in &findings.warnings {
        pipe.note(warning);
    }
    let is_free = findings.blockers.is_empty();
    let mut document = Document::default();
    document.set(
        TOOL.section,
        &Check {
            changed: false,
            model: name.ok(),
            findings,
        },
    )?;
    Ok(if is_free {
        Answer::yes(document)
    } else {
        Answer::no(document)
    })
}

/// Refuses a guest of which something prevents the start, with all of it in one message: status
/// 78, or 75 if it passes by itself. The caller holds the guest lock; nothing is changed.
pub(crate) fn before_run(common: &Common, plan: &Plan) -> anyhow::Result<()> {
    let Plan {
        volume,
        profile,
        memory,
        settings,
        machine,
        identity,
        virtualizer,
        ..
    } = plan;
    let name = machine.model.as_deref().map_err(String::as_str);
    let model = match name {
        Ok(name) => model::read(common, name)?,
        Err(_) => None,
    };
    let zfs = volume.is_device();
    let guest = Guest {
        profile: &volume.ostype,
        memory_bytes: memory.bytes(),
        hugepages: profile.hugepages.then_some(Path::new(handover::MOUNT)),
        zfs,
    };
    let mut blockers = blockers::find(
        common,
        &Wish {
            name,
            model: model.as_ref(),
            guests: &[guest],
            reserve_bytes: settings.host_memory(zfs).bytes(),
            kvm: None,
            is_locked: true,
        },
    )?
    .blockers;
    let needs = needs(model.as_ref());
    if needs != Needs::Nothing {
        blockers.extend(virtualizer.obstacle(Some(*identity), needs));
    }
    if blockers.is_empty() {
        Ok(())
    } else {
        Err(refusal(&blockers))
    }
}

/// All obstacles in one message. The status is 78; or 75 if only the last guest's QEMU, which may
/// just be ending, has its devices.
fn refusal(blockers: &[Finding]) -> anyhow::Error {
    let passes = |blocker: &Finding| blocker.kind == Kind::GroupInUse;
    let exit = if blockers.iter().all(passes) {
        Exit::TemporaryFailure
    } else {
        Exit::Config
    };
    if let [blocker] = blockers {
        return exit.error(format_args!("refusing to start the guest: {blocker}"));
    }
    let numbered: Vec<String> = blockers
        .iter()
        .zip(1..)
        .map(|(blocker, number)| format!("({number}) {blocker}"))
        .collect();
    exit.error(format_args!(
        "refusing to start the guest, for {} reasons: {}",
        blockers.len(),
        numbered.join(" ")
    ))
}

/// The obstacle of a device for which the guest has no slot.
fn no_slot(model: Option<&Model>) -> Option<Finding> {
    let devices: Vec<_> = model?.devices.iter().map(|listed| listed.address).collect();
    let device = profile::without_slot(&devices)?;
    let what = format!("the guest's slot {:02x} is taken already", device.slot());
    let way_out = "a guest has one device for each slot, and uses slots 00 and 01 itself: remove the device from the model's devices";
    Some(Finding::new(Kind::SlotTaken, what, way_out).device(device))
}

/// The obstacle of a user that QEMU cannot run as.
fn no_user(error: anyhow::Error) -> Finding {
    let error = error.to_string();
    let (what, way_out) = error
        .split_once("; ")
        .unwrap_or((&error, "name QEMU's own user in vm-passthrough.ini"));
    Finding::new(Kind::QemuUser, what, way_out).setting(profile::USER)
}

fn needs(model: Option<&Model>) -> Needs {
    let devices = model.map_or(&[][..], |model| &model.devices);
    if devices
        .iter()
        .any(|listed| listed.address.is_integrated_graphics())
    {
        Needs::Graphics
    } else if devices.is_empty() {
        Needs::Nothing
    } else {
        Needs::Devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_75_if_only_another_process_has_a_group() {
        let in_use = Finding::new(Kind::GroupInUse, "in use", "wait");
        let swap = Finding::new(Kind::Swap, "swap", "swapoff");
        for (blockers, exit, message) in [
            (
                vec![in_use.clone()],
                Exit::TemporaryFailure,
                ": in use; wait",
            ),
            (vec![swap.clone()], Exit::Config, ": swap; swapoff"),
            (
                vec![in_use, swap],
                Exit::Config,
                ", for 2 reasons: (1) in use; wait (2) swap; swapoff",
            ),
        ] {
            let error = refusal(&blockers);
            assert_eq!(Exit::of(&error), exit);
            assert_eq!(
                error.to_string(),
                format!("refusing to start the guest{message}")
            );
        }
    }
}
