//! The seam between policy (whose volume gets its room, and what goes for it) and the mechanism that
//! keeps the volumes.

mod ofd;
pub mod qcow2;
pub mod zfs;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use images::bases::Entry;
use images::parse_generation;
use jsonpipe::Exit;
use jsonpipe::signals::Deferred;
use manifest::is_name;

use crate::report::Layout;
use crate::standing::Standing;
use crate::token::Token;
use crate::unlinked::Unlinked;

/// A generation of a base.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GenerationId {
    /// The name of the base.
    pub base: String,
    /// Its number.
    pub generation: u64,
}

/// A user's volume on a generation of a base.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeId {
    /// The user.
    pub token: Token,
    /// The name of the base.
    pub base: String,
    /// The generation of the base.
    pub generation: u64,
    /// Whether it ends with its session, as for an exam: then it is not the user's volume.
    pub is_ephemeral: bool,
}

/// The end of the name of an ephemeral volume.
const EPHEMERAL: &str = ".ephemeral";

impl VolumeId {
    /// The volume of a user on the current generation of a base.
    pub fn of(token: &Token, base: &Entry) -> VolumeId {
        VolumeId {
            token: token.clone(),
            base: base.name.clone(),
            generation: base.generation,
            is_ephemeral: false,
        }
    }

    /// The generation that it was made on.
    pub fn made_on(&self) -> GenerationId {
        GenerationId {
            base: self.base.clone(),
            generation: self.generation,
        }
    }

    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<VolumeId> {
        let (token, of) = text.split_once('.')?;
        let (base, of) = of.split_once('@')?;
        let generation = of.strip_suffix(EPHEMERAL);
        let is_ephemeral = generation.is_some();
        let generation = generation.unwrap_or(of);
        Some(VolumeId {
            token: Token::parse(token)?,
            base: is_name(base).then(|| base.to_owned())?,
            generation: parse_generation(generation)?,
            is_ephemeral,
        })
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_ephemeral { EPHEMERAL } else { "" };
        write!(f, "{}.{}@{}{end}", self.token, self.base, self.generation)
    }
}

/// The state of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The room that it takes on the disk, its reservation included.
    pub held_bytes: u64,
    /// The part of it that is reserved, and not written yet.
    pub reserved_bytes: u64,
    /// The room that its removal would free.
    pub freeable_bytes: u64,
    /// The time of the last login, or of the last write after it; `None` when it is not known.
    pub last_login: Option<SystemTime>,
}

/// What is stored under a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The volume.
    pub id: VolumeId,
    /// Whether it is only what a power cut left of a volume that was being made.
    pub is_remains: bool,
}

impl Item {
    /// A whole volume.
    pub fn whole(id: VolumeId) -> Item {
        Item {
            id,
            is_remains: false,
        }
    }
}

/// Something that the store holds, and its state.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What it is.
    pub item: Item,
    /// Where it is, relative to the root: not under its name while another one has that.
    pub path: String,
    /// Its state.
    pub state: State,
}

/// The content that a volume gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// What it has.
    Present,
    /// What its restore point has.
    Point,
}

/// What becomes of a volume and its restore point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it contains afterwards.
    pub content: Content,
    /// The time of its restore point, which then contains the same; `None` when it has none.
    pub point: Option<SystemTime>,
}

/// Something among the bases and volumes that is none of them, or not as it has to be.
#[derive(Clone, Debug)]
pub struct Stray {
    /// What it is.
    pub kind: StrayKind,
    /// Its path, relative to the root, or the name of its dataset.
    pub path: String,
    /// More about it, in words.
    pub reason: String,
}

/// The kinds of strays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrayKind {
    /// A place for a user's volumes in which there is nothing.
    EmptyDirectory,
    /// A volume whose file has another name.
    HardLink,
    /// Nothing of the suite has this name.
    Foreign,
    /// A dataset is not as it has to be.
    Layout,
}

/// A volume as people see it in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The volume.
    pub id: VolumeId,
    /// Where it is, relative to the root.
    pub path: String,
    /// Its state.
    pub state: State,
    /// The size of its disk, or the reason why it is not known.
    pub virtual_bytes: Result<u64, String>,
    /// When its restore point was taken, if it has one.
    pub point: Option<SystemTime>,
    /// Whether a program has it open.
    pub is_open: bool,
}

/// The disk of a volume, as it is handed to the guest. Paths are relative to the root.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The name of the mechanism.
    pub backend: &'static str,
    /// The format of `path`.
    pub format: &'static str,
    /// The volume.
    pub path: String,
    /// The image that the guest's disk is opened with; `None` where the volume is the whole disk.
    pub backing: Option<Backing>,
}

/// A published image, which was compared with its manifest.
#[derive(Debug)]
pub struct Published<'a> {
    /// The base, and the generation that the image has.
    pub base: &'a Entry,
    /// The file, in the format qcow2.
    pub path: &'a Path,
    /// The size of its disk.
    pub virtual_bytes: u64,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Its identity.
    pub stands: &'a Standing,
}

