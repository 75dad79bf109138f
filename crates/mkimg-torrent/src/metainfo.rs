//! Torrents: metainfo files, version 1 (BEP 3), private (BEP 27), with tiers of trackers (BEP 12).
//! The only user of lava_torrent.
//!
//! Its builder is not used: it would read the file again, on all processors, and skips hidden
//! files. Nor is its parser of torrents, which takes digests that happen to be UTF-8 for text, and
//! refuses them. Only its bencode is used.

use std::collections::HashMap;

use jsonpipe::{Exit, ExitContext};
use lava_torrent::bencode::BencodeElem;
use lava_torrent::torrent::v1::Torrent;
use manifest::{Hex, InfoHash};
use sha1::{Digest, Sha1};

use crate::pieces::Piece;

/// The content of a torrent. Equal contents give equal bytes: it has no date and no program name.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The name of the file for clients.
    pub name: &'a str,
    /// The length of the file.
    pub size_bytes: u64,
    /// The length of a piece.
    pub piece_bytes: u64,
    /// Their digests.
    pub pieces: &'a [Piece],
    /// A value that changes the infohash.
    pub source: Option<&'a str>,
    /// The announce URLs, each in its own tier, the first choice first.
    pub trackers: &'a [String],
    /// A comment line.
    pub comment: Option<&'a str>,
}

impl Contents<'_> {
    /// The bytes of the torrent, and its infohash.
    pub fn encode(&self) -> anyhow::Result<(Vec<u8>, InfoHash)> {
        let integer = |bytes: u64| {
            i64::try_from(bytes).exit(Exit::Data, || "making the torrent: a file of 8 EiB or more")
        };
        let mut info = HashMap::from([("private".to_owned(), BencodeElem::Integer(1))]);
        info.extend(
            self.source
                .map(|source| ("source".to_owned(), source.into())),
        );
        let torrent = Torrent {
            announce: self.trackers.first().cloned(),
            announce_list: (self.trackers.len() > 1)
                .then(|| self.trackers.iter().map(|url| vec![url.clone()]).collect()),
            length: integer(self.size_bytes)?,
            files: None,
            name: self.name.to_owned(),
            piece_length: integer(self.piece_bytes)?,
            pieces: self.pieces.iter().map(|piece| piece.to_vec()).collect(),
            extra_fields: self
                .comment
                .map(|comment| HashMap::from([("comment".to_owned(), comment.into())])),
            extra_info_fields: Some(info),
        };
        let infohash = Hex(Sha1::digest(torrent.construct_info().encode()).into());
        Ok((
            torrent
                .encode()
                .exit(Exit::Software, || "making the torrent")?,
            infohash,
        ))
    }
}

/// A torrent of one file, from an untrusted source. The infohash shows whether it is the right one.
#[derive(Debug, PartialEq, Eq)]
pub struct Metainfo {
    /// SHA-1 of its info dictionary.
    pub infohash: InfoHash,
    /// Whether its peers come from its trackers only.
    pub private: bool,
    /// The keys that name other sources, which no infohash covers.
    pub other_sources: Vec<&'static str>,
    /// The length of the file.
    pub size_bytes: u64,
    /// The length of a piece.
    pub piece_bytes: u64,
    /// Their digests.
    pub pieces: Vec<Piece>,
}

/// Web seeds (BEP 17 and 19) and nodes of the DHT (BEP 5).
const OTHER_SOURCES: [&str; 3] = ["httpseeds", "nodes", "url-list"];

/// Our torrents are three levels deep and have some dozen values. Larger ones are not parsed,
/// because the parser is recursive.
const MAX_DEPTH: usize = 8;
const MAX_VALUES: usize = 10_000;

