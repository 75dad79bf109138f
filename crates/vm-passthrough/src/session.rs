//! One run: checks everything, takes the resources, and returns them at the end.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use confined::{Identity, Life, Start};
use jsonpipe::{
    Answer, Common, Document, Exit, ExitContext, Pipe, io_error, lock, signals, timestamp,
};
use nix::unistd::geteuid;

use crate::accel::Accel;
use crate::child;
use crate::disks::HandedDown;
use crate::firewall::Rule;
use crate::report::{Ended, Guest as Report, Session};
use crate::supervise::{Guest, Outcome};
use crate::{Plan, TOOL, accel, hugepages, memory};

/// Boots the guest of `plan`, waits for its end, and reports. After an error nothing is left
/// behind.
pub(crate) fn run(
    plan: &Plan,
    common: &Common,
    pipe: &Pipe,
    mut document: Document,
) -> anyhow::Result<Answer> {
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
    if !geteuid().is_root() {
        return Err(Exit::NoPermission.error("starting a guest needs root; plan does not"));
    }
    // From here on signals find the machine in a consistent state: they are deferred until this is
    // dropped, after everything else.
    let ending = signals::defer()?;
    // cowvol prune holds it for a moment while it removes volumes.
    const HELD: &str =
        "another guest runs, or old volumes are being removed; try again when that has ended";
    let lock = lock::take(common, occupancy::GUEST, HELD)?;
    machine.check_devices(common, |node| accessible(identity, node))?;
    if profile.hugepages {
        hugepages::check(common, *memory, |mount| accessible(identity, mount))?;
    } else {
        memory::check(common, *memory)?;
    }
    let (ours, theirs) =
        UnixStream::pair().exit(Exit::Software, || "making a socket for QEMU's monitor")?;
    let handed_down = HandedDown::open(common, volume, settings, theirs)?;

    let accel = accel::decide(common, &settings.binary, identity, pipe)?;
    let report = plan.report(accel, handed_down.descriptors());
    let identity = match accel {
        Accel::Kvm => identity.with_group_of(
            &fs::metadata(common.path("/dev/kvm")).exit(Exit::Config, || "looking at /dev/kvm")?,
        ),
        Accel::Tcg => *identity,
    };
    let rule = Rule::install(identity.uid)?;
    let start = Start {
        identity: Some(identity),
        hand_down: &handed_down.all(),
        life: Life::WithUs,
        lock_memory: !machine.devices.is_empty(),
    };
    let (qemu, stderr) = child::spawn(&report.argv, &start)?;
    drop(handed_down); // QEMU's locks on the disks must end with QEMU
    pipe.note(format_args!("QEMU is process {}", qemu.id()));
    let mut guest = Guest::new(qemu, virtualizer.control(ours), stderr, &ending);
    guest.start(virtualizer.as_ref())?;
    let started_at = timestamp::rfc3339(SystemTime::now());
    pipe.note("the guest runs");
    let Outcome { ended, reason } = guest.watch(settings.shutdown(), pipe)?;
    let ended_at = timestamp::rfc3339(SystemTime::now());
    let removed = rule
        .remove()
        .inspect_err(|error| pipe.warn(format_args!("{error:#}")));

    let handed_back = removed.is_ok();
    let session = Session {
        started_at,
        ended_at,
        ended,
        ended_reason: reason,
        handed_back,
    };
    document.set(
        TOOL.section,
        &Report {
            changed: true,
            session: Some(session),
            ..report
        },
    )?;
    let answer = if ended != Ended::Died && handed_back {
        Answer::yes(document)
    } else {
        Answer::no(document)
    };
    // The next guest may start, even if the document is read slowly. Then a deferred signal may end
    // this process.
    drop(lock);
    Ok(answer.holding(ending))
}

/// Checks that QEMU's user can read and write `path`; if not, status 78 with the way out.
fn accessible(identity: &Identity, path: &Path) -> anyhow::Result<()> {
    let found = fs::metadata(path).map_err(|error| {
        io_error(
            error,
            |_| Exit::Config,
            format_args!("looking at {}", path.display()),
        )
    })?;
    if identity.may_use(&found) {
        return Ok(());
    }
    let uid = identity.uid;
    Err(Exit::Config.error(format_args!(
        "{}: QEMU's user cannot use it; give it to user {uid} when the host starts",
        path.display()
    )))
}
