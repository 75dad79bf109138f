//! A file of CA certificates in PEM, read whole before anything is sent.
//!
//! wpa_supplicant takes what it can read of such a file, or nothing, and says no more than that the login failed.

use base64::prelude::{BASE64_STANDARD, Engine};
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_PKCS1_RSASSAPSS;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

/// The labels of a certificate that OpenSSL reads; in the last, what it is trusted for follows the certificate.
const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", TRUSTED];
const TRUSTED: &str = "TRUSTED CERTIFICATE";

/// Checks that every block (RFC 7468) is all there, that every certificate is one, and that there is one. What is between the
/// blocks is for people, in whatever encoding.
pub fn check(file: &[u8]) -> Result<(), String> {
    let mut certificates = 0;
    let mut open: Option<(String, Vec<u8>)> = None;
    for line in file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        let marks = |word: &str| {
            let label = line.strip_prefix(b"-----")?.strip_prefix(word.as_bytes())?.strip_suffix(b"-----")?;
            Some(String::from_utf8_lossy(label).into_owned())
        };
        match (&mut open, marks("BEGIN "), marks("END ")) {
            (None, Some(label), _) => open = Some((label, Vec::new())),
            (None, None, Some(label)) => return Err(format!("a block {label} that ends and never began")),
            (None, None, None) => {}
            (Some((label, body)), None, Some(end)) if *label == end => {
                if LABELS.contains(&label.as_str()) {
                    certificates += 1;
                    certificate(body, label == TRUSTED).map_err(|why| format!("certificate {certificates}: {why}"))?;
                }
                open = None;
            }
            (Some((label, _)), Some(_), _) | (Some((label, _)), _, Some(_)) => {
                return Err(format!("a block {label} that is torn"));
            }
            (Some((_, body)), None, None) => body.extend_from_slice(line),
        }
    }
    match open {
        Some((label, _)) => Err(format!("a block {label} that is torn")),
        None if certificates > 0 => Ok(()),
        None if file.first() == Some(&0x30) => {
            Err("PEM is wanted, and this looks like DER; convert it: openssl x509 -inform DER -in FILE -out FILE.pem".into())
        }
        None => Err("it holds no certificate in PEM".into()),
    }
}

/// Checks one certificate, in base64.
fn certificate(base64: &[u8], trusted: bool) -> Result<(), String> {
    let der = BASE64_STANDARD.decode(base64).map_err(|error| error.to_string())?;
    let (rest, certificate) = X509Certificate::from_der(&der).map_err(|error| format!("not whole, or damaged: {error}"))?;
    // What OpenSSL trusts it for is one more sequence, of less than 128 bytes.
    let trust = trusted && matches!(rest, [0x30, length, trust @ ..] if usize::from(*length) == trust.len());
    if !rest.is_empty() && !trust {
        return Err("something follows it in its block".into());
    }
    let signed = is_signed_by_itself(&certificate).then(|| certificate.verify_signature(None));
    if certificate.signature_algorithm != certificate.tbs_certificate.signature
        || signed == Some(Err(X509Error::SignatureVerificationError))
    {
        return Err("damaged: its signature is not of what it says".into());
    }
    Ok(()) // an algorithm that is not known here says nothing
}

/// Whether a certificate says that its own key signed it, and ring can tell.
fn is_signed_by_itself(certificate: &X509Certificate<'_>) -> bool {
    let (mut own, mut issuers) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0),
            ParsedExtension::AuthorityKeyIdentifier(id) => issuers = id.key_identifier.as_ref().map(|id| id.0),
            _ => {}
        }
    }
    // ring calls other sizes wrong, and of PSS all but one length of the salt.
    let known = certificate.signature_algorithm.algorithm != OID_PKCS1_RSASSAPSS
        && match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => (2048..=8192).contains(&key.key_size()),
            _ => true,
        };
    // A name or a key that is damaged leaves the other; the same name with two keys is one key that signed the next.
    let same_name = certificate.subject().as_raw() == certificate.issuer().as_raw();
    known && if issuers.is_some() { issuers == own } else { same_name }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See testdata/README.md.
    const CA: &str = include_str!("../../../testdata/nm-8021x-login/ca.pem");

    fn der() -> Vec<u8> {
        BASE64_STANDARD.decode(CA.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> Vec<u8> {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der)).into_bytes()
    }

    #[test]
    fn what_openssl_reads_is_taken() {
        let latin_1 = [b"Universit\xe4t\r\n", CA.replace('\n', "\r\n").as_bytes()].concat();
        let key = [CA.as_bytes(), b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"].concat();
        for good in [CA.into(), CA.repeat(3).into(), latin_1, key, pem("X509 CERTIFICATE", &der()), pem(TRUSTED, &der())] {
            assert_eq!(check(&good), Ok(()));
        }
        // openssl x509 -addtrust serverAuth
        let trust = [0x30, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
        assert_eq!(check(&pem(TRUSTED, &[&der()[..], &trust].concat())), Ok(()));
        assert!(check(&pem(LABELS[0], &[&der()[..], &trust].concat())).is_err());
    }

    #[test]
    fn a_file_that_is_not_whole_is_named_for_what_it_lacks() {
        let torn = [CA, &CA[..300]].concat();
        let started_anew = [&CA[..300], "\n", CA].concat();
        for (bad, why) in [
            (torn.as_bytes(), "a block CERTIFICATE that is torn"),
            (started_anew.as_bytes(), "a block CERTIFICATE that is torn"),
            (CA.replace("-----END CERTIFICATE-----", "").as_bytes(), "torn"),
            (&CA.as_bytes()[100..], "never began"),
            (&CA.replacen("MII", "M!I", 1).into_bytes(), "certificate 1: Invalid symbol"),
            (&pem(LABELS[0], &[der(), vec![0]].concat()), "something follows it"),
            (&pem(LABELS[0], &der()[..200]), "not whole"),
            (&der(), "PEM is wanted"),
            (b"", "no certificate"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let second = [CA.as_bytes(), &pem(LABELS[0], &der()[..200])].concat();
        assert!(check(&second).unwrap_err().starts_with("certificate 2: "));
    }

    #[test]
    fn a_flipped_byte_of_a_root_is_seen() {
        let der = der();
        // One in the algorithm or the id of a key makes another of it, of which nothing is known here; and a tag is not looked at.
        let unknown = [155..178, 248..282, 290..314, 333..334];
        let mut missed = (0..der.len()).filter(|at| {
            let mut flipped = der.clone();
            flipped[*at] ^= 0x01;
            check(&pem(LABELS[0], &flipped)).is_ok() && !unknown.iter().any(|range| range.contains(at))
        });
        assert_eq!(missed.next(), None);
    }
}
