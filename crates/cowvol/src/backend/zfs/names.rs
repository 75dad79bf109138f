//! The names of datasets.
//!
//! | dataset | holds |
//! |---|---|
//! | `POOL/base/NAME` | a base; its snapshot `@GENERATION` is the origin of volumes |
//! | `POOL/base/NAME:GENERATION` | the same, of a generation that is not, or not yet, under the plain name |
//! | `POOL/base/NAME:GENERATION:tmp` | one that is being made |
//! | `POOL/user/TOKEN/NAME` | a volume; its origin has its generation |
//! | `POOL/user/TOKEN/NAME:GENERATION` | a volume that another one has pushed aside |
//! | `POOL/user/TOKEN/NAME:GENERATION:tmp` | one that is being made in the place of another, or imported |
//! | `POOL/user/ephemeral/TOKEN.NAME` | an ephemeral volume, which may be pushed aside in the same way |
//!
//! A name of a base may contain a dot, and no colon.

use images::parse_generation;
use manifest::is_name;

use crate::backend::{GenerationId, Item, VolumeId};
use crate::token::Token;

/// The end of the name of what is being made.
const HALF_MADE: &str = ":tmp";

/// The datasets below one pool, or one dataset in a pool.
#[derive(Clone, Debug)]
pub struct Names {
    /// The pool or dataset.
    pub pool: String,
}

/// The name of the parent of ephemeral volumes, which no token is.
pub const EPHEMERAL: &str = "ephemeral";

impl Names {
    /// The pool itself.
    pub fn whole_pool(&self) -> &str {
        self.pool.split('/').next().unwrap_or(&self.pool)
    }

    /// The parent of the bases.
    pub fn bases(&self) -> String {
        format!("{}/base", self.pool)
    }

    /// A base, with its current generation.
    pub fn base(&self, name: &str) -> String {
        format!("{}/{name}", self.bases())
    }

    /// A generation of a base that is not, or not yet, under the base's name.
    pub fn generation(&self, id: &GenerationId) -> String {
        format!("{}:{}", self.base(&id.base), id.generation)
    }

    /// A generation of a base that is being made.
    pub fn half_made(&self, id: &GenerationId) -> String {
        format!("{}{HALF_MADE}", self.generation(id))
    }

    /// The generation that is being made under that name.
    pub fn half_made_of(&self, dataset: &str) -> Option<GenerationId> {
        let name = dataset.strip_prefix(&self.bases())?.strip_prefix('/')?;
        let (base, generation) = name.strip_suffix(HALF_MADE)?.split_once(':')?;
        Some(GenerationId {
            base: is_name(base).then(|| base.to_owned())?,
            generation: parse_generation(generation)?,
        })
    }

    /// The parent of the users' datasets.
    pub fn users(&self) -> String {
        format!("{}/user", self.pool)
    }

    /// The parent of a user's volumes.
    pub fn user(&self, token: &Token) -> String {
        format!("{}/{token}", self.users())
    }

    /// The parent of ephemeral volumes.
    pub fn ephemerals(&self) -> String {
        format!("{}/{EPHEMERAL}", self.users())
    }

    /// The parent of a volume.
    pub fn parent(&self, id: &VolumeId) -> String {
        match id.is_ephemeral {
            true => self.ephemerals(),
            false => self.user(&id.token),
        }
    }

    /// A user's volume on any generation of a base.
    pub fn volume(&self, id: &VolumeId) -> String {
        let parent = self.parent(id);
        match id.is_ephemeral {
            true => format!("{parent}/{}.{}", id.token, id.base),
            false => format!("{parent}/{}", id.base),
        }
    }

    /// The name of a volume that another generation has pushed aside.
    pub fn aside(&self, id: &VolumeId) -> String {
        format!("{}:{}", self.volume(id), id.generation)
    }

    /// The name of a volume that is being made.
    pub fn half_made_volume(&self, id: &VolumeId) -> String {
        format!("{}{HALF_MADE}", self.aside(id))
    }

    /// What is stored under that name, with that origin.
    pub fn item_of(&self, dataset: &str, origin: &str) -> Option<Item> {
        let half_made = dataset.strip_suffix(HALF_MADE);
        let id = self.id_of(half_made.unwrap_or(dataset), origin)?;
        let is_aside = half_made.is_none_or(|name| name == self.aside(&id));
        is_aside.then_some(Item {
            id,
            is_remains: half_made.is_some(),
        })
    }

    /// The base and generation of the snapshot of a base.
    pub fn base_of(&self, snapshot: &str) -> Option<GenerationId> {
        let (dataset, generation) = snapshot.split_once('@')?;
        let generation = parse_generation(generation)?;
        let name = dataset.strip_prefix(&self.bases())?.strip_prefix('/')?;
        let name = name_without(name, generation)?;
        Some(GenerationId {
            base: name.to_owned(),
            generation,
        })
    }

