//! The CAs in an eap-config: those that a login can trust, and why the others are left out.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use roxmltree::Node;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::eap_config::xml::content;

/// Base64 as files have it: some lack the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an eap-config says of whom to trust.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorities {
    /// In DER: roots and intermediates, in the order of the file.
    pub certificates: Vec<Vec<u8>>,
    /// For each certificate that is not among them, which it is and why.
    pub left_out: Vec<String>,
}

/// Chooses among the elements `CA`. `Err` when one is damaged, or none is left to trust.
pub fn choose<'a, 'i: 'a>(
    elements: impl Iterator<Item = Node<'a, 'i>>,
    now: i64,
) -> Result<Authorities, String> {
    let mut chosen = Authorities {
        certificates: Vec::new(),
        left_out: Vec::new(),
    };
    let mut has_root = false;
    for (index, element) in elements.enumerate() {
        let place = format!("CA {}", index + 1);
        let base64: String = content(element).split_ascii_whitespace().collect();
        if base64.is_empty() {
            chosen.left_out.push(format!("{place}: empty"));
            continue;
        }
        if let Some(format) = element.attribute("format")
            && !format.eq_ignore_ascii_case("X.509")
        {
            chosen
                .left_out
                .push(format!("{place}: not in the format X.509"));
            continue;
        }
        let der = BASE64
            .decode(base64)
            .map_err(|_| format!("{place}: not whole, or damaged: not Base64"))?;
        let Ok((&[], certificate)) = X509Certificate::from_der(&der) else {
            return Err(format!("{place}: not whole, or damaged"));
        };
        let subject = subject(&certificate);
        let is_root = certificate.subject().as_raw() == certificate.issuer().as_raw();
        let expires = certificate.validity().not_after;
        if expires.timestamp() < now {
            let date = instant(expires.timestamp());
            chosen
                .left_out
                .push(format!("{place} ({subject}): expired at {date}"));
        } else if !is_root && !certificate.is_ca() {
            chosen.left_out.push(format!(
                "{place} ({subject}): a server's certificate, no CA"
            ));
        } else if !chosen.certificates.contains(&der) {
            has_root |= is_root;
            chosen.certificates.push(der);
        }
    }
    match (&chosen.certificates[..], &chosen.left_out[..]) {
        ([], []) => Err("no CA: any server could ask for passwords".into()),
        ([], left_out) => Err(format!("no CA that can be used: {}", left_out.join("; "))),
        // wpa_supplicant follows a chain to its root, and believes no other.
        _ if !has_root => Err("no root among its CAs, only intermediates of another one".into()),
        _ => Ok(chosen),
    }
}

/// Of a certificate, in a line for people.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let subject = certificate.subject().to_string();
    let short: String = subject.chars().take(100).collect();
    jsonpipe::shown(&short).into_owned()
}

/// A time in seconds since 1970, in RFC 3339; of one that no calendar has, the number.
pub fn instant(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => at.to_string(),
        Err(_) => format!("@{seconds}"),
    }
}
