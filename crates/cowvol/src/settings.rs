//! /etc/labtools/cowvol.ini: where the volumes are, how room is promised, and how long volumes are kept.

use std::num::NonZeroU32;

use jsonpipe::ini::Configuration;
use jsonpipe::{Common, Exit};
use serde::Deserialize;

/// The name of the file in the directory for configuration.
pub const FILE: &str = "cowvol.ini";

/// The whole file.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `[room]`.
    pub room: Room,
    /// `[zfs]`; without it the volumes are qcow2 files.
    pub zfs: Option<Zfs>,
}

/// `[room]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Room {
    /// The bytes that have to be free for a volume, in place of the whole room that its disk can come
    /// to need. They are looked for and not held, which every file system can do.
    pub reserve: Option<u64>,
    /// Volumes that no user has come back to for so many days go with `cowvol prune`.
    pub idle_days: Option<NonZeroU32>,
}

/// `[zfs]`: bases and volumes are ZFS volumes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Zfs {
    /// The pool, or a dataset in it, with the datasets `base` and `user`.
    pub pool: String,
    /// The first part of the names of the properties: `br.ufscar` in `br.ufscar:lastlogin`.
    pub prefix: String,
}

impl Zfs {
    /// The longest `pool` with which the name of every volume is short enough for ZFS (255).
    const POOL_MAX: usize = 100;
    /// The longest `prefix`: the whole name of a property has at most 255 characters.
    const PREFIX_MAX: usize = 64;

    /// Finds the key that is not right, and says why.
    fn check(&self) -> Result<(), String> {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let of_pool = self.pool.starts_with(|c: char| c.is_ascii_alphabetic())
            && self.pool.len() <= Zfs::POOL_MAX
            && self.pool.split('/').all(is_part);
        if !of_pool {
            let max = Zfs::POOL_MAX;
            return Err(format!(
                "zfs.pool: not the name of a pool or of a dataset in it, such as tank/labs: at most {max} of letters, digits, -, _ and ."
            ));
        }
        let of_prefix = self.prefix.len() <= Zfs::PREFIX_MAX
            && is_part(&self.prefix)
            && !self.prefix.bytes().any(|b| b.is_ascii_uppercase());
        if !of_prefix {
            let max = Zfs::PREFIX_MAX;
            return Err(format!(
                "zfs.prefix: not the beginning of a property's name, such as org.example: at most {max} of a-z, 0-9, -, _ and ."
            ));
        }
        Ok(())
    }
}

/// Reads the file; what it does not say has its default. Status 78 when it is invalid.
pub fn read(common: &Common) -> anyhow::Result<Settings> {
    let path = common.config(FILE);
    let mut file = Configuration::read(&path)?;
    let room = file.section("room")?.unwrap_or_default();
    let zfs: Option<Zfs> = file.section("zfs")?;
    file.end()?;
    match zfs.as_ref().map_or(Ok(()), Zfs::check) {
        Ok(()) => Ok(Settings { room, zfs }),
        Err(wrong) => Err(Exit::Config.error(format_args!("{}: {wrong}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(pool: &str, prefix: &str) -> Option<String> {
        let (pool, prefix) = (pool.to_owned(), prefix.to_owned());
        let said = Zfs { pool, prefix }.check().err()?;
        said.split_once(':').map(|(key, _)| key.to_owned())
    }

    #[test]
    fn names_that_zfs_does_not_take_are_refused() {
        for pool in ["tank", "tank/labs", "rpool/a.b/c_d-1"] {
            assert_eq!(wrong(pool, "br.ufscar"), None, "{pool}");
        }
        let long = "a".repeat(101);
        for pool in [
            "", "/tank", "tank/", "tank//a", "1tank", "tank/-a", "tank@a", "tank a", "tank:a",
            "tank\na", &long,
        ] {
            assert_eq!(
                wrong(pool, "br.ufscar").as_deref(),
                Some("zfs.pool"),
                "{pool}"
            );
        }
        let long = "a".repeat(65);
        for prefix in ["", "Br", "br:x", "br ufscar", "br\tx", ".br", &long] {
            assert_eq!(
                wrong("tank", prefix).as_deref(),
                Some("zfs.prefix"),
                "{prefix}"
            );
        }
    }
}
