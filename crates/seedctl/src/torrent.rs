//! A .torrent file from an untrusted source, valid only as far as the signed manifest covers it.
//!
//! The manifest contains the infohash, which is the SHA-1 digest of the file's `info`, byte for
//! byte (BEP 3). The keys beside `info` are not signed: of these only the trackers are used, and a
//! key that would make aria2 fetch from elsewhere is refused.

use jsonpipe::Exit;
use manifest::InfoHash;
use sha1::{Digest, Sha1};
use ureq::http::Uri;

use crate::bencode;

/// mkimg-torrent makes no larger pieces.
const PIECE_MAX_BYTES: u64 = 64 << 20;

/// A torrent of one file that matches the manifest.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// The file's exact bytes.
    pub bytes: Vec<u8>,
    /// Its infohash.
    pub infohash: InfoHash,
    /// The length of its file.
    pub length: u64,
    /// The length of a piece.
    pub piece_length: u64,
    /// The bytes of the file in pieces of zeros.
    pub zero_bytes: u64,
    /// Its trackers, in their order; at least one.
    pub trackers: Vec<Uri>,
}

impl Torrent {
    /// Checks bytes against the manifest's infohash and length. Status 65, with `what` in the
    /// message, when they do not match.
    pub fn check(
        bytes: Vec<u8>,
        infohash: InfoHash,
        length: u64,
        what: &str,
    ) -> anyhow::Result<Torrent> {
        let wrong = |message: &str| Exit::Data.error(format_args!("reading {what}: {message}"));
        let outermost = Dictionary::read(&bytes).map_err(wrong)?;
        let info = outermost
            .get("info")
            .ok_or_else(|| wrong("not a torrent"))?;
        if ["url-list", "httpseeds"]
            .into_iter()
            .any(|key| outermost.get(key).is_some())
        {
            return Err(wrong(
                "it has a web seed, which every host would fetch from past its building",
            ));
        }
        if <[u8; 20]>::from(Sha1::digest(info)) != infohash.0 {
            return Err(wrong("its infohash is not the one in the manifest"));
        }
        let info = Dictionary::read(info).map_err(wrong)?;
        if info.get("files").is_some() {
            return Err(wrong("it has several files"));
        }
        if info.number("private") != Some(1) {
            return Err(wrong(
                "it is public, so its peers would not only come from the tracker; make it with private=1",
            ));
        }
        let found = info
            .number("length")
            .ok_or_else(|| wrong("the length of the file is missing"))?;
        if found != length {
            return Err(wrong(&format!(
                "it describes {found} bytes, the manifest {length}"
            )));
        }
        let piece_length = info.number("piece length").filter(|length| *length > 0);
        let piece_length = piece_length.ok_or_else(|| wrong("the length of a piece is missing"))?;
        let pieces = info
            .get("pieces")
            .and_then(bencode::string)
            .unwrap_or_default();
        if pieces.len() as u64 != length.div_ceil(piece_length).saturating_mul(20) {
            return Err(wrong(
                "the number of piece hashes is not the number of pieces",
            ));
        }
        let zero_bytes = zero_bytes(pieces, length, piece_length);
        let trackers = trackers(&outermost).map_err(wrong)?;
        Ok(Torrent {
            bytes,
            infohash,
            length,
            piece_length,
            zero_bytes,
            trackers,
        })
    }
}

/// The bytes of a file in pieces with the hash of zeros. In a torrent of enormous pieces none are
/// looked for.
fn zero_bytes(pieces: &[u8], length: u64, piece_length: u64) -> u64 {
    if piece_length > PIECE_MAX_BYTES {
        return 0;
    }
    let hash_of = |zeros: u64| -> [u8; 20] { Sha1::digest(vec![0; zeros as usize]).into() };
    let full = hash_of(piece_length);
    let (whole, rest) = (length / piece_length, length % piece_length);
    let (hashes, last) = pieces.split_at(whole as usize * 20);
    let zeros = hashes
        .as_chunks()
        .0
        .iter()
        .filter(|hash| **hash == full)
        .count() as u64
        * piece_length;
    zeros
        + if rest > 0 && last == hash_of(rest) {
            rest
        } else {
            0
        }
}

/// A dictionary with lookup by key.
struct Dictionary<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Dictionary<'a> {
    fn read(bytes: &'a [u8]) -> Result<Dictionary<'a>, &'static str> {
        bencode::dictionary(bytes).map(Dictionary)
    }

    fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(found, _)| *found == key.as_bytes())
            .map(|(_, value)| *value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(bencode::number)
    }
}

