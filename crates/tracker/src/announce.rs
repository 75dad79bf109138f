//! The query of an announce (BEP 3), which may come from any sender.

use manifest::InfoHash;
use swarm::Progress;

/// The maximum number of peers in an answer.
pub const TOLD_MAX: usize = 50;

/// A valid announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub infohash: InfoHash,
    /// The client's listening port, which is neither 0 nor privileged.
    pub port: u16,
    /// The bytes that it still lacks.
    pub left: u64,
    /// The bytes that it received since it started.
    pub downloaded: u64,
    /// The bytes that it sent since it started.
    pub uploaded: u64,
    /// The event.
    pub event: Event,
    /// The number of peers it wants, at most [`TOLD_MAX`].
    pub wanted: usize,
}

/// The event of an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// None: the client is still there.
    None,
    /// The client begins.
    Started,
    /// The client has everything, and did not when it began.
    Completed,
    /// The client leaves.
    Stopped,
}

impl Announce {
    /// Parses a query, the part after the `?`. The error names the invalid key in one line, without
    /// its value.
    ///
    /// `ip` is ignored, so that no host can announce another one. Also ignored are `compact` (BEP
    /// 23 leaves the form to the tracker, and every current client reads the compact one), `key`,
    /// `peer_id` and unknown keys.
    pub fn parse(query: &str) -> Result<Announce, &'static str> {
        let (mut infohash, mut port, mut left, mut downloaded, mut uploaded) =
            (None, None, None, None, None);
        let (mut event, mut wanted) = (None, None);
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "info_hash" => once(
                    &mut infohash,
                    decode(value),
                    "info_hash: not 20 bytes, or not once",
                )?,
                "port" => once(&mut port, number(value), "port: not a number, or not once")?,
                "left" => once(
                    &mut left,
                    number(value),
                    "left: not a number of bytes, or not once",
                )?,
                // Optional values may be empty, as some clients write them.
                "downloaded" | "uploaded" | "numwant" if value.is_empty() => {}
                "downloaded" => once(
                    &mut downloaded,
                    number(value),
                    "downloaded: not a number of bytes, or not once",
                )?,
                "uploaded" => once(
                    &mut uploaded,
                    number(value),
                    "uploaded: not a number of bytes, or not once",
                )?,
                "event" => once(
                    &mut event,
                    Event::parse(value),
                    "event: not one of BEP 3 or 21, or not once",
                )?,
                "numwant" => once(
                    &mut wanted,
                    wish(value),
                    "numwant: not a number, or not once",
                )?,
                _ => {}
            }
        }
        Ok(Announce {
            port: unprivileged(port.ok_or("port: missing")?)?,
            infohash: infohash.map(manifest::Hex).ok_or("info_hash: missing")?,
            left: left.ok_or("left: missing")?,
            downloaded: downloaded.unwrap_or(0),
            uploaded: uploaded.unwrap_or(0),
            event: event.unwrap_or(Event::None),
            wanted: wanted.unwrap_or(TOLD_MAX),
        })
    }
}

/// The query of `/building`: the torrent, in hexadecimal digits, and optionally the progress of the
/// asking host.
pub fn parse_building(query: &str) -> Result<(InfoHash, Option<Progress>), &'static str> {
    let (mut infohash, mut port, mut left) = (None, None, None);
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("info_hash", value) => once(
                &mut infohash,
                InfoHash::parse(value),
                "expected info_hash= and 40 digits 0-9 and a-f, once",
            )?,
            ("port", value) => once(&mut port, number(value), "port: not a number, or not once")?,
            ("left", value) => once(
                &mut left,
                number(value),
                "left: not a number of bytes, or not once",
            )?,
            _ => {}
        }
    }
    let infohash = infohash.ok_or("expected info_hash= and 40 digits 0-9 and a-f, once")?;
    let progress = match (port, left) {
        (Some(port), Some(left)) => Some(Progress {
            port: unprivileged(port)?,
            left,
        }),
        _ => None,
    };
    Ok((infohash, progress))
}

