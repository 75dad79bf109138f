//! The CAs that a client trusts instead of the public ones.

use std::fs;
use std::path::Path;

use jsonpipe::{Exit, ExitContext};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// The CAs in a PEM file. Status 78 when it cannot be read, is wrong, or has none.
pub fn root_certs(path: &Path) -> anyhow::Result<RootCerts> {
    let reading = || format!("reading the CA's certificate in {}", path.display());
    let pem = fs::read(path).exit(Exit::Config, reading)?;
    let authorities = certificates(&pem).exit(Exit::Config, reading)?;
    Ok(RootCerts::new_with_certs(&authorities))
}

/// The certificates in PEM, in their order; at least one. Keys beside them are left out.
pub fn certificates(pem: &[u8]) -> anyhow::Result<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item? {
            found.push(certificate);
        }
    }
    anyhow::ensure!(!found.is_empty(), "no certificate in PEM");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = include_str!("../../../testdata/nm-8021x-login/ca.pem");

    #[test]
    fn certificates_are_all_those_of_the_file_and_at_least_one() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let pem = format!("the CA of the server\n{CA}{key}{CA}");
        assert_eq!(certificates(pem.as_bytes()).unwrap().len(), 2);
        for (pem, words) in [
            ("", "no certificate in PEM"),
            (key, "no certificate in PEM"),
        ] {
            let error = certificates(pem.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
        let torn = &CA[..CA.len() / 2];
        assert!(certificates(torn.as_bytes()).is_err());
    }

    #[test]
    fn root_certs_of_a_wrong_file_are_78_and_name_it() {
        for path in ["/dev/null", "/nonexistent/ca.pem"] {
            let error = root_certs(Path::new(path)).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Config);
            let words = format!("reading the CA's certificate in {path}: ");
            assert!(format!("{error:#}").starts_with(&words), "{error:#}");
        }
    }
}
