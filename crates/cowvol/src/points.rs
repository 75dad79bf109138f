//! What becomes of the restore point of a user's volume at a login.
//!
//! The first login of a day takes one, in place of the one before. No volume of anyone goes for it:
//! where its room is not free, the volume has none.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use jsonpipe::Exit;
use room::is_enough;

use crate::backend::{Backend, Change, Content, State, VolumeId};
use crate::evict::need_bytes;
use crate::restore;
use crate::settings::Room;

/// A volume at a login, which no program has open.
pub struct Login<'a, B: Backend> {
    /// The volume.
    pub id: &'a VolumeId,
    /// Its state.
    pub found: State,
    /// Whether the user wants the content of its restore point again.
    pub goes_back: bool,
    /// Its base.
    pub base: &'a B::Base,
    /// How room is promised.
    pub room: Room,
    /// The room of a new volume.
    pub room_bytes: u64,
    /// The time.
    pub now: SystemTime,
}

/// What the login does with it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The change; `None` when it stays as it is.
    pub change: Option<Change>,
    /// The room that it can come to need then, besides that of a new one.
    pub more_bytes: u64,
    /// The room that the change itself takes, where the whole is not held.
    pub changing_bytes: u64,
    /// When its restore point was taken, or why it has none.
    pub point: Result<SystemTime, String>,
}

impl<B: Backend> Login<'_, B> {
    /// Decides. Status 66 when there is no restore point to go back to.
    pub fn decide(&self, backend: &B) -> anyhow::Result<Decision> {
        let present = match self.goes_back {
            true => Some(restore::point_of(backend, self.id)?),
            false => backend.point(self.id)?,
        };
        let point = match is_of_day(present.or(self.found.last_login), self.now) {
            true => present,
            false => Some(self.now),
        };
        let Some(taken) = point else {
            let reason = "none was taken before the first session of the day";
            return self.unchanged(backend, reason.into());
        };
        let change = self.change(present, point);
        let refused = match backend.more_bytes(self.id, change.as_ref()) {
            Ok(more_bytes) => {
                let changing_bytes = self.changing_bytes(backend, change.as_ref())?;
                match self.missing(backend, more_bytes, changing_bytes)? {
                    None => {
                        return Ok(Decision {
                            change,
                            more_bytes,
                            changing_bytes,
                            point: Ok(taken),
                        });
                    }
                    Some(reason) => reason,
                }
            }
            Err(error) if Exit::of(&error) == Exit::CantCreate => format!("{error:#}"),
            // It cannot be changed. QEMU may still open it, and the user's files are worth more than
            // a restore point.
            Err(error) if Exit::of(&error) == Exit::Data && !self.goes_back => {
                return self.unchanged(backend, format!("{error:#}"));
            }
            Err(error) => return Err(error),
        };
        let change = self.change(present, None);
        Ok(Decision {
            more_bytes: backend.more_bytes(self.id, change.as_ref())?,
            changing_bytes: self.changing_bytes(backend, change.as_ref())?,
            change,
            point: Err(refused),
        })
    }

    /// It stays as it is, for this reason.
    fn unchanged(&self, backend: &B, reason: String) -> anyhow::Result<Decision> {
        Ok(Decision {
            change: None,
            more_bytes: backend.more_bytes(self.id, None)?,
            changing_bytes: 0,
            point: Err(reason),
        })
    }

    /// Where the whole room is held, it includes that of the new tables.
    fn changing_bytes(&self, backend: &B, change: Option<&Change>) -> anyhow::Result<u64> {
        match (self.room.reserve, change) {
            (Some(_), Some(change)) => backend.changing_bytes(self.id, change),
            _ => Ok(0),
        }
    }

    /// The change to a volume that has, or has not, a restore point; `None` when nothing changes.
    fn change(&self, present: Option<SystemTime>, point: Option<SystemTime>) -> Option<Change> {
        let content = match self.goes_back {
            true => Content::Point,
            false => Content::Present,
        };
        (self.goes_back || present != point).then_some(Change { content, point })
    }

    /// Why there is no room for that many bytes more. As much has to be free as without an eviction:
    /// otherwise a volume would go for the restore point.
    fn missing(
        &self,
        backend: &B,
        more_bytes: u64,
        changing_bytes: u64,
    ) -> anyhow::Result<Option<String>> {
        let whole_bytes = self.room_bytes.saturating_add(more_bytes);
        let held_bytes = self.found.held_bytes;
        let need = need_bytes(backend, self.base, self.room, whole_bytes, held_bytes);
        let need = need.max(changing_bytes);
        let free = backend.free_bytes()?;
        Ok((!is_enough(need, free)).then(|| {
            format!("{need} bytes are missing for it, {free} are free, and no volume goes for it")
        }))
    }
}

/// Whether a time, if it is known, is of the same day as now, by the clock on the wall.
fn is_of_day(time: Option<SystemTime>, now: SystemTime) -> bool {
    let zone = TimeZone::system();
    let date = |time: SystemTime| Some(zone.to_datetime(Timestamp::try_from(time).ok()?).date());
    time.is_some_and(|time| date(time) == date(now))
}
