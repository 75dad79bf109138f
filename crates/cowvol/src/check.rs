//! `cowvol check`: finds what a power cut, a fault or a person left of bases and volumes, and changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use images::POOL_LOCK;
use images::bases::{self, Entry};
use jsonpipe::{Answer, Common, Document, lock, signals};
use occupancy::{GUEST, SESSION};

use crate::backend::qcow2::in_use;
use crate::backend::{Backend, GenerationId, Listed, Stored, VolumeId};
use crate::fault::{Fault, What};
use crate::report::Checked;
use crate::{promise, published, settings};

/// Reports all faults. Status 1 when there are any.
pub fn check<B: Backend>(common: &Common, backend: &B) -> anyhow::Result<Answer> {
    let ending_signals = signals::defer()?;
    let mut faults = look(common, backend, Depth::Content)?;
    if faults.iter().any(Fault::may_pass) {
        let lasting = {
            let _lock = lock::wait(common, POOL_LOCK, &ending_signals)?;
            look(common, backend, Depth::Names)?
        };
        let lasts = |fault: &Fault| lasting.iter().any(|other| other.is_as(fault));
        faults.retain(|fault| !fault.may_pass() || lasts(fault));
    }
    let mut document = Document::default();
    let section = Checked {
        changed: false,
        faults: faults.iter().map(Fault::report).collect(),
    };
    document.set("checked", &section)?;
    Ok(match faults.is_empty() {
        true => Answer::yes(document),
        false => Answer::no(document),
    })
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// At what a program that works on volumes can leave.
    Names,
    /// Also into each volume that no program has open.
    Content,
}

/// Finds all faults, in the order of their paths.
pub fn look<B: Backend>(common: &Common, backend: &B, depth: Depth) -> anyhow::Result<Vec<Fault>> {
    let reserves = settings::read(common)?.room.reserve.is_none();
    let mut looking = Looking {
        backend,
        depth,
        bases: bases::read(common)?,
        promised: promise::all(common)?,
        has_session: lock::is_held(common, SESSION)? || lock::is_held(common, GUEST)?,
        reserves: reserves && backend.check_can_reserve().is_ok(),
        opened: BTreeMap::new(),
        faults: Vec::new(),
    };
    looking.look_at_bases(common)?;
    let mut there = BTreeSet::new();
    for listed in backend.list(None)? {
        looking.look_at_volume(&listed)?;
        there.insert(listed.id);
    }
    looking.look_at_promises_of_nothing(&there);
    for stored in backend.volumes(None)? {
        if stored.item.is_remains {
            looking.look_at_remains(stored)?;
        }
    }
    for stray in backend.strays(&looking.bases)? {
        let (path, reason) = (stray.path.clone(), stray.reason.clone());
        looking.push(What::Stray(stray), path, reason);
    }
    looking.faults.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(looking.faults)
}

/// What is known while looking.
struct Looking<'a, B: Backend> {
    backend: &'a B,
    depth: Depth,
    bases: Vec<Entry>,
    promised: BTreeSet<VolumeId>,
    /// Whether a session or a guest runs on the machine.
    has_session: bool,
    /// Whether room is held for volumes.
    reserves: bool,
    /// The generations that were opened; `None` for one that could not be.
    opened: BTreeMap<GenerationId, Option<B::Base>>,
    faults: Vec<Fault>,
}

