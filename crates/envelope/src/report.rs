//! A report in the spool, on the network and at the collector: two lines of JSON, then the payload.
//!
//! ```text
//! {"host":"5f0c…","sequence":1790000017,"sha256":"…","signature":"…"}
//! {"schema":1,"kind":"snapshot","at":"2026-11-23T04:08:18Z","dropped_reports":0,"dropped":[],"read":{…}}
//! {"host":{…}}
//! ```
//!
//! The digest covers everything after the first line, and the signature (ed25519, RFC 8032, in
//! base64) covers `labtools report 1\nHOST\nSEQUENCE\nSHA256\n`: a report cannot be given another
//! host or another place in the order. Every report repeats what must be known of earlier ones, so
//! that the newest one shows where to continue, even if the others are lost.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::key::Key;

/// The kind of a report, which determines how it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The document of `collect`.
    Snapshot,
    /// Lines of `changes`.
    Events,
    /// Lines of the access register.
    Register,
    /// The inventory for GLPI.
    Glpi,
    /// The text of the thesis's script (Figure 28).
    Text,
}

impl Kind {
    /// The name in file names and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Snapshot => "snapshot",
            Kind::Events => "events",
            Kind::Register => "register",
            Kind::Glpi => "glpi",
            Kind::Text => "text",
        }
    }

    /// Parses such a name.
    pub fn parse(name: &str) -> Option<Kind> {
        [
            Kind::Snapshot,
            Kind::Events,
            Kind::Register,
            Kind::Glpi,
            Kind::Text,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == name)
    }

    /// Whether a later report replaces it; events are unique.
    pub fn is_snapshot(self) -> bool {
        !matches!(self, Kind::Events | Kind::Register)
    }
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Seal {
    /// The host: `host.id`.
    pub host: String,
    /// Its place in the order. The first one of a spool is random, below 900 000 000 000, so that a
    /// reinstalled machine does not repeat an id, whatever its clock shows; each further one is one
    /// more.
    pub sequence: u64,
    /// SHA-256 of everything after this line, in hexadecimal.
    pub sha256: String,
    /// The signature with the host's key. Absent in reports to servers that do not need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The second line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Header {
    /// 1.
    pub schema: u64,
    /// The kind of the payload.
    pub kind: Kind,
    /// The time it was made, by the machine's clock, RFC 3339.
    pub at: String,
    /// The number of reports dropped since the spool was created, to make room in it.
    pub dropped_reports: u64,
    /// The sequence numbers of the reports dropped for this one.
    pub dropped: Vec<u64>,
    /// The positions up to which the logs were read, by kind.
    pub read: BTreeMap<String, Cursor>,
}

/// A position in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Cursor {
    /// The file: after a rotation, the name belongs to another file.
    pub inode: u64,
    /// The offset in the file.
    pub offset: u64,
}

/// A report whose digest is right.
#[derive(Clone, Debug)]
pub struct Opened<'a> {
    /// The first line.
    pub seal: Seal,
    /// The second line.
    pub header: Header,
    /// The payload.
    pub payload: &'a [u8],
}

/// The identity of a machine: a UUID that the installer writes.
pub const HOST_ID: &str = "/persistent/inventory/uuid";

/// The content of [`HOST_ID`], if it can be a host's name in URLs, file names and a certificate. The
/// error describes the fault.
pub fn host_id(text: &str) -> Result<&str, &'static str> {
    let id = text.trim();
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    if id.len() != 36 || !id.bytes().enumerate().all(fits) {
        return Err("not a UUID in lower case; uuidgen makes one");
    }
    // The nil UUID (RFC 9562), and any other with one repeated digit, identifies no machine.
    let digits: Vec<u8> = id.bytes().filter(|byte| *byte != b'-').collect();
    if digits.iter().all(|digit| *digit == digits[0]) {
        return Err("a UUID of one digit, which identifies no machine; uuidgen makes one");
    }
    Ok(id)
}

/// Makes a report.
pub fn seal(
    host: &str,
    sequence: u64,
    header: &Header,
    payload: &[u8],
    key: Option<&Key>,
) -> anyhow::Result<Vec<u8>> {
    let mut rest = serde_json::to_vec(header)?;
    rest.push(b'\n');
    rest.extend_from_slice(payload);
    let sha256 = hex(&Sha256::digest(&rest));
    let signature = key.map(|key| key.sign(&signed(host, sequence, &sha256)));
    let seal = Seal {
        host: host.to_owned(),
        sequence,
        sha256,
        signature,
    };
    let mut report = serde_json::to_vec(&seal)?;
    report.push(b'\n');
    report.append(&mut rest);
    Ok(report)
}