/// The query of `/scrape`: the torrents (BEP 48).
pub fn parse_scrape(query: &str) -> Result<Vec<InfoHash>, &'static str> {
    let asked = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("info_hash="));
    let asked: Option<Vec<InfoHash>> = asked
        .map(|value| decode(value).map(manifest::Hex))
        .collect();
    match asked {
        Some(asked) if !asked.is_empty() => Ok(asked),
        Some(_) => Err("info_hash: missing"),
        None => Err("info_hash: not 20 bytes"),
    }
}

impl Event {
    /// The event as a word, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::None => "is there",
            Event::Started => "starts",
            Event::Completed => "is complete",
            Event::Stopped => "stops",
        }
    }

    fn parse(text: &str) -> Option<Event> {
        match text {
            // A client that wants no more of the files (BEP 21); our torrents have only one.
            "" | "empty" | "paused" => Some(Event::None),
            "started" => Some(Event::Started),
            "completed" => Some(Event::Completed),
            "stopped" => Some(Event::Stopped),
            _ => None,
        }
    }
}

/// Fills an empty slot with a valid value.
fn once<T>(
    slot: &mut Option<T>,
    value: Option<T>,
    message: &'static str,
) -> Result<(), &'static str> {
    match (&slot, value) {
        (None, Some(value)) => *slot = Some(value),
        _ => return Err(message),
    }
    Ok(())
}

/// Digits only: no sign, and at most 63 bits, so that a sum of a few does not overflow.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && *number <= i64::MAX as u64)
}

/// A negative `numwant` leaves the number to us, as in older clients; so does one that overflows.
fn wish(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(
        text.parse()
            .map_or(TOLD_MAX, |wanted: usize| wanted.min(TOLD_MAX)),
    )
}

/// A port on which a client can listen without root.
fn unprivileged(port: u64) -> Result<u16, &'static str> {
    let port = u16::try_from(port).map_err(|_| "port: above 65535")?;
    if port < 1024 {
        Err("port: 0, or a privileged one")
    } else {
        Ok(port)
    }
}

