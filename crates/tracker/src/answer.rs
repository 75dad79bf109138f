//! The answer to a client, bencoded (BEP 3), its peers in compact form (BEP 23; BEP 7 for IPv6).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use manifest::InfoHash;

/// The answer to an announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The time until the client's next announce, which is also the minimum.
    pub interval: Duration,
    /// The number of hosts of its place that have everything.
    pub complete: usize,
    /// The number of hosts that lack something.
    pub incomplete: usize,
    /// The peers that it is introduced to, the most useful first.
    pub peers: Vec<SocketAddr>,
}

impl Answer {
    /// A bencoded dictionary, with sorted keys.
    pub fn encode(&self) -> Vec<u8> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for peer in &self.peers {
            match peer {
                SocketAddr::V4(peer) => {
                    v4.extend(peer.ip().octets());
                    v4.extend(peer.port().to_be_bytes());
                }
                SocketAddr::V6(peer) => {
                    v6.extend(peer.ip().octets());
                    v6.extend(peer.port().to_be_bytes());
                }
            }
        }
        let seconds = self.interval.as_secs();
        let mut answer = format!(
            "d8:completei{}e10:incompletei{}e8:intervali{seconds}e",
            self.complete, self.incomplete
        )
        .into_bytes();
        answer.extend(format!("12:min intervali{seconds}e5:peers{}:", v4.len()).bytes());
        answer.extend(v4);
        if !v6.is_empty() {
            answer.extend(format!("6:peers6{}:", v6.len()).bytes());
            answer.extend(v6);
        }
        answer.push(b'e');
        answer
    }
}

/// The counts of a torrent in the answer to a scrape (BEP 48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scraped {
    /// The number of hosts of the client's place that have everything.
    pub complete: usize,
    /// The number of hosts that lack something.
    pub incomplete: usize,
    /// The number of complete hosts whose completion was observed.
    pub downloaded: usize,
}

/// The answer to a scrape.
pub fn scrape(files: &BTreeMap<InfoHash, Scraped>) -> Vec<u8> {
    let mut answer = b"d5:filesd".to_vec();
    for (
        infohash,
        Scraped {
            complete,
            incomplete,
            downloaded,
        },
    ) in files
    {
        answer.extend(b"20:");
        answer.extend(infohash.0);
        answer.extend(
            format!(
                "d8:completei{complete}e10:downloadedi{downloaded}e10:incompletei{incomplete}ee"
            )
            .bytes(),
        );
    }
    answer.extend(b"ee");
    answer
}

/// The answer to a refused announce.
pub fn failure(reason: &str) -> Vec<u8> {
    format!("d14:failure reason{}:{reason}e", reason.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let peers = ["10.0.3.1:6881", "[2001:db8::1]:258"]
            .map(|peer| peer.parse().unwrap())
            .to_vec();
        let answer = Answer {
            interval: Duration::from_secs(10),
            complete: 1,
            incomplete: 27,
            peers,
        };
        let expected = [
            b"d8:completei1e10:incompletei27e8:intervali10e12:min intervali10e5:peers6:".as_slice(),
            b"\x0a\x00\x03\x01\x1a\xe1",
            b"6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02e",
        ]
        .concat();
        assert_eq!(answer.encode(), expected);
        assert_eq!(
            Answer::default().encode(),
            b"d8:completei0e10:incompletei0e8:intervali0e12:min intervali0e5:peers0:e"
        );
        assert_eq!(failure("no"), b"d14:failure reason2:noe");
        let scraped = Scraped {
            complete: 1,
            incomplete: 27,
            downloaded: 0,
        };
        let expected =
            b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi0e10:incompletei27eeee";
        assert_eq!(
            scrape(&BTreeMap::from([(manifest::Hex([b'a'; 20]), scraped)])),
            expected
        );
        assert_eq!(scrape(&BTreeMap::new()), b"d5:filesdee");
    }
}