impl Published<'_> {
    /// Checks that the name still leads to the checked file. Status 75 when it was replaced or
    /// written to.
    pub fn check_still_there(&self) -> anyhow::Result<()> {
        match fs::metadata(self.path) {
            Ok(found) if Standing::of(&found) == *self.stands => Ok(()),
            _ => Err(Exit::TemporaryFailure.error(format_args!(
                "{}: it was changed while it was checked; try again when that has ended",
                self.path.display()
            ))),
        }
    }
}

/// The image that a volume reads through to.
#[derive(Clone, Debug)]
pub struct Backing {
    /// Its path, relative to the root.
    pub path: String,
    /// Its format.
    pub format: &'static str,
}

/// A copy-on-write mechanism. All that changes something is called under the pool's lock.
///
/// Status 73 when there is no room, 78 when the mechanism cannot promise room on this machine, others
/// as in [`Exit`](jsonpipe::Exit).
pub trait Backend {
    /// An opened and checked base.
    type Base;
    /// A volume that nothing uses, and that nothing can open while this exists.
    type Held;

    /// Makes what the volumes and `bases` need and is missing (a dry run does not), and finds what is
    /// not as it has to be.
    fn lay_out(&self, bases: &[Entry], dry_run: bool) -> anyhow::Result<Layout>;
    /// Opens and checks the image of a base.
    fn open_base(&self, entry: &Entry) -> anyhow::Result<Self::Base>;
    /// The size of the disk of a base.
    fn virtual_bytes(&self, base: &Self::Base) -> u64;
    /// The whole room that a volume on it can come to need.
    fn whole_bytes(&self, base: &Self::Base) -> u64;
    /// The room that the mechanism itself may need besides, when it holds that much.
    fn overhead_bytes(&self, _base: &Self::Base) -> u64 {
        0
    }
    /// The room that has to be free to make a volume, before one that it replaces gives up its room. 0
    /// where [`free_bytes`](Backend::free_bytes) leaves enough out.
    fn making_bytes(&self) -> u64 {
        0
    }
    /// The same for a change.
    fn changing_bytes(&self, _id: &VolumeId, _change: &Change) -> anyhow::Result<u64> {
        Ok(0)
    }
    /// The disk of a volume.
    fn disk_of(&self, id: &VolumeId) -> Disk;
    /// The room that is free for volumes.
    fn free_bytes(&self) -> anyhow::Result<u64>;
    /// Refuses (78) a machine on which room cannot be held.
    fn check_can_reserve(&self) -> anyhow::Result<()>;

    /// Finds and checks a volume; `None` when it does not exist.
    fn find(&self, id: &VolumeId, base: &Self::Base) -> anyhow::Result<Option<State>>;
    /// Finds something, unchecked; `None` when it does not exist.
    fn stored(&self, item: &Item) -> anyhow::Result<Option<Stored>>;
    /// The state of a volume, unchecked; `None` when it does not exist.
    fn state(&self, id: &VolumeId) -> anyhow::Result<Option<State>> {
        let stored = self.stored(&Item::whole(id.clone()))?;
        Ok(stored.map(|stored| stored.state))
    }
    /// Finishes what a killed run has left of a change to a volume, unless a program has it open.
    fn finish(&self, _id: &VolumeId) -> anyhow::Result<()> {
        Ok(())
    }
    /// Makes a volume, and holds `reserve` bytes for it in all. On failure nothing is left of it.
    fn create(
        &self,
        id: &VolumeId,
        base: &Self::Base,
        reserve: Option<u64>,
    ) -> anyhow::Result<State>;
    /// Holds that many bytes in all for an existing volume, or what it held before on failure.
    fn reserve(&self, id: &VolumeId, bytes: u64) -> anyhow::Result<()>;
    /// Sets the time of the last login; the state afterwards.
    fn touch(&self, id: &VolumeId, login: SystemTime) -> anyhow::Result<State>;

    /// When the restore point of a volume was taken; `None` when it has none.
    fn point(&self, id: &VolumeId) -> anyhow::Result<Option<SystemTime>>;
    /// The room that a volume can come to need besides that of a new one, as it is or after a change:
    /// with a restore point, all that the guest wrote before can be written again. Status 73 when no
    /// change of this kind is possible.
    fn more_bytes(&self, id: &VolumeId, change: Option<&Change>) -> anyhow::Result<u64>;
    /// Changes the content and the restore point of a volume, both or neither. Its last login stays.
    fn change(&self, held: &Self::Held, change: &Change) -> anyhow::Result<()>;
    /// Puts a new volume in the place of another, whose room becomes free; that of the new one is not
    /// held yet. After a cut in between, the old one or the new one is there.
    fn renew(&self, held: Self::Held, id: &VolumeId, base: &Self::Base) -> anyhow::Result<State>;