/// The addresses in `announce` and `announce-list` (BEP 12), without duplicates. Plain HTTP only,
/// the protocol of `seedctl track`.
fn trackers(torrent: &Dictionary) -> Result<Vec<Uri>, &'static str> {
    let mut values: Vec<&[u8]> = torrent.get("announce").into_iter().collect();
    for tier in torrent
        .get("announce-list")
        .map(bencode::list)
        .transpose()?
        .unwrap_or_default()
    {
        values.extend(bencode::list(tier)?);
    }
    let mut trackers: Vec<Uri> = Vec::new();
    for value in values {
        let uri = bencode::string(value)
            .and_then(|text| Uri::try_from(text).ok())
            .ok_or("the address of a tracker is invalid")?;
        if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
            return Err("the address of a tracker does not begin with http://");
        }
        if !trackers.contains(&uri) {
            trackers.push(uri);
        }
    }
    if trackers.is_empty() {
        Err("it names no tracker")
    } else {
        Ok(trackers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECES: &str = "6:pieces20:aaaaaaaaaaaaaaaaaaaa";

    fn info(length: u64, more: &str) -> String {
        format!("d6:lengthi{length}e4:name1:x12:piece lengthi65536e{PIECES}{more}e")
    }

    fn torrent(before: &str, info: &str, after: &str) -> (Vec<u8>, InfoHash) {
        let infohash = manifest::Hex(Sha1::digest(info).into());
        (
            format!("d8:announce25:http://127.0.0.1/announce{before}4:info{info}{after}e")
                .into_bytes(),
            infohash,
        )
    }

    fn checked(before: &str, info: &str, after: &str) -> Result<Torrent, String> {
        let (bytes, infohash) = torrent(before, info, after);
        Torrent::check(bytes, infohash, 7, "x").map_err(|error| {
            assert_eq!(Exit::of(&error), Exit::Data);
            format!("{error:#}")
        })
    }

    #[test]
    fn a_private_torrent_of_one_file_is_taken() {
        assert_eq!(
            checked("13:announce-listl1:xe", &info(7, "7:privatei1e"), "").unwrap_err(),
            "reading x: not a list"
        );
        let lists = "13:announce-listll11:http://a/anel11:http://b/anee";
        let torrent = checked(lists, &info(7, "7:privatei1e"), "").unwrap();
        let trackers: Vec<String> = torrent.trackers.iter().map(ToString::to_string).collect();
        assert_eq!(
            trackers,
            ["http://127.0.0.1/announce", "http://a/an", "http://b/an"]
        );
        assert_eq!((torrent.length, torrent.piece_length), (7, 65536));
    }

    #[test]
    fn pieces_of_zeros_are_known_by_their_hashes() {
        let hashes =
            |pieces: &[&[u8]]| -> Vec<u8> { pieces.iter().flat_map(Sha1::digest).collect() };
        let pieces = hashes(&[&[0; 4], &[1; 4], &[0; 4], &[0; 3]]);
        assert_eq!(zero_bytes(&pieces, 15, 4), 11);
        assert_eq!(zero_bytes(&pieces[..60], 12, 4), 8);
        assert_eq!(zero_bytes(&pieces[60..], 3, 4), 3);
        assert_eq!(zero_bytes(&pieces[..20], u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn anything_else_is_refused() {
        let private = "7:privatei1e";
        for (before, info, after, message) in [
            (
                "",
                info(7, ""),
                "",
                "it is public, so its peers would not only come from the tracker; make it with private=1",
            ),
            (
                "",
                info(7, "7:privatei0e"),
                "",
                "it is public, so its peers would not only come from the tracker; make it with private=1",
            ),
            (
                "",
                info(8, private),
                "",
                "it describes 8 bytes, the manifest 7",
            ),
            (
                "",
                info(7, private),
                "8:url-list8:http://x",
                "it has a web seed, which every host would fetch from past its building",
            ),
            (
                "9:httpseedsl8:http://xe",
                info(7, private),
                "",
                "it has a web seed, which every host would fetch from past its building",
            ),
            (
                "",
                format!(
                    "d5:filesld6:lengthi7e4:pathl1:yeee4:name1:x12:piece lengthi65536e{PIECES}{private}e"
                ),
                "",
                "it has several files",
            ),
            (
                "13:announce-listll7:udp://aee",
                info(7, private),
                "",
                "the address of a tracker does not begin with http://",
            ),
        ] {
            assert_eq!(
                checked(before, &info, after).unwrap_err(),
                format!("reading x: {message}")
            );
        }
        let (bytes, infohash) = torrent("", &info(7, private), "");
        let refused = |bytes: &[u8], infohash| {
            let error = Torrent::check(bytes.to_vec(), infohash, 7, "x").unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Data);
            format!("{error:#}")
        };
        assert_eq!(
            refused(&bytes, manifest::Hex([0; 20])),
            "reading x: its infohash is not the one in the manifest"
        );
        assert_eq!(
            refused(&bytes[..bytes.len() - 1], infohash),
            "reading x: it ends too early"
        );
        assert_eq!(refused(b"d1:ai1ee", infohash), "reading x: not a torrent");
        let nameless = format!("d4:info{}e", info(7, private));
        assert_eq!(
            refused(nameless.as_bytes(), infohash),
            "reading x: it names no tracker"
        );
    }

    proptest! {
        // The infohash fits any `info`, so the code behind the digest must withstand hostile bytes
        // as well.
        #[test]
        fn any_info_is_read_or_refused(info in "d(6:lengthi-?[0-9]{1,19}e)?(4:name[0-3]:[a/]{0,3})?(12:piece lengthi-?[0-9]{1,19}e)?6:pieces20:aaaaaaaaaaaaaaaaaaaae") {
            let _ = checked("", &info, "");
        }
    }
}