    /// The volume of that name, with that origin.
    pub fn id_of(&self, dataset: &str, origin: &str) -> Option<VolumeId> {
        let GenerationId { base, generation } = self.base_of(origin)?;
        let (parent, name) = dataset
            .strip_prefix(&self.users())?
            .strip_prefix('/')?
            .split_once('/')?;
        let is_ephemeral = parent == EPHEMERAL;
        let (token, name) = match is_ephemeral {
            true => name.split_once('.')?,
            false => (parent, name),
        };
        Some(VolumeId {
            token: Token::parse(token)?,
            base: (name_without(name, generation)? == base).then_some(base)?,
            generation,
            is_ephemeral,
        })
    }
}

/// The name of the base in `NAME` or `NAME:GENERATION`.
fn name_without(name: &str, generation: u64) -> Option<&str> {
    let base = match name.split_once(':') {
        Some((base, aside)) => (parse_generation(aside)? == generation).then_some(base)?,
        None => name,
    };
    is_name(base).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w";

    #[test]
    fn a_volume_is_known_by_its_name_and_its_origin() {
        let names = Names {
            pool: "tank/labs".into(),
        };
        let of = |name: &str, origin: &str| {
            let dataset = format!("tank/labs/user/{TOKEN}/{name}");
            names.id_of(&dataset, origin).map(|id| id.to_string())
        };
        let expected = Some(format!("{TOKEN}.debian-12.2@7"));
        for (name, origin) in [
            ("debian-12.2", "tank/labs/base/debian-12.2@7"),
            ("debian-12.2", "tank/labs/base/debian-12.2:7@7"),
            ("debian-12.2:7", "tank/labs/base/debian-12.2:7@7"),
            ("debian-12.2:7", "tank/labs/base/debian-12.2@7"),
        ] {
            assert_eq!(of(name, origin), expected, "{name} {origin}");
            let id = VolumeId::parse(expected.as_ref().unwrap()).unwrap();
            let dataset = format!("tank/labs/user/{TOKEN}/{name}");
            assert!([names.volume(&id), names.aside(&id)].contains(&dataset));
            let dataset = format!("tank/labs/user/ephemeral/{TOKEN}.{name}");
            let ephemeral = names.id_of(&dataset, origin).unwrap();
            assert_eq!(
                Some(ephemeral.to_string()),
                expected.clone().map(|id| id + ".ephemeral")
            );
            assert!([names.volume(&ephemeral), names.aside(&ephemeral)].contains(&dataset));
        }
        for (name, origin) in [
            ("debian-12.2", "-"),
            ("debian-12.2", "tank/labs/base/debian@7"),
            ("debian-12.2", "tank/base/debian-12.2@7"),
            ("debian-12.2:8", "tank/labs/base/debian-12.2@7"),
            ("debian-12.2", "tank/labs/base/debian-12.2:8@7"),
            ("debian-12.2", "tank/labs/base/debian-12.2@yesterday"),
            ("debian-12.2", "tank/labs/base/debian-12.2@07"),
            ("x/debian-12.2", "tank/labs/base/debian-12.2@7"),
            ("", "tank/labs/base/@7"),
        ] {
            assert_eq!(of(name, origin), None, "{name} {origin}");
        }
        assert_eq!(names.whole_pool(), "tank");

        let id = VolumeId::parse(expected.as_ref().unwrap()).unwrap();
        let origin = "tank/labs/base/debian-12.2@7";
        let half_made = names.item_of(&names.half_made_volume(&id), origin);
        let remains = Item {
            id: id.clone(),
            is_remains: true,
        };
        assert_eq!(half_made, Some(remains));
        for name in [names.volume(&id), names.aside(&id)] {
            assert_eq!(names.item_of(&name, origin), Some(Item::whole(id.clone())));
        }
        let plain = format!("{}:tmp", names.volume(&id));
        assert_eq!(names.item_of(&plain, origin), None);
    }

    #[test]
    fn a_base_that_is_being_made_is_no_base() {
        let names = Names {
            pool: "tank".into(),
        };
        let id = GenerationId {
            base: "debian-12.2".into(),
            generation: 8,
        };
        let half_made = names.half_made(&id);
        assert_eq!(half_made, "tank/base/debian-12.2:8:tmp");
        assert_eq!(names.half_made_of(&half_made), Some(id.clone()));
        assert_eq!(names.base_of(&format!("{half_made}@8")), None);
        let whole = names.generation(&id);
        assert_eq!(names.half_made_of(&whole), None);
        assert_eq!(names.base_of(&format!("{whole}@8")), Some(id));
        for name in ["debian:tmp", "debian:08:tmp", "a/b:8:tmp", ":8:tmp"] {
            assert_eq!(names.half_made_of(&format!("tank/base/{name}")), None);
        }
    }
}
