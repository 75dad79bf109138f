//! Everything that keeps a guest from starting: the obstacles of the machine, as `blockers` finds
//! them, and those of the configuration and of the programs that a guest needs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use blockers::{Finding, Findings, Guest, Kind, Wish};
use confined::Identity;
use jsonpipe::{Common, Exit};
use model::Model;
use nix::unistd::{Gid, Uid, geteuid};

use crate::machine::Machine;
use crate::plan::Request;
use crate::profile::{self, Configuration, Profile};
use crate::qemu::Qemu;
use crate::segment::{self, Segment};
use crate::virtualizer::{Needs, Virtualizer};
use crate::{firewall, left, memory};

/// Debian's user nobody.
const NOBODY: Identity = Identity {
    uid: Uid::from_raw(65534),
    gid: Gid::from_raw(65534),
    group: None,
};

/// The guests whose obstacles are looked for.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub configuration: &'a Configuration,
    pub machine: &'a Machine,
    /// The operating system of the guest that is about to start, whose lock the caller holds; all
    /// of them for a check.
    pub ostype: Option<&'a str>,
    /// Whether the guest's disk is a ZFS volume.
    pub zfs: bool,
    /// The host's addresses on the room's network.
    pub addresses: &'a [Ipv4Addr],
}

/// Refuses a guest of which something prevents the start, with all of it in one message. The caller
/// holds the guest lock; nothing is changed.
pub(crate) fn before_run(common: &Common, request: &Request) -> anyhow::Result<()> {
    let found = find(
        common,
        &Scope {
            configuration: &request.configuration,
            machine: &request.machine,
            ostype: Some(&request.volume.ostype),
            zfs: request.volume.is_device(),
            addresses: request.local_address.as_slice(),
        },
    )?;
    if found.blockers.is_empty() {
        Ok(())
    } else {
        Err(refusal(&found.blockers))
    }
}

