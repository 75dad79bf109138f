//! The content of a manifest of a host's root.

use serde::{Deserialize, Serialize};

use crate::description::{Description, Digest, Kind, NAME_RULE, check_bytes, check_count, is_name};

/// Far above the number in an image: three, and one for each boot entry.
const SLOT_FIELDS_MAX: usize = 64;

/// A manifest of kind `host`. It covers the bytes of the root's file system, independent of their
/// compression on the way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Host {
    /// Its name in logs; [`is_name`].
    pub name: String,
    /// Counts up from 1 with every image.
    pub version: u64,
    /// The length of the image.
    pub size_bytes: u64,
    /// The digest of the shipped image.
    pub sha256: Digest,
    /// The PC models that it is for, as in their firmware; empty for all.
    pub models: Vec<String>,
    /// The only bytes that differ between slots.
    pub slot_fields: Vec<SlotField>,
    /// The time the image was made, RFC 3339.
    pub created_at: String,
}

/// Bytes of an image that are set per slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SlotField {
    /// Their offset in the image.
    pub offset_bytes: u64,
    /// Their length, which the kind also determines.
    pub length_bytes: u64,
    /// Their kind.
    pub kind: SlotFieldKind,
}

/// The kind of a slot field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotFieldKind {
    /// The UUID of the file system, binary, in the order of its text; 16 bytes.
    FilesystemUuid,
    /// The label of the file system, padded with NUL; 16 bytes, as ext4 has it.
    FilesystemLabel,
    /// The PARTUUID after `root=PARTUUID=` of a boot entry: 36 characters.
    RootPartuuid,
    /// The two sectors for extlinux's boot-once label. The machine writes to them; the image sets
    /// nothing there.
    BootOnce,
}

impl SlotFieldKind {
    /// The length of a field of this kind.
    pub fn length_bytes(self) -> u64 {
        match self {
            SlotFieldKind::FilesystemUuid | SlotFieldKind::FilesystemLabel => 16,
            SlotFieldKind::RootPartuuid => 36,
            SlotFieldKind::BootOnce => 1024,
        }
    }
}

impl Description for Host {
    const KIND: Kind = Kind::Host;

    fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!("name: {NAME_RULE}"));
        }
        check_count(self.version, "versions").map_err(|message| format!("version: {message}"))?;
        check_bytes(self.size_bytes, "an empty image is no root")
            .map_err(|message| format!("size_bytes: {message}"))?;
        if self.slot_fields.len() > SLOT_FIELDS_MAX {
            return Err(format!("slot_fields: more than {SLOT_FIELDS_MAX}"));
        }
        let mut fields = self.slot_fields.clone();
        fields.sort_by_key(|field| field.offset_bytes);
        let mut free = 0; // the first offset after the last field
        for SlotField {
            offset_bytes,
            length_bytes,
            kind,
        } in fields
        {
            let wrong = |what: &str| Err(format!("slot_fields: the one at {offset_bytes} {what}"));
            if length_bytes != kind.length_bytes() {
                return wrong("is not as long as its kind is");
            }
            if offset_bytes < free {
                return wrong("begins within another");
            }
            match offset_bytes
                .checked_add(length_bytes)
                .filter(|end| *end <= self.size_bytes)
            {
                Some(end) => free = end,
                None => return wrong("is not in the image"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Hex, parse};
    use jsonpipe::Exit;
    use proptest::prelude::*;

    fn host() -> Host {
        Host {
            name: "lab".into(),
            version: 8,
            size_bytes: 25_165_824,
            sha256: Hex([0xab; 32]),
            models: vec!["OptiPlex 7010".into()],
            slot_fields: vec![
                SlotField {
                    offset_bytes: 1128,
                    length_bytes: 16,
                    kind: SlotFieldKind::FilesystemUuid,
                },
                SlotField {
                    offset_bytes: 90_000,
                    length_bytes: 36,
                    kind: SlotFieldKind::RootPartuuid,
                },
                SlotField {
                    offset_bytes: 1144,
                    length_bytes: 16,
                    kind: SlotFieldKind::FilesystemLabel,
                },
                SlotField {
                    offset_bytes: 40_960,
                    length_bytes: 1024,
                    kind: SlotFieldKind::BootOnce,
                },
            ],
            created_at: "2026-11-23T00:00:00Z".into(),
        }
    }

    fn read(text: &str) -> Result<Host, String> {
        parse(text.as_bytes()).map_err(|error| {
            assert_eq!(Exit::of(&error), Exit::Data);
            format!("{error:#}")
        })
    }

    #[test]
    fn its_bytes_are_pinned() {
        let text = String::from_utf8(host().to_bytes().unwrap()).unwrap();
        let expected = format!(
            concat!(
                r#"{{"schema":1,"kind":"host","name":"lab","version":8,"size_bytes":25165824,"sha256":"{}","#,
                r#""models":["OptiPlex 7010"],"slot_fields":["#,
                r#"{{"offset_bytes":1128,"length_bytes":16,"kind":"filesystem_uuid"}},"#,
                r#"{{"offset_bytes":90000,"length_bytes":36,"kind":"root_partuuid"}},"#,
                r#"{{"offset_bytes":1144,"length_bytes":16,"kind":"filesystem_label"}},"#,
                r#"{{"offset_bytes":40960,"length_bytes":1024,"kind":"boot_once"}}],"created_at":"2026-11-23T00:00:00Z"}}"#,
                "\n"
            ),
            "ab".repeat(32),
        );
        assert_eq!(text, expected);
        assert_eq!(read(&text).unwrap(), host());
        // Keys added by a newer release are ignored.
        assert_eq!(
            read(&text.replacen('{', r#"{"title":"Lab","#, 1)).unwrap(),
            host()
        );
    }

    #[test]
    fn host_refuses_impossible_values() {
        let text = String::from_utf8(host().to_bytes().unwrap()).unwrap();
        for (from, to, message) in [
            ("\"kind\":\"host\"", "\"kind\":\"base\"", "kind: it describes a base, not a host".to_owned()),
            ("\"name\":\"lab\"", "\"name\":\"../lab\"", format!("name: {NAME_RULE}")),
            ("\"version\":8", "\"version\":0", "version: 0; versions count from 1".into()),
            (
                "\"version\":8",
                "\"version\":9007199254740993",
                "version: more than 9007199254740991, the largest number that every reader of JSON keeps".into(),
            ),
            ("25165824", "9007199254740992", "size_bytes: more than 9007199254740991 bytes".into()),
            ("25165824", "0", "size_bytes: an empty image is no root".into()),
            ("25165824", "90035", "slot_fields: the one at 90000 is not in the image".into()),
            ("1144", "1143", "slot_fields: the one at 1143 begins within another".into()),
            ("1144", "1128", "slot_fields: the one at 1128 begins within another".into()),
            ("1144", "18446744073709551615", "slot_fields: the one at 18446744073709551615 is not in the image".into()),
            ("\"length_bytes\":36", "\"length_bytes\":37", "slot_fields: the one at 90000 is not as long as its kind is".into()),
            (
                "\"length_bytes\":1024",
                "\"length_bytes\":18446744073709551615",
                "slot_fields: the one at 40960 is not as long as its kind is".into(),
            ),
        ] {
            assert_eq!(read(&text.replacen(from, to, 1)).unwrap_err(), format!("reading the manifest: {message}"));
        }
        for (from, to) in [
            ("filesystem_uuid", "kernel"),
            ("1128", "-1"),
            ("1128", "1128.0"),
            (",\"slot_fields\":[", ",\"x\":["),
        ] {
            assert!(read(&text.replacen(from, to, 1)).is_err(), "{from} {to}");
        }
        let many = |count: u64| {
            let field = |nth| SlotField {
                offset_bytes: 36 * nth,
                length_bytes: 36,
                kind: SlotFieldKind::RootPartuuid,
            };
            Host {
                slot_fields: (0..count).map(field).collect(),
                ..host()
            }
            .to_bytes()
        };
        assert!(many(64).is_ok() && many(65).is_err());
    }

    proptest! {
        /// Accepted fields can be patched: they do not overlap, and lie within the image.
        #[test]
        fn fields_that_are_accepted_are_apart_and_within(
            fields in proptest::collection::vec((prop_oneof![0u64..5000, any::<u64>()], 0usize..4, prop_oneof![Just(None), any::<u64>().prop_map(Some)]), 0..6),
            size_bytes in 1u64..6000,
        ) {
            let kinds =
                [SlotFieldKind::FilesystemUuid, SlotFieldKind::FilesystemLabel, SlotFieldKind::RootPartuuid, SlotFieldKind::BootOnce];
            let field = |&(offset_bytes, kind, length): &(u64, usize, Option<u64>)| {
                let kind: SlotFieldKind = kinds[kind];
                SlotField { offset_bytes, length_bytes: length.unwrap_or(kind.length_bytes()), kind }
            };
            let host = Host { size_bytes, slot_fields: fields.iter().map(field).collect(), ..host() };
            let mut used = vec![0u8; size_bytes as usize];
            let mut fits = true;
            for field in &host.slot_fields {
                fits &= field.length_bytes == field.kind.length_bytes();
                let end = field.offset_bytes.saturating_add(field.length_bytes) as usize;
                match used.get_mut(field.offset_bytes as usize..end) {
                    Some(bytes) => bytes.iter_mut().for_each(|byte| *byte += 1),
                    None => fits = false,
                }
            }
            fits &= used.iter().all(|count| *count <= 1);
            prop_assert_eq!(host.check().is_ok(), fits);
        }
    }
}