/// Parses a report and checks its digest; the error describes the fault. Its signature is checked
/// by [`Seal::is_signed_by`].
pub fn open(report: &[u8]) -> Result<Opened<'_>, String> {
    let (first, rest) = line(report).ok_or("it ends within its first line")?;
    let seal: Seal =
        serde_json::from_slice(first).map_err(|_| "its first line is not that of a report")?;
    if hex(&Sha256::digest(rest)) != seal.sha256 {
        return Err(
            "its digest is not the one in its first line: it was cut off, or changed".into(),
        );
    }
    let (second, payload) = line(rest).ok_or("it ends within its second line")?;
    let header: Header =
        serde_json::from_slice(second).map_err(|_| "its second line is not that of a report")?;
    Ok(Opened {
        seal,
        header,
        payload,
    })
}

impl Seal {
    /// Whether this key signed it. Weak keys and signatures that are not canonical are refused.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let signature = self
            .signature
            .as_ref()
            .and_then(|text| BASE64_STANDARD.decode(text).ok());
        let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| {
            key.verify_strict(
                signed(&self.host, self.sequence, &self.sha256).as_bytes(),
                &signature,
            )
            .is_ok()
        })
    }
}

/// The signed text.
fn signed(host: &str, sequence: u64, sha256: &str) -> String {
    format!("labtools report 1\n{host}\n{sequence}\n{sha256}\n")
}

fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    Some((&text[..end], &text[end + 1..]))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::pkcs8::DecodePublicKey;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    // openssl genpkey -algorithm ed25519; openssl pkey -pubout
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOPGIgMnOMEM+GicWFVfPQckIFh2A4aNE0yWA1EMATg2\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEABJ3i3t/qlVvom15F1jcfwZCFyXMzDFq1AqZFg9MtDLk=\n-----END PUBLIC KEY-----\n";
    // (echo HEADER; echo '{}') | sha256sum; printf 'labtools report 1\nh1\n7\n%s\n' SHA256 |
    // openssl pkeyutl -sign -rawin -inkey … | base64
    const HEADER: &str = r#"{"schema":1,"kind":"events","at":"2026-11-23T04:08:18Z","dropped_reports":0,"dropped":[],"read":{}}"#;
    const SIGNATURE: &str =
        "NKtmvmRR26vOfbPqyER4COEQqnpb0JeNhQBoodb0NV0kVbGa1T3GpA5lPSe0h3+m1ea3mhkaVVXGVDBLA2VHCQ==";

    fn header() -> Header {
        serde_json::from_str(HEADER).unwrap()
    }

    fn key() -> Key {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host.key");
        fs::write(&path, PRIVATE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        Key::read(&path).unwrap()
    }

    #[test]
    fn openssl_agrees() {
        let report = seal("h1", 7, &header(), b"{}\n", Some(&key())).unwrap();
        let opened = open(&report).unwrap();
        assert_eq!(opened.payload, b"{}\n");
        assert_eq!(opened.header, header());
        assert_eq!(
            opened.seal.signature.as_deref(),
            Some(SIGNATURE),
            "{}",
            opened.seal.sha256
        );
        let public = VerifyingKey::from_public_key_pem(PUBLIC).unwrap();
        assert!(opened.seal.is_signed_by(&public));
        let others = [
            Seal {
                host: "h2".into(),
                ..opened.seal.clone()
            },
            Seal {
                sequence: 8,
                ..opened.seal.clone()
            },
            Seal {
                sha256: "00".into(),
                ..opened.seal.clone()
            },
            Seal {
                signature: None,
                ..opened.seal.clone()
            },
            Seal {
                signature: Some("AA==".into()),
                ..opened.seal
            },
        ];
        assert!(others.iter().all(|seal| !seal.is_signed_by(&public)));
    }

    #[test]
    fn damaged_reports_are_not_opened() {
        let report = seal("h1", 7, &header(), b"payload", None).unwrap();
        for length in 0..report.len() {
            assert!(open(&report[..length]).is_err(), "{length}");
        }
        for at in report.iter().position(|byte| *byte == b'\n').unwrap() + 1..report.len() {
            let mut changed = report.clone();
            changed[at] ^= 1;
            assert!(open(&changed).is_err(), "{at}");
        }
    }
}