/// Exactly N bytes, percent-encoded or literal (RFC 3986).
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut decoded = [0; N];
    let mut bytes = text.bytes();
    for slot in &mut decoded {
        *slot = match bytes.next()? {
            b'%' => {
                let mut digit = || {
                    char::from(bytes.next()?)
                        .to_digit(16)
                        .map(|digit| digit as u8)
                };
                digit()? << 4 | digit()?
            }
            byte => byte,
        };
    }
    bytes.next().is_none().then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "%00%01%02%03%04%05%06%07%08%09abcdefgh~%FF";

    fn parse(rest: &str) -> Result<Announce, &'static str> {
        Announce::parse(&format!("info_hash={HASH}&{rest}"))
    }

    #[test]
    fn announces_of_aria2_are_read() {
        let said = parse(
            "peer_id=A2-1-36-0-%F7%80&uploaded=7&downloaded=8&left=9&compact=1&key=abc&numwant=50&no_peer_id=1&port=6881\
             &event=started&supportcrypto=1",
        );
        let infohash = manifest::Hex(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09abcdefgh~\xff");
        let expected = Announce {
            infohash,
            port: 6881,
            left: 9,
            downloaded: 8,
            uploaded: 7,
            event: Event::Started,
            wanted: 50,
        };
        assert_eq!(said, Ok(expected));
    }

    #[test]
    fn announces_may_leave_keys_out() {
        let said = parse("port=1024&left=0").unwrap();
        assert_eq!(
            (said.downloaded, said.uploaded, said.event, said.wanted),
            (0, 0, Event::None, TOLD_MAX)
        );
        let wishes = [
            ("0", 0),
            ("7", 7),
            ("-1", TOLD_MAX),
            ("", TOLD_MAX),
            ("99999999999999999999", TOLD_MAX),
        ];
        for (wish, wanted) in wishes {
            assert_eq!(
                parse(&format!("port=1024&left=0&numwant={wish}"))
                    .unwrap()
                    .wanted,
                wanted,
                "{wish}"
            );
        }
        let said = parse("port=1024&left=7&downloaded=&uploaded=&event=paused&numwant=").unwrap();
        assert_eq!(
            (said.left, said.downloaded, said.uploaded, said.event),
            (7, 0, 0, Event::None)
        );
    }

    #[test]
    fn a_building_is_asked_for_by_a_host_that_may_tell_how_far_it_is() {
        let hash = "61".repeat(20);
        let parse = |rest: &str| {
            parse_building(&format!("info_hash={hash}{rest}")).map(|(_, progress)| progress)
        };
        assert_eq!(parse(""), Ok(None));
        assert_eq!(
            parse("&port=6881&left=7&x=y"),
            Ok(Some(Progress {
                port: 6881,
                left: 7
            }))
        );
        for (rest, key) in [
            ("&port=80&left=7", "port"),
            ("&port=6881&left=-1", "left"),
            ("&info_hash=", "expected info_hash"),
        ] {
            assert!(parse(rest).unwrap_err().starts_with(key), "{rest}");
        }
        assert!(
            parse_building("")
                .unwrap_err()
                .starts_with("expected info_hash")
        );
    }

    #[test]
    fn a_scrape_names_torrents() {
        assert_eq!(
            parse_scrape(&format!("info_hash={HASH}&info_hash={HASH}&x=y"))
                .unwrap()
                .len(),
            2
        );
        assert_eq!(parse_scrape("x=y"), Err("info_hash: missing"));
        assert_eq!(
            parse_scrape("info_hash=abc"),
            Err("info_hash: not 20 bytes")
        );
    }

    #[test]
    fn a_forged_announce_is_refused_by_the_key_that_is_wrong() {
        for (rest, key) in [
            ("port=0&left=1", "port"),
            ("port=22&left=1", "port"),
            ("port=65536&left=1", "port"),
            ("port=-1&left=1", "port"),
            ("port=6881&port=6881&left=1", "port"),
            ("left=1", "port"),
            ("port=6881", "left"),
            ("port=6881&left", "left"),
            ("port=6881&left=-1", "left"),
            ("port=6881&left=+1", "left"),
            ("port=6881&left=1e3", "left"),
            ("port=6881&left=9223372036854775808", "left"),
            ("port=6881&left=99999999999999999999999999", "left"),
            ("port=6881&left=1&downloaded=x", "downloaded"),
            ("port=6881&left=1&uploaded=%31", "uploaded"),
            ("port=6881&left=1&event=gone", "event"),
            ("port=6881&left=1&numwant=many", "numwant"),
            (
                "port=6881&left=1&info_hash=aaaaaaaaaaaaaaaaaaaa",
                "info_hash",
            ),
        ] {
            let message = parse(rest).unwrap_err();
            assert!(message.starts_with(key), "{rest}: {message}");
        }
        for hash in [
            "",
            "abc",
            "aaaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaa%",
            "aaaaaaaaaaaaaaaaaaa%0",
            "aaaaaaaaaaaaaaaaaaa%0g",
        ] {
            let message =
                Announce::parse(&format!("port=6881&left=1&info_hash={hash}")).unwrap_err();
            assert!(message.starts_with("info_hash"), "{hash}: {message}");
        }
        assert_eq!(Announce::parse(""), Err("port: missing"));
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "(info_hash|port|left|event|numwant|[&=%0-9a-f+-]|\\PC){0,60}") {
            let _ = Announce::parse(&query);
        }

        #[test]
        fn any_infohash_comes_through(bytes in any::<[u8; 20]>()) {
            let query = bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
            prop_assert_eq!(parse_hash(&query), Some(bytes));
        }
    }

    fn parse_hash(text: &str) -> Option<[u8; 20]> {
        Announce::parse(&format!("info_hash={text}&port=6881&left=0"))
            .ok()
            .map(|announce| announce.infohash.0)
    }
}
