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
            return self.without(backend);
        };
        let change = self.change(present, point);
        let refused = match backend.more_bytes(self.id, change.as_ref()) {
            Ok(more_bytes) => match self.missing(backend, more_bytes)? {
                None => {
                    let point = Ok(taken);
                    return Ok(Decision {
                        change,
                        more_bytes,
                        point,
                    });
                }
                Some(reason) => reason,
            },
            Err(error) if Exit::of(&error) == Exit::CantCreate => format!("{error:#}"),
            // It cannot be changed. QEMU may still open it, and the user's files are worth more than
            // a restore point.
            Err(error) if Exit::of(&error) == Exit::Data && !self.goes_back => {
                return Ok(Decision {
                    change: None,
                    more_bytes: backend.more_bytes(self.id, None)?,
                    point: Err(format!("{error:#}")),
                });
            }
            Err(error) => return Err(error),
        };
        let change = self.change(present, None);
        Ok(Decision {
            more_bytes: backend.more_bytes(self.id, change.as_ref())?,
            change,
            point: Err(refused),
        })
    }

    /// It has no restore point, and gets none today.
    fn without(&self, backend: &B) -> anyhow::Result<Decision> {
        Ok(Decision {
            change: None,
            more_bytes: backend.more_bytes(self.id, None)?,
            point: Err("none was taken before the first session of the day".into()),
        })
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
    fn missing(&self, backend: &B, more_bytes: u64) -> anyhow::Result<Option<String>> {
        let whole_bytes = self.room_bytes.saturating_add(more_bytes);
        let held_bytes = self.found.held_bytes;
        let need = need_bytes(backend, self.base, self.room, whole_bytes, held_bytes);
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