/// All obstacles in one message. The status is 78; or 75 if only the last guest's QEMU, which may
/// just be ending, has its devices, or they were not given back; or 69 if only programs are not
/// there.
fn refusal(blockers: &[Finding]) -> anyhow::Error {
    let all = |kinds: &[Kind]| blockers.iter().all(|found| kinds.contains(&found.kind));
    let exit = if all(&[Kind::GroupInUse, Kind::Reclaimed]) {
        Exit::TemporaryFailure
    } else if all(&[Kind::QemuMissing, Kind::NftMissing]) {
        Exit::Unavailable
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

/// Everything that is against the guests, in a fixed order. Status 74 when the kernel's tables
/// cannot be read.
pub(crate) fn find(common: &Common, scope: &Scope) -> anyhow::Result<Findings> {
    let configuration = scope.configuration;
    let settings = &configuration.settings;
    let model = configuration.model.as_ref();
    let user = settings.identity();
    // Without the user, QEMU can be asked as any that is not root.
    let identity = user.as_ref().copied().unwrap_or(NOBODY);
    let virtualizer = Qemu {
        binary: settings.binary.clone(),
        version: None,
    };
    let as_user = geteuid().is_root().then_some(identity);
    let unfit = virtualizer.obstacle(as_user, needs(model));
    let is_check = scope.ostype.is_none();
    let can_try = user.is_ok() && unfit.is_none();
    let kvm = (is_check && can_try)
        .then(|| virtualizer.try_kvm(common, &identity))
        .transpose()?;
    let guests = guests(scope);
    let reserve = settings.host_memory(scope.zfs);
    let needed: Vec<Guest> = guests
        .iter()
        .map(|(ostype, profile)| Guest {
            profile: ostype,
            memory_bytes: memory::of_guest(common, profile.memory, reserve)
                .unwrap_or(memory::least(profile.memory))
                .bytes(),
            hugepages: profile.hugepages.then_some(Path::new(handover::MOUNT)),
            zfs: scope.zfs,
        })
        .collect();
    let mut findings = blockers::find(
        common,
        &Wish {
            name: scope.machine.model.as_deref().map_err(String::as_str),
            model,
            guests: &needed,
            reserve_bytes: reserve.bytes(),
            kvm: kvm
                .as_ref()
                .map(|kvm| kvm.as_ref().copied().map_err(String::as_str)),
            is_locked: !is_check,
        },
    )?;
    if is_check && !can_try {
        findings.warn(Finding::new(
            Kind::NotLookedAt,
            format_args!(
                "KVM was not tried, because {} or its user is not there",
                virtualizer.name()
            ),
            "remove that blocker, and check again",
        ));
    }
    no_profile(scope, &mut findings);
    if let Err(error) = configuration.check_slots() {
        findings.block(of_error(Kind::SlotTaken, &error));
    }
    for (ostype, profile) in &guests {
        of_profile(common, scope, ostype, profile, &mut findings);
        if let Ok(identity) = &user {
            huge_pages(common, identity, ostype, profile, &mut findings);
        }
    }
    if let Err(error) = user {
        findings.block(of_error(Kind::QemuUser, &error).setting(profile::USER));
    }
    findings.blockers.extend(unfit);
    if let Err(error) = firewall::program() {
        findings.block(of_error(Kind::NftMissing, &error));
    }
    left::find(common, model, scope.ostype.is_some(), &mut findings)?;
    findings.sort();
    Ok(findings)
}

/// The guest that is about to start, or all that may.
fn guests<'a>(scope: &Scope<'a>) -> Vec<(&'a str, &'a Profile)> {
    let profiles = scope.configuration.profiles.iter();
    profiles
        .map(|(ostype, profile)| (&**ostype, profile))
        .filter(|(ostype, _)| scope.ostype.is_none_or(|wanted| wanted == *ostype))
        .collect()
}

fn no_profile(scope: &Scope, findings: &mut Findings) {
    let wanted = match scope.ostype {
        Some(ostype) => ostype,
        None if scope.configuration.profiles.is_empty() => "OSTYPE",
        None => return,
    };
    if let Err(error) = scope.configuration.profile(wanted) {
        findings.block(of_error(Kind::ProfileMissing, &error));
    }
}

/// The obstacles of one profile.
fn of_profile(
    common: &Common,
    scope: &Scope,
    ostype: &str,
    profile: &Profile,
    findings: &mut Findings,
) {
    if let Err(error) = scope.configuration.check_address(ostype, profile) {
        findings.block(of_error(Kind::ManagementAddress, &error).setting(profile::ADDRESS));
    }
    if profile.memory.is_none()
        && let Err(reason) = meminfo::total(common)
    {
        let setting = format!("profile.{ostype}.memory");
        let what = format!("the memory of this machine is unknown ({reason})");
        let way_out = format!("mount /proc, or set {setting}");
        findings.block(Finding::new(Kind::MemoryUnknown, what, way_out).setting(setting));
    }
    if profile.segment {
        segment(common, scope, ostype, findings);
    }
}

fn segment(common: &Common, scope: &Scope, ostype: &str, findings: &mut Findings) {
    let setting = format!("profile.{ostype}.segment");
    let campus = segment::campus(common, scope.machine.mac);
    if scope.addresses.is_empty() && campus.is_ok() {
        findings.warn(
            Finding::new(
                Kind::NotLookedAt,
                "this machine has no address in a room now, and its network segment is unknown",
                "check again while a user is logged in",
            )
            .setting(setting),
        );
        return;
    }
    if let Err(error) = campus.and_then(|campus| Segment::of_room(&campus, scope.addresses)) {
        findings.block(of_error(Kind::SegmentMissing, &error).setting(setting));
    }
}

/// A hugetlbfs is there, and QEMU's user must be able to write to it.
fn huge_pages(
    common: &Common,
    identity: &Identity,
    ostype: &str,
    profile: &Profile,
    findings: &mut Findings,
) {
    let mount = Path::new(handover::MOUNT);
    if !profile.hugepages || meminfo::huge_page_bytes(common, mount).is_none() {
        return; // without one, that is named already
    }
    if fs::metadata(common.path(mount)).is_ok_and(|found| identity.may_use(&found)) {
        return;
    }
    let setting = format!("profile.{ostype}.hugepages");
    let (mount, uid, gid) = (mount.display(), identity.uid, identity.gid);
    findings.block(
        Finding::new(
            Kind::HugePages,
            format_args!("QEMU's user, {uid}, cannot write to {mount}"),
            format_args!(
                "mount it with the options gid={gid},mode=0770, as hugepages.mount of the package labtools-host does, or set {setting}=false"
            ),
        )
        .mount(mount)
        .setting(&setting),
    );
}

/// The finding that an error describes: `CAUSE; WAY OUT`.
pub(crate) fn of_error(kind: Kind, error: &anyhow::Error) -> Finding {
    let error = format!("{error:#}");
    let (what, way_out) = error
        .split_once("; ")
        .unwrap_or((&error, "correct the configuration, see vm-passthrough(8)"));
    Finding::new(kind, what, way_out)
}

/// The needs of a model's guests.
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
    fn a_refusal_has_the_status_of_all_its_reasons() {
        let in_use = Finding::new(Kind::GroupInUse, "in use", "wait");
        let reclaimed = Finding::new(Kind::Reclaimed, "reclaimed", "unbind it");
        let nft = Finding::new(Kind::NftMissing, "nft", "install it");
        let swap = Finding::new(Kind::Swap, "swap", "swapoff");
        for (blockers, exit, message) in [
            (
                vec![in_use.clone()],
                Exit::TemporaryFailure,
                ": in use; wait",
            ),
            (
                vec![in_use.clone(), reclaimed],
                Exit::TemporaryFailure,
                ", for 2 reasons: (1) in use; wait (2) reclaimed; unbind it",
            ),
            (vec![swap.clone()], Exit::Config, ": swap; swapoff"),
            (vec![nft.clone()], Exit::Unavailable, ": nft; install it"),
            (
                vec![in_use.clone(), nft],
                Exit::Config,
                ", for 2 reasons: (1) in use; wait (2) nft; install it",
            ),
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