    /// Everything that is stored, of all users or of one, in no order. Ephemeral volumes are among
    /// those of all.
    fn volumes(&self, of: Option<&Token>) -> anyhow::Result<Vec<Stored>>;
    /// The ephemeral volumes, in no order, and what a power cut left of them. It takes as long as there
    /// are many of these.
    fn ephemerals(&self) -> anyhow::Result<Vec<Stored>>;
    /// Whether a program uses what was found, without keeping any from it.
    fn is_found_in_use(&self, found: &Stored) -> anyhow::Result<bool>;
    /// The same of something that has to be found first.
    fn is_in_use(&self, item: &Item) -> anyhow::Result<bool> {
        match self.stored(item)? {
            Some(found) => self.is_found_in_use(&found),
            None => Ok(false),
        }
    }
    /// Keeps programs from opening what was found; `None` when one uses it or it is gone.
    fn hold_found(&self, found: &Stored) -> anyhow::Result<Option<Self::Held>>;
    /// The same of something that has to be found first.
    fn hold(&self, item: &Item) -> anyhow::Result<Option<Self::Held>> {
        match self.stored(item)? {
            Some(found) => self.hold_found(&found),
            None => Ok(None),
        }
    }
    /// Gives back what is reserved for a volume; its last login stays. The room that became free.
    fn release(&self, held: &Self::Held) -> anyhow::Result<u64>;
    /// Removes it, and frees its room at once. The room that became free.
    fn remove(&self, held: Self::Held) -> anyhow::Result<u64>;
    /// Makes the removals of a user's volumes durable, where they are not at once.
    fn settle(&self, _of: &Token) -> anyhow::Result<()> {
        Ok(())
    }

    /// The volumes, of one user or of all, in no order. Damaged ones are among them.
    fn list(&self, of: Option<&Token>) -> anyhow::Result<Vec<Listed>>;
    /// Everything that has the name of a volume or of its remains, whatever it is, in no order.
    fn names(&self) -> anyhow::Result<Vec<Stored>> {
        self.volumes(None)
    }
    /// How many names at most are removed while the pool's lock is held.
    const NAMES_AT_ONCE: usize;
    /// Removes the name of something that nothing uses, and leaves it to `unlinked` to free its room.
    /// The room that becomes free.
    fn unlink(&self, found: &Stored, _unlinked: &mut Unlinked) -> anyhow::Result<u64> {
        match self.hold_found(found)? {
            Some(held) => self.remove(held),
            None => Err(in_use(&found.path)),
        }
    }

    /// What is among the bases and volumes and is none of them, or not as it has to be, in no order.
    fn strays(&self, bases: &[Entry]) -> anyhow::Result<Vec<Stray>>;
    /// Removes a stray that is empty.
    fn clear(&self, stray: &Stray) -> anyhow::Result<()>;

    /// The origins of volumes that the mechanism keeps besides the published images, and the room of
    /// each. There are none where volumes read the published image itself.
    fn origins(&self) -> anyhow::Result<BTreeMap<GenerationId, u64>> {
        Ok(BTreeMap::new())
    }
    /// Makes the origin of a generation, durable and complete, or on failure nothing. Whether it did:
    /// it may be there already. Not under the pool's lock, as it takes long; a signal ends it.
    fn make_origin(
        &self,
        _published: &Published<'_>,
        _ending_signals: &Deferred,
    ) -> anyhow::Result<bool> {
        Ok(false)
    }
    /// After a switch-over, gives the origins the names and labels that people see.
    fn name_origins(&self, _bases: &[Entry]) -> anyhow::Result<()> {
        Ok(())
    }
    /// The path of a generation's origin, if a program uses it.
    fn used_origin(&self, _id: &GenerationId) -> anyhow::Result<Option<String>> {
        Ok(None)
    }
    /// Removes a generation's origin, on which there is no volume. The room that became free.
    fn remove_origin(&self, _id: &GenerationId) -> anyhow::Result<u64> {
        Ok(0)
    }
}

/// The refusal (75) to remove something that a program has opened meanwhile.
pub fn in_use(path: &str) -> anyhow::Error {
    Exit::TemporaryFailure.error(format_args!("removing {path}: a program has opened it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_one_name() {
        let token = "T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w";
        for (end, is_ephemeral) in [("", false), (".ephemeral", true)] {
            let name = format!("{token}.debian-12.2@7{end}");
            let id = VolumeId::parse(&name).unwrap();
            assert_eq!((id.to_string(), id.is_ephemeral), (name, is_ephemeral));
        }
        for name in [
            format!("{token}.debian@07"),
            format!("{token}.debian@7.ephemeral.ephemeral"),
            format!("{token}.Debian@7"),
            format!("{token}@7"),
            "x.debian@7".into(),
            String::new(),
        ] {
            assert_eq!(VolumeId::parse(&name), None, "{name}");
        }
    }
}
