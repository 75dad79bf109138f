//! A file of CA certificates in PEM, read whole before anything is sent.
//!
//! wpa_supplicant takes what it can read of such a file, or nothing, and says no more than that the
//! login failed.

use base64::prelude::{BASE64_STANDARD, Engine};
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_PKCS1_RSASSAPSS;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

/// The labels of a certificate that OpenSSL reads; in the last, what it is trusted for follows the
/// certificate.
const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", TRUSTED];
const TRUSTED: &str = "TRUSTED CERTIFICATE";

/// A certificate of a CA.
#[derive(Debug)]
pub struct CaCertificate {
    /// Whose it is, in the manner of `CN=Uni A, O=Uni A`; fit to be shown.
    pub subject: String,
    /// Until when it is good, in seconds since 1970.
    pub not_after: i64,
}

/// Reads the certificates of a file, after checking that every block (RFC 7468) is all there, that
/// every certificate is one, and that there is one. What is between the blocks is for people, in
/// whatever encoding.
///
/// OpenSSL takes no certificate of a file in which one block is wrong, whatever is in it.
pub fn check(file: &[u8]) -> Result<Vec<CaCertificate>, String> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut certificates = Vec::new();
    let mut open: Option<(String, Vec<u8>)> = None;
    for line in file
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end)
    {
        let marks = |word: &str| {
            let label = line
                .strip_prefix(b"-----")?
                .strip_prefix(word.as_bytes())?
                .strip_suffix(b"-----")?;
            (!label.contains(&b'-')).then(|| String::from_utf8_lossy(label).into_owned())
        };
        match (&mut open, marks("BEGIN "), marks("END ")) {
            (None, Some(label), _) => open = Some((label, Vec::new())),
            (None, None, Some(label)) => {
                return Err(format!("a block {label} that ends and never began"));
            }
            (None, None, None) => {}
            (Some((label, body)), None, Some(end)) if *label == end => {
                if body.contains(&b'\n') && !body.contains(&b':') {
                    return Err(format!("a block {label} with an empty line"));
                }
                if LABELS.contains(&label.as_str()) {
                    let number = certificates.len() + 1;
                    certificates.push(
                        certificate(body, label == TRUSTED)
                            .map_err(|why| format!("certificate {number}: {why}"))?,
                    );
                } else {
                    other(label, body).map_err(|why| format!("a block {label}: {why}"))?;
                }
                open = None;
            }
            (Some((label, _)), Some(_), _) | (Some((label, _)), _, Some(_)) => {
                return Err(format!("a block {label} that is torn"));
            }
            // Kept, for before it OpenSSL sees a header, which only a key has.
            (Some((_, body)), None, None) if line.is_empty() && !body.is_empty() => {
                body.push(b'\n')
            }
            (Some((_, body)), None, None) => {
                body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()))
            }
        }
    }
    match open {
        Some((label, _)) => Err(format!("a block {label} that is torn")),
        None if !certificates.is_empty() => {
            let certificates: Vec<_> = certificates
                .iter()
                .filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1))
                .collect();
            signatures(&certificates)?;
            Ok(certificates.iter().map(CaCertificate::of).collect())
        }
        None if file.first() == Some(&0x30) => {
            Err("PEM is wanted, and this looks like DER; convert it: openssl x509 -inform DER -in FILE -out FILE.pem".into())
        }
        None => Err("it holds no certificate in PEM".into()),
    }
}

impl CaCertificate {
    fn of(certificate: &X509Certificate<'_>) -> CaCertificate {
        CaCertificate {
            subject: jsonpipe::shown(&certificate.subject().to_string()).into_owned(),
            not_after: certificate.validity().not_after.timestamp(),
        }
    }
}

/// The DER of one certificate in base64.
fn certificate(base64: &[u8], trusted: bool) -> Result<Vec<u8>, String> {
    let mut der = BASE64_STANDARD
        .decode(base64)
        .map_err(|_| "not whole, or damaged: not Base64")?;
    let (rest, certificate) =
        X509Certificate::from_der(&der).map_err(|_| "not whole, or damaged")?;
    // What OpenSSL trusts it for is one more sequence, of less than 128 bytes.
    let trust = trusted
        && matches!(rest, [0x30, length, trust @ ..] if usize::from(*length) == trust.len());
    if !rest.is_empty() && !trust {
        return Err("something follows it in its block".into());
    }
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Err("damaged: it names two algorithms for its signature".into());
    }
    let length = der.len() - rest.len();
    der.truncate(length);
    Ok(der)
}

