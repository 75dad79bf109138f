//! The manifest of a host's root for a ZFS pool.

use serde::{Deserialize, Serialize};

use crate::description::{Description, Digest, Kind, NAME_RULE, check_bytes, check_count, is_name};

/// A manifest of kind `zfs_host`. It covers the bytes of the stream, as `zfs send` makes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ZfsHost {
    /// Its name in logs; [`is_name`].
    pub name: String,
    /// Counts up from 1 with every root.
    pub version: u64,
    /// The length of the stream.
    pub size_bytes: u64,
    /// The digest of the stream.
    pub sha256: Digest,
    /// The PC models that it is for, as in their firmware; empty for all.
    pub models: Vec<String>,
    /// The time the manifest was made, RFC 3339.
    pub created_at: String,
}

impl Description for ZfsHost {
    const KIND: Kind = Kind::ZfsHost;

    fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!("name: {NAME_RULE}"));
        }
        check_count(self.version, "versions").map_err(|message| format!("version: {message}"))?;
        check_bytes(self.size_bytes, "an empty stream is no root")
            .map_err(|message| format!("size_bytes: {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Hex, parse};
    use crate::{Host, Keys, Signed};

    fn zfs_host() -> ZfsHost {
        ZfsHost {
            name: "lab".into(),
            version: 8,
            size_bytes: 312,
            sha256: Hex([0xab; 32]),
            models: vec!["OptiPlex 7010".into()],
            created_at: "2026-11-23T00:00:00Z".into(),
        }
    }

    #[test]
    fn a_zfs_host_has_bytes_that_are_pinned() {
        let text = String::from_utf8(zfs_host().to_bytes().unwrap()).unwrap();
        let expected = format!(
            concat!(
                r#"{{"schema":1,"kind":"zfs_host","name":"lab","version":8,"size_bytes":312,"sha256":"{}","#,
                r#""models":["OptiPlex 7010"],"created_at":"2026-11-23T00:00:00Z"}}"#,
                "\n"
            ),
            "ab".repeat(32),
        );
        assert_eq!(text, expected);
        assert_eq!(parse::<ZfsHost>(text.as_bytes()).unwrap(), zfs_host());
        for (from, to, message) in [
            (
                "\"zfs_host\"",
                "\"host\"",
                "kind: it describes a host, not a zfs_host",
            ),
            ("\"lab\"", "\"\"", "name: not a name"),
            (
                "\"version\":8",
                "\"version\":0",
                "version: 0; versions count from 1",
            ),
            ("312", "0", "size_bytes: an empty stream is no root"),
            ("abab", "ab", "expected 64 digits"),
        ] {
            let error = parse::<ZfsHost>(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(message), "{error:#}");
        }
    }

    #[test]
    fn a_zfs_host_has_the_keys_of_a_host_and_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let key = crate::key::tests::write_pair(directory.path(), "host-1", 1);
        let signed = Signed::seal(&zfs_host(), &key).unwrap();
        let keys = |kind| Keys::read(directory.path(), kind).unwrap();
        assert_eq!(
            signed.verify::<ZfsHost>(&keys(Kind::ZfsHost)).unwrap(),
            zfs_host()
        );
        assert!(signed.verify::<Host>(&keys(Kind::Host)).is_err());
    }
}
