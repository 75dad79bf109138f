//! What can be wrong with bases and volumes, and the way out of it.

use crate::backend::{Stored, Stray, StrayKind, VolumeId};
use crate::report;

/// A fault.
#[derive(Debug)]
pub struct Fault {
    /// What is wrong.
    pub what: What,
    /// Where, relative to the root.
    pub path: String,
    /// More about it, in words.
    pub reason: String,
}

/// The kinds of faults.
#[derive(Debug)]
pub enum What {
    /// A power cut left a volume half made.
    HalfMade(Stored),
    /// A power cut left bases.ini half made.
    HalfMadeList,
    /// Something that is not a volume is among the volumes.
    Stray(Stray),
    /// A volume was handed out to a session that is over.
    Promise(VolumeId),
    /// Room is held for a volume that no session has.
    Room(VolumeId),
    /// The room of a session's volume, of so many bytes, is not held.
    Reservation(VolumeId, u64),
    /// A volume is damaged, or was made for another base.
    Volume(VolumeId),
    /// The image of a base is not there, or damaged.
    Base,
    /// An image is gone, and its descriptions are still there.
    Generation,
}

impl What {
    /// A word for scripts.
    fn kind(&self) -> &'static str {
        match self {
            What::HalfMade(_) | What::HalfMadeList => "half_made",
            What::Stray(stray) => match stray.kind {
                StrayKind::EmptyDirectory => "empty_directory",
                StrayKind::HardLink => "hard_link",
                StrayKind::Foreign => "foreign",
                StrayKind::Layout => "layout",
            },
            What::Promise(_) => "promise",
            What::Room(_) => "room",
            What::Reservation(..) => "reservation",
            What::Volume(_) => "volume",
            What::Base => "base",
            What::Generation => "generation",
        }
    }

    /// The way out, for people.
    fn way_out(&self) -> String {
        let words = match self {
            What::HalfMade(_) | What::HalfMadeList => REMOVES,
            What::Stray(stray) => match stray.kind {
                StrayKind::EmptyDirectory => REMOVES,
                StrayKind::HardLink => {
                    "find its other names (find / -xdev -samefile PATH) and remove them; while there are any, its room is not freed"
                }
                StrayKind::Foreign => "move it away",
                StrayKind::Layout => {
                    "cowvol install-base makes bases, cowvol layout what else is missing, and cowvol prune names and labels bases; \
                     the reason tells the rest"
                }
            },
            What::Promise(_) | What::Room(_) => "cowvol repair gives its room back",
            What::Reservation(..) => {
                "make room; then cowvol repair, or the user's next login, holds it again"
            }
            What::Volume(id) if id.is_ephemeral => {
                "cowvol release removes it when its session is over"
            }
            // The name is not known: the token cannot be turned back. It may begin with a hyphen.
            What::Volume(VolumeId { token, base, .. }) => {
                return format!(
                    "put its base back, or remove it, with the user's files: cowvol discard --token={token} --base {base}"
                );
            }
            What::Base => {
                "put the image back, or fetch and install one: seedctl get | cowvol install-base"
            }
            What::Generation => "cowvol prune removes the rest",
        };
        words.to_owned()
    }
}

const REMOVES: &str = "cowvol repair removes it";

impl Fault {
    /// Whether both are the same, perhaps at different times.
    pub fn is_as(&self, other: &Fault) -> bool {
        self.path == other.path && self.what.kind() == other.what.kind()
    }

    /// Whether the work of another program looks the same while it goes on.
    pub fn may_pass(&self) -> bool {
        match &self.what {
            What::HalfMade(_) | What::HalfMadeList => true,
            What::Promise(_) | What::Room(_) | What::Reservation(..) => true,
            What::Stray(stray) => stray.kind == StrayKind::EmptyDirectory,
            What::Volume(_) | What::Base | What::Generation => false,
        }
    }

    /// For the document.
    pub fn report(&self) -> report::Fault {
        report::Fault {
            kind: self.what.kind(),
            path: self.path.clone(),
            what: self.reason.clone(),
            way_out: self.what.way_out(),
        }
    }
}