/// Checks a block that is no certificate, but has OpenSSL refuse the file when it is not what it
/// says.
fn other(label: &str, body: &[u8]) -> Result<(), String> {
    if body.contains(&b':') {
        return Ok(()); // an encrypted key, with its header
    }
    let der = BASE64_STANDARD
        .decode(body)
        .map_err(|_| "not whole, or damaged: not Base64")?;
    let whole = match label {
        "X509 CRL" => CertificateRevocationList::from_der(&der).is_ok(),
        _ if label.ends_with("PRIVATE KEY") && !label.starts_with("ENCRYPTED") => {
            sequence_is_whole(&der)
        }
        _ => !der.is_empty(),
    };
    if whole {
        Ok(())
    } else {
        Err("not whole, or damaged".into())
    }
}

/// Whether DER is one sequence, of the length that it says.
fn sequence_is_whole(der: &[u8]) -> bool {
    match der {
        [0x30, length @ ..=0x7f, content @ ..] => usize::from(*length) == content.len(),
        [0x30, 0x81, length, content @ ..] => usize::from(*length) == content.len(),
        [0x30, 0x82, high, low, content @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])) == content.len()
        }
        _ => false,
    }
}

/// Checks every certificate whose issuer is in the file against it. A root is its own.
fn signatures(certificates: &[X509Certificate<'_>]) -> Result<(), String> {
    for (index, certificate) in certificates.iter().enumerate() {
        let mut issuers = certificates
            .iter()
            .enumerate()
            .filter(|(at, issuer)| is_issuer(issuer, certificate, *at == index))
            .peekable();
        if issuers.peek().is_some()
            && issuers.all(|(_, issuer)| has_not_signed(issuer, certificate))
        {
            return Err(format!(
                "certificate {}: damaged: its signature does not match its content",
                index + 1
            ));
        }
    }
    Ok(())
}

/// Whether a certificate says that the key of another one, or its own, signed it.
fn is_issuer(
    issuer: &X509Certificate<'_>,
    certificate: &X509Certificate<'_>,
    itself: bool,
) -> bool {
    let own = issuer
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
    let issuers =
        certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().map(|id| id.0)
                }
                _ => None,
            });
    let same_name = issuer.subject().as_raw() == certificate.issuer().as_raw();
    match (own, issuers) {
        // The same name with two keys is one key that signed the next; a name that is damaged
        // leaves the id of the key.
        (Some(own), Some(issuers)) => (itself || same_name) && are_alike(own, issuers),
        _ => itself && same_name,
    }
}

/// Whether two ids of keys are one, a byte of which may be damaged: those of two keys have nothing
/// in common.
fn are_alike(one: &[u8], other: &[u8]) -> bool {
    let differing = one
        .iter()
        .zip(other)
        .filter(|(one, other)| one != other)
        .count();
    one.len() == other.len() && differing <= one.len() / 8
}

