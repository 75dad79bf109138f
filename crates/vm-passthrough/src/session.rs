//! One run: checks everything, takes the resources, and returns them at the end.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use confined::{Identity, Life, Start};
use handover::{Failed, Handover, Owner, Wanted};
use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, lock, signals, timestamp};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::geteuid;

use crate::accel::Accel;
use crate::child;
use crate::disks::HandedDown;
use crate::firewall::{self, Rule};
use crate::plan::{Plan, Request};
use crate::report::{Ended, Guest as Report, HandedBack, Session};
use crate::supervise::{Guest, Outcome};
use crate::{TOOL, accel, memory, obstacles, restore};

/// Boots the guest of the request, waits for its end, and reports. After an error nothing is left behind.
pub(crate) fn run(
    request: Request,
    common: &Common,
    pipe: &Pipe,
    mut document: Document,
) -> anyhow::Result<Answer> {
    if !geteuid().is_root() {
        return Err(Exit::NoPermission.error("starting a guest needs root; plan does not"));
    }
    // From here on signals find the machine in a consistent state: they are deferred until this is
    // dropped, after everything else.
    let ending = signals::defer()?;
    // cowvol prune holds it for a moment while it removes volumes.
    const HELD: &str =
        "another guest runs, or old volumes are being removed; try again when that has ended";
    let lock = (
        lock::take(common, occupancy::GUEST, HELD)?,
        firewall::alone()?,
    );
    // First, for a guest that is refused must not leave the last one's devices where they are.
    restore::before_run(common, pipe)?;
    obstacles::before_run(common, &request)?;
    let plan = Plan::new(common, request)?;
    let Plan {
        volume,
        profile,
        memory,
        settings,
        machine,
        identity,
        ..
    } = &plan;
    if !profile.hugepages {
        memory::check(common, *memory)?;
    }
    let (ours, theirs) =
        UnixStream::pair().exit(Exit::Software, || "making a socket for the guest's monitor")?;
    let handed_down = HandedDown::open(common, volume, settings, theirs)?;

    let accel = accel::decide(common, plan.virtualizer.as_ref(), identity, pipe)?;
    let report = plan.report(accel, handed_down.descriptors());
    let identity = match accel {
        Accel::Kvm => identity.with_group_of(
            &fs::metadata(common.path("/dev/kvm")).exit(Exit::Config, || "looking at /dev/kvm")?,
        ),
        Accel::Tcg => *identity,
    };
    let wanted = Wanted {
        devices: machine.devices.clone(),
        parked: plan.parked.clone(),
        owner: Owner {
            uid: identity.uid.as_raw(),
            gid: identity.gid.as_raw(),
        },
        memory: profile.hugepages.then(|| memory.bytes()),
        reserve: settings.free_memory_bytes(volume.is_device()),
    };
    let (taken, lived, returned) =
        match Handover::take(common, &wanted, &mut |step| pipe.note(step)) {
            Ok(handover) => {
                let lived = live(
                    &plan,
                    &report.argv,
                    identity,
                    handed_down,
                    ours,
                    &ending,
                    pipe,
                );
                let taken = handover.taken().clone();
                (Some(taken), lived, handover.give_back())
            }
            Err(Failed { error, returned }) => (None, Err(error), returned.unwrap_or_default()),
        };
    let mut handed_back = HandedBack::new(taken, returned);
    let (session, reason) = match lived {
        Ok(Lived {
            session,
            reason,
            rule,
        }) => {
            if let Err(error) = rule {
                handed_back.handed_back = false;
                handed_back.left.push(format!("{error:#}"));
            }
            (Some(session), reason)
        }
        // Nothing is left of it.
        Err(error) if handed_back.handed_back => return Err(error),
        Err(error) => {
            pipe.warn(format_args!("{error:#}"));
            (None, Some(format!("{error:#}")))
        }
    };
    for left in &handed_back.left {
        pipe.warn(left);
    }
    let well = session
        .as_ref()
        .is_some_and(|session| session.ended != Ended::Died)
        && handed_back.handed_back;
    document.set(
        TOOL.section,
        &Report {
            changed: true,
            session,
            ended_reason: reason,
            handed_back: Some(handed_back),
            ..report
        },
    )?;
    let answer = if well {
        Answer::yes(document)
    } else {
        Answer::no(document)
    };
    // The next guest may start, even if the document is read slowly. Then a deferred signal may end
    // this process.
    drop(lock);
    Ok(answer.holding(ending))
}

/// A guest that ran.
struct Lived {
    session: Session,
    reason: Option<String>,
    /// Whether the firewall rule could be removed.
    rule: anyhow::Result<()>,
}

/// Starts the virtualizer and waits for its end. After an error it is gone.
fn live(
    plan: &Plan,
    argv: &[String],
    identity: Identity,
    handed_down: HandedDown,
    ours: UnixStream,
    ending: &Deferred,
    pipe: &Pipe,
) -> anyhow::Result<Lived> {
    let rule = Rule::install(identity.uid)?;
    let since = Instant::now();
    let start = Start {
        identity: Some(identity),
        hand_down: &handed_down.all(),
        life: Life::WithUs,
        lock_memory: !plan.machine.devices.is_empty(),
    };
    let virtualizer = plan.virtualizer.as_ref();
    let (program, stderr) = child::spawn(argv, &start)?;
    drop(handed_down); // the program's locks on the disks must end with it
    pipe.note(format_args!(
        "{} is process {}",
        virtualizer.name(),
        program.id()
    ));
    let mut guest = Guest::new(program, virtualizer, ours, stderr, ending);
    guest.start()?;
    let started_at = timestamp::rfc3339(SystemTime::now());
    let start_seconds = rounded(since.elapsed());
    let boot_to_ready_seconds = since_boot().map(rounded);
    pipe.note("the guest runs");
    let Outcome { ended, reason } = guest.watch(plan.settings.shutdown(), pipe)?;
    Ok(Lived {
        session: Session {
            started_at,
            start_seconds,
            boot_to_ready_seconds,
            ended_at: timestamp::rfc3339(SystemTime::now()),
            ended,
        },
        reason,
        rule: rule.remove(),
    })
}

/// The time since the kernel of this machine started, suspension included.
fn since_boot() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .ok()
}

/// Milliseconds are precise enough.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