impl Metainfo {
    /// Parses a torrent, which must be canonical bencode, so that all parsers read the same.
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, String> {
        if !is_modest(bytes) {
            return Err("not bencode, or deeper and longer than a torrent of one file".into());
        }
        let mut values = BencodeElem::from_bytes(bytes).map_err(|error| error.to_string())?;
        let (Some(whole), true) = (values.pop(), values.is_empty()) else {
            return Err("not one dictionary".into());
        };
        if whole.encode() != bytes {
            return Err("not in canonical bencode".into());
        }
        let BencodeElem::Dictionary(whole) = whole else {
            return Err("not a dictionary".into());
        };
        let Some(info @ BencodeElem::Dictionary(table)) = whole.get("info") else {
            return Err("no info dictionary".into());
        };
        let number = |key: &str| match table.get(key) {
            Some(BencodeElem::Integer(value)) => {
                u64::try_from(*value).ok().filter(|value| *value > 0)
            }
            _ => None,
        };
        let (Some(size_bytes), Some(piece_bytes)) = (number("length"), number("piece length"))
        else {
            return Err("not of one file with a length".into());
        };
        let digests = match table.get("pieces") {
            Some(BencodeElem::Bytes(digests)) => digests.as_slice(),
            Some(BencodeElem::String(digests)) => digests.as_bytes(),
            _ => return Err("no pieces".into()),
        };
        let (pieces, []) = digests.as_chunks() else {
            return Err("half a digest among its pieces".into());
        };
        if pieces.len() as u64 != size_bytes.div_ceil(piece_bytes) {
            return Err("not as many pieces as its length calls for".into());
        }
        Ok(Metainfo {
            infohash: Hex(Sha1::digest(info.encode()).into()),
            private: table.get("private") == Some(&BencodeElem::Integer(1)),
            other_sources: OTHER_SOURCES
                .into_iter()
                .filter(|key| whole.contains_key(*key))
                .collect(),
            size_bytes,
            piece_bytes,
            pieces: pieces.to_vec(),
        })
    }
}