/// Whether a key did not sign a certificate, and ring can tell: an algorithm that is not known here
/// says nothing.
fn has_not_signed(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    // ring calls other sizes wrong, and of PSS all but one length of the salt.
    let known = certificate.signature_algorithm.algorithm != OID_PKCS1_RSASSAPSS
        && match issuer.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => (2048..=8192).contains(&key.key_size()),
            _ => true,
        };
    known
        && certificate.verify_signature(Some(issuer.public_key()))
            == Err(X509Error::SignatureVerificationError)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See testdata/README.md.
    const CA: &str = include_str!("../../../../testdata/nm-8021x-login/ca.pem");

    fn der() -> Vec<u8> {
        BASE64_STANDARD
            .decode(
                CA.lines()
                    .filter(|line| !line.starts_with('-'))
                    .collect::<String>(),
            )
            .unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> Vec<u8> {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            BASE64_STANDARD.encode(der)
        )
        .into_bytes()
    }

    #[test]
    fn bundles_of_openssl_are_read() {
        let latin_1 = [b"Universit\xe4t\r\n", CA.replace('\n', "\r\n").as_bytes()].concat();
        let key = [
            CA.as_bytes(),
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ]
        .concat();
        let marked = [b"\xef\xbb\xbf", CA.as_bytes()].concat();
        let spaced = CA.replace("\nMII", "\n M I\tI").into_bytes();
        for good in [
            CA.into(),
            CA.repeat(3).into(),
            latin_1,
            key,
            marked,
            spaced,
            pem("X509 CERTIFICATE", &der()),
            pem(TRUSTED, &der()),
        ] {
            assert!(check(&good).is_ok());
        }
        // openssl x509 -addtrust serverAuth
        let trust = [
            0x30, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01,
        ];
        assert!(check(&pem(TRUSTED, &[&der()[..], &trust].concat())).is_ok());
        assert!(check(&pem(LABELS[0], &[&der()[..], &trust].concat())).is_err());
    }

    #[test]
    fn a_file_that_is_not_whole_is_named_for_what_it_lacks() {
        let torn = [CA, &CA[..300]].concat();
        let beside = |label: &str, body: &str| {
            format!("{CA}-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into_bytes()
        };
        let started_anew = [&CA[..300], "\n", CA].concat();
        for (bad, why) in [
            (torn.as_bytes(), "a block CERTIFICATE that is torn"),
            (started_anew.as_bytes(), "a block CERTIFICATE that is torn"),
            (
                CA.replace("-----END CERTIFICATE-----", "").as_bytes(),
                "torn",
            ),
            (&CA.as_bytes()[100..], "never began"),
            (
                &CA.replacen("MII", "M!I", 1).into_bytes(),
                "certificate 1: not whole, or damaged: not Base64",
            ),
            (
                &pem(LABELS[0], &[der(), vec![0]].concat()),
                "something follows it",
            ),
            (&pem(LABELS[0], &der()[..200]), "not whole"),
            (&der(), "PEM is wanted"),
            (
                CA.replace("-----BEGIN", " -----BEGIN").as_bytes(),
                "never began",
            ),
            (CA.replace("-----END", " -----END").as_bytes(), "torn"),
            (
                CA.replace('\n', "\n\n").as_bytes(),
                "a block CERTIFICATE with an empty line",
            ),
            (CA.replace('\n', "").as_bytes(), "no certificate"),
            (&beside("X509 CRL", "AAAA"), "a block X509 CRL: not whole"),
            (
                &beside("EC PRIVATE KEY", "MAMA"),
                "a block EC PRIVATE KEY: not whole",
            ),
            (
                &beside("NOTE", "A!AA"),
                "a block NOTE: not whole, or damaged: not Base64",
            ),
            (&beside("NOTE", ""), "a block NOTE: not whole"),
            (b"", "no certificate"),
            (
                b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
                "no certificate",
            ),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let second = [CA.as_bytes(), &pem(LABELS[0], &der()[..200])].concat();
        assert!(check(&second).unwrap_err().starts_with("certificate 2: "));
    }

    #[test]
    fn ids_of_keys_are_alike_with_a_damaged_byte_only() {
        let id = [7; 20];
        let mut damaged = id;
        damaged[3] = 0;
        assert!(are_alike(&id, &id) && are_alike(&id, &damaged));
        assert!(!are_alike(&id, &[8; 20]) && !are_alike(&id, &id[1..]) && !are_alike(&[1], &[2]));
    }

    #[test]
    fn a_flipped_byte_of_a_root_is_seen() {
        let der = der();
        // One in the algorithm of a key makes another of it, of which nothing is known here; and a
        // tag is not looked at.
        let unknown = [155..178, 333..334];
        let missed = (0..der.len()).filter(|at| {
            let mut flipped = der.clone();
            flipped[*at] ^= 0x01;
            check(&pem(LABELS[0], &flipped)).is_ok()
                && !unknown.iter().any(|range| range.contains(at))
        });
        assert_eq!(missed.collect::<Vec<_>>(), [0usize; 0]);
    }
}
