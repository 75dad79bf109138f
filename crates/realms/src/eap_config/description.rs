//! A realm as an import describes it, and the two files of that.

use std::fmt::Write;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::realm::{Eap, Phase2};

/// What an institution says of one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// A domain name in lower case.
    pub realm: String,
    /// The method outside.
    pub eap: Eap,
    /// The method inside.
    pub phase2: Phase2,
    /// The name outside the tunnel; `None` for `anonymous@` and the realm.
    pub anonymous_identity: Option<String>,
    /// The names of its servers, separated by `;`.
    pub domain_suffix_match: String,
    /// Whether the names of its users may also end in a realm below it.
    pub subrealms: bool,
    /// The SSIDs that its credential is for; empty for eduroam.
    pub ssids: Vec<String>,
    /// Its CAs, in DER.
    pub certificates: Vec<Vec<u8>>,
    /// Certificates that are not among its CAs, and why.
    pub left_out: Vec<String>,
}

impl Description {
    /// Whether two files say the same of a realm.
    pub fn agrees_with(&self, other: &Description) -> bool {
        self.ini() == other.ini() && self.certificates == other.certificates
    }

    /// The text of `REALM.ini`.
    pub fn ini(&self) -> String {
        let mut text = format!(
            "# Written by nm-8021x-login import, which replaces it.\n[realm.{realm}]\neap={eap}\nphase2={phase2}\nca_cert={realm}.pem\ndomain_suffix_match={names}\n",
            realm = self.realm,
            eap = self.eap.name(),
            phase2 = self.phase2.name(),
            names = self.domain_suffix_match,
        );
        if let Some(identity) = &self.anonymous_identity {
            let _ = writeln!(text, "anonymous_identity={identity}"); // a String takes all
        }
        if self.subrealms {
            text.push_str("subrealms=true\n");
        }
        if !self.ssids.is_empty() && self.ssids != ["eduroam"] {
            let _ = writeln!(text, "ssids={}", self.ssids.join(","));
        }
        text
    }

    /// The text of `REALM.pem`.
    pub fn pem(&self) -> String {
        let mut text = String::new();
        for der in &self.certificates {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let mut base64 = BASE64_STANDARD.encode(der);
            while !base64.is_empty() {
                let rest = base64.split_off(base64.len().min(64));
                text.push_str(&base64);
                text.push('\n');
                base64 = rest;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }
}