/// Whether bencode is no deeper and has no more values than a torrent needs.
fn is_modest(mut bytes: &[u8]) -> bool {
    let mut depth = 0usize;
    for _ in 0..MAX_VALUES {
        let Some(first) = bytes.first() else {
            return depth == 0;
        };
        let after = |end: u8| {
            bytes
                .iter()
                .position(|byte| *byte == end)
                .map(|at| (&bytes[..at], &bytes[at + 1..]))
        };
        match first {
            b'd' | b'l' if depth < MAX_DEPTH => (depth, bytes) = (depth + 1, &bytes[1..]),
            b'e' if depth > 0 => (depth, bytes) = (depth - 1, &bytes[1..]),
            b'i' => match after(b'e') {
                Some((_, rest)) => bytes = rest,
                None => return false,
            },
            b'0'..=b'9' => {
                let Some((digits, rest)) = after(b':') else {
                    return false;
                };
                let length = str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse::<usize>().ok());
                match length.and_then(|length| rest.get(length..)) {
                    Some(rest) => bytes = rest,
                    None => return false,
                }
            }
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACKERS: [&str; 2] = [
        "http://a.example:6969/announce",
        "http://b.example:6969/announce",
    ];

    fn encoded(trackers: &[&str], pieces: &[Piece]) -> (Vec<u8>, InfoHash) {
        let trackers: Vec<String> = trackers.iter().map(|&url| url.to_owned()).collect();
        let contents = Contents {
            name: "windows-7.qcow2",
            size_bytes: 65536 * pieces.len() as u64,
            piece_bytes: 65536,
            pieces,
            source: Some("campus"),
            trackers: &trackers,
            comment: Some("by hand"),
        };
        contents.encode().unwrap()
    }

    #[test]
    fn its_bytes_are_pinned() {
        let (bytes, infohash) = encoded(&TRACKERS[..1], &[[b'x'; 20]]);
        let info = "d6:lengthi65536e4:name15:windows-7.qcow212:piece lengthi65536e6:pieces20:xxxxxxxxxxxxxxxxxxxx7:privatei1e6:source6:campuse";
        let expected = format!(
            "d8:announce30:{}7:comment7:by hand4:info{info}e",
            TRACKERS[0]
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(infohash, Hex(Sha1::digest(info).into()));

        let (bytes, same) = encoded(&TRACKERS, &[[b'x'; 20]]);
        let tiers = format!("13:announce-listll30:{}el30:{}ee", TRACKERS[0], TRACKERS[1]);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            expected.replace("7:comment", &format!("{tiers}7:comment"))
        );
        assert_eq!(same, infohash);
    }

    #[test]
    fn made_torrents_are_read() {
        // Digests that are UTF-8 and digests that are not.
        for digest in [[b'x'; 20], [0xff; 20]] {
            let (bytes, infohash) = encoded(&TRACKERS, &[digest, [0; 20]]);
            let expected = Metainfo {
                infohash,
                private: true,
                other_sources: vec![],
                size_bytes: 131_072,
                piece_bytes: 65536,
                pieces: vec![digest, [0; 20]],
            };
            assert_eq!(Metainfo::parse(&bytes), Ok(expected));
        }
    }

    #[test]
    fn a_public_torrent_and_a_web_seed_are_seen() {
        let text = String::from_utf8(encoded(&TRACKERS[..1], &[[b'x'; 20]]).0).unwrap();
        let read =
            |from: &str, to: &str| Metainfo::parse(text.replace(from, to).as_bytes()).unwrap();
        assert!(!read("7:privatei1e", "").private);
        assert!(!read("7:privatei1e", "7:privatei0e").private);
        assert_eq!(
            read("e6:source6:campusee", "e6:source6:campuse8:url-list3:u:/e").other_sources,
            ["url-list"]
        );
    }

    #[test]
    fn bad_torrents_are_refused() {
        let text = String::from_utf8(encoded(&TRACKERS[..1], &[[b'x'; 20]]).0).unwrap();
        for (from, to) in [
            ("d8:announce", "d8:zannounc"),
            ("4:infod", "4:infol"),
            ("6:lengthi65536e", "6:lengthi-1e"),
            ("6:lengthi65536e", "6:lengthi65537e"),
            ("6:lengthi65536e", "6:lengthi065536e"),
            ("6:lengthi65536e", ""),
            ("piece lengthi65536e", "piece lengthi0e"),
            ("piece lengthi65536e", "piece lengthi99999999999999999999e"),
            ("20:xxxxxxxxxxxxxxxxxxxx", "19:xxxxxxxxxxxxxxxxxxx"),
            ("7:privatei1e", "7:privatei1e7:privatei0e"),
            (
                "7:privatei1e6:source6:campus",
                "6:source6:campus7:privatei1e",
            ),
            ("7:comment7:by hand", "7:comment9999:by hand"),
        ] {
            assert!(
                text.contains(from)
                    && Metainfo::parse(text.replacen(from, to, 1).as_bytes()).is_err(),
                "{from} {to}"
            );
        }
        for deep in [
            "l".repeat(1 << 20),
            "d1:a".repeat(1 << 20),
            format!("l{}e", "le".repeat(1 << 20)),
            String::new(),
        ] {
            assert!(Metainfo::parse(deep.as_bytes()).is_err());
        }
        assert!(Metainfo::parse(&[text.as_bytes(), b"i1e"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Metainfo::parse(&bytes);
        }

        #[test]
        fn anything_like_bencode_is_read_or_refused(text in "(d|l|e|i-?[0-9]{0,20}e|[0-9]{1,3}:|4:info|6:length|[a-z]|-){0,40}") {
            let _ = Metainfo::parse(text.as_bytes());
        }

        #[test]
        fn any_mutation_is_read_or_refused(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let (mut bytes, infohash) = encoded(&TRACKERS, &[[0xff; 20]]);
            let before = bytes.clone();
            changes.iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = *byte);
            if let Ok(found) = Metainfo::parse(&bytes) {
                let info = |bytes: &[u8]| bytes[bytes.windows(6).position(|w| w == b"4:info").unwrap()..].to_vec();
                prop_assert!(found.infohash != infohash || info(&bytes) == info(&before));
            }
        }
    }
}