impl<B: Backend> Looking<'_, B> {
    fn look_at_bases(&mut self, common: &Common) -> anyhow::Result<()> {
        for base in self.bases.clone() {
            self.open(&GenerationId {
                base: base.name,
                generation: base.generation,
            });
        }
        for (id, files) in published::all(common)? {
            let base = self.bases.iter().find(|base| base.name == id.base);
            let is_retired = base.is_some_and(|base| base.generation > id.generation);
            if is_retired && !files.has_image() {
                let path = images::image_path(&id.base, id.generation);
                let reason = "the image is gone, and files that belong to it are not";
                self.push(What::Generation, path, reason.into());
            }
        }
        let list = bases_remains();
        let path = common.path(&list);
        if path.is_file() && !in_use::is_locked(&path)? {
            self.push(What::HalfMadeList, list, HALF_MADE.into());
        }
        Ok(())
    }

    /// Opens a generation, once; a failure is a fault.
    fn open(&mut self, id: &GenerationId) -> Option<&B::Base> {
        if !self.opened.contains_key(id) {
            let listed = self.bases.iter().find(|base| base.name == id.base);
            let entry = Entry {
                generation: id.generation,
                ..listed.cloned().unwrap_or_else(|| unlisted(id))
            };
            let opened = self.backend.open_base(&entry);
            if let Err(error) = &opened {
                self.push(What::Base, entry.image_path(), format!("{error:#}"));
            }
            self.opened.insert(id.clone(), opened.ok());
        }
        self.opened.get(id).and_then(Option::as_ref)
    }

    fn look_at_remains(&mut self, stored: Stored) -> anyhow::Result<()> {
        if !self.backend.is_found_in_use(&stored)? {
            let path = stored.path.clone();
            self.push(What::HalfMade(stored), path, HALF_MADE.into());
        }
        Ok(())
    }

    fn look_at_volume(&mut self, listed: &Listed) -> anyhow::Result<()> {
        let Listed {
            id,
            path,
            state,
            is_open,
            ..
        } = listed;
        let path = path.clone();
        let is_promised = self.promised.contains(id);
        let has_session = *is_open || (is_promised && self.has_session);
        if is_promised && !has_session {
            let reason = "it was handed out to a session that is over";
            self.push(What::Promise(id.clone()), path.clone(), reason.into());
        } else if (state.reserved_bytes > 0 || id.is_ephemeral) && !has_session {
            let reason = match id.is_ephemeral {
                true => "it was made for one session, which is over".into(),
                false => format!("{} bytes are held for no session", state.reserved_bytes),
            };
            self.push(What::Room(id.clone()), path.clone(), reason);
        }
        let (backend, depth, reserves) = (self.backend, self.depth, self.reserves);
        let Some(base) = self.open(&id.made_on()) else {
            return Ok(());
        };
        let new_bytes = backend.whole_bytes(base);
        // A program that has it open may be changing it.
        if depth == Depth::Content
            && !is_open
            && let Err(error) = backend.find(id, base)
        {
            self.push(What::Volume(id.clone()), path, format!("{error:#}"));
            return Ok(());
        }
        if !reserves || !has_session {
            return Ok(());
        }
        // A program that writes to it meanwhile may have let its tables look wrong.
        let more_bytes = backend.more_bytes(id, None).unwrap_or(0);
        let whole_bytes = new_bytes.saturating_add(more_bytes);
        if state.held_bytes < whole_bytes {
            let reason = format!(
                "{} bytes are held for its session, and it can come to need {whole_bytes}",
                state.held_bytes
            );
            self.push(What::Reservation(id.clone(), whole_bytes), path, reason);
        }
        Ok(())
    }

    fn look_at_promises_of_nothing(&mut self, there: &BTreeSet<VolumeId>) {
        let promised = self.promised.clone();
        for id in promised.difference(there) {
            let path = self.backend.disk_of(id).path;
            let reason = "it was handed out, and is not there";
            self.push(What::Promise(id.clone()), path, reason.into());
        }
    }

    fn push(&mut self, what: What, path: String, reason: String) {
        self.faults.push(Fault { what, path, reason });
    }
}

/// Why something is half made.
pub const HALF_MADE: &str = "a power cut left it half made";

/// What a power cut leaves of bases.ini.
pub fn bases_remains() -> String {
    format!("{}/.bases.ini.tmp", images::BACKING)
}

fn unlisted(id: &GenerationId) -> Entry {
    Entry {
        name: id.base.clone(),
        title: String::new(),
        ostype: String::new(),
        default: false,
        generation: id.generation,
    }
}
