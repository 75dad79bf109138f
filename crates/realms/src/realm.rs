//! `REALM.ini`: whom to trust for the names of one realm, how they log in, and who of them may.

pub mod bundle;
mod entry;
pub mod gate;
#[cfg(test)]
mod tests;
pub mod user_name;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonpipe::Exit;
use serde::{Deserialize, Serialize};

use crate::file;
use bundle::CaCertificate;
use entry::{Entry, Wrong, unreadable};
use gate::{Case, Gate};
use user_name::UserName;

/// What a person or an import writes has some lines, and the list of a large group is in a file of
/// its own.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The EAP method; both put the password into a TLS tunnel to the realm's own server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Eap {
    /// EAP-TTLS, RFC 5281.
    Ttls,
    /// Protected EAP, draft-josefsson-pppext-eap-tls-eap.
    Peap,
}

impl Eap {
    /// As NetworkManager's `802-1x.eap` and our documents spell it.
    pub fn name(self) -> &'static str {
        match self {
            Eap::Ttls => "ttls",
            Eap::Peap => "peap",
        }
    }

    /// As wpa_supplicant's property `CurrentAuthMode` spells it.
    pub fn auth_mode(self) -> &'static str {
        match self {
            Eap::Ttls => "EAP-TTLS",
            Eap::Peap => "EAP-PEAP",
        }
    }
}

/// How the password is shown inside the tunnel.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase2 {
    /// In clear text inside the tunnel; TTLS only.
    Pap,
    /// MS-CHAP version 2; in PEAP always as an EAP method.
    Mschapv2,
    /// MS-CHAP version 2 as an EAP method inside TTLS.
    EapMschapv2,
}

impl Phase2 {
    /// As the file spells it.
    pub fn name(self) -> &'static str {
        match self {
            Phase2::Pap => "pap",
            Phase2::Mschapv2 => "mschapv2",
            Phase2::EapMschapv2 => "eap-mschapv2",
        }
    }
}

/// A file that is complete: a login to its realm cannot be answered by anybody but its own server.
#[derive(Debug)]
pub struct RealmFile {
    /// The realm, in lower case.
    pub realm: String,
    /// The outer method.
    pub eap: Eap,
    /// The inner one.
    pub phase2: Phase2,
    /// The name outside the tunnel, when it is not `anonymous@` and the realm of the user's name.
    pub anonymous_identity: Option<String>,
    /// The CAs that may have signed the server's certificate, a PEM file; an absolute path.
    pub ca_cert: PathBuf,
    /// What is in it.
    pub ca_certificates: Vec<CaCertificate>,
    /// The names one of which the server's certificate must be for, or for one below it.
    pub server_names: Vec<String>,
    /// Whether TLS 1.3 may be used beside 1.2.
    pub tls13: bool,
    /// Whether the names of users may end in a realm below this one.
    pub subrealms: bool,
    /// The wireless networks that take its users.
    pub ssids: Vec<String>,
    /// Whether wired ports take its users.
    pub wired: bool,
    /// Whether upper and lower case make two people.
    pub case: Case,
    /// Other realms, whose users are the same people as this one's.
    pub accepts: Vec<String>,
    /// Who of them may log in.
    pub gate: Gate,
}

impl RealmFile {
    /// Reads `REALM.ini` in a directory, and the files that it names.
    ///
    /// `root` is what absolute paths in the file hang on. Status 78 when the file is wrong, or
    /// lacks the CA or the server name: without both, anybody with an access point could collect
    /// passwords.
    pub fn read(directory: &Path, realm: &str, root: &Path) -> anyhow::Result<RealmFile> {
        let path = file_of(directory, realm);
        let text = file::read_text(&path, FILE_MAX_BYTES)
            .map_err(|error| unreadable(error, path.display()))?;
        let mut entries = jsonpipe::ini::parse_table::<Entry>(&path, &text, "realm")?;
        let (_, entry) = match entries.pop() {
            Some(entry) if entries.is_empty() && entry.0 == realm => entry,
            _ => {
                return Err(Exit::Config.error(format_args!(
                    "{}: expected only [realm.{realm}]",
                    path.display()
                )));
            }
        };
        let named = |path: &str| match Path::new(path).strip_prefix("/") {
            Ok(below_root) => root.join(below_root),
            Err(_) => directory.join(path),
        };
        entry.check(realm, named).map_err(|why| match why {
            Wrong::Key(text) => {
                Exit::Config.error(format_args!("{}: realm.{realm}.{text}", path.display()))
            }
            Wrong::File(error) => error,
        })
    }

    /// Whether a realm is this one, one below it where the file takes those, or one that it
    /// accepts.
    pub fn covers(&self, realm: &str) -> bool {
        realm == self.realm
            || self.accepts.iter().any(|accepted| accepted == realm)
            || self.subrealms && is_below(realm, &self.realm)
    }

    /// The one name of the person behind a user name: in lower case unless the file keeps the case,
    /// and with this realm where it is another that the file accepts.
    pub fn canonical(&self, name: &UserName) -> String {
        let local = name.local();
        let local = match self.case {
            Case::Fold => local.to_lowercase(),
            Case::Keep => local.to_owned(),
        };
        let realm = if self.accepts.contains(&name.realm) {
            &self.realm
        } else {
            &name.realm
        };
        format!("{local}@{realm}")
    }
}

/// The keys of a realm's file that come from the institution. The others are the site's.
const OF_THE_INSTITUTION: [&str; 7] = [
    "eap",
    "phase2",
    "ca_cert",
    "domain_suffix_match",
    "anonymous_identity",
    "subrealms",
    "ssids",
];

/// Why a file of a realm is the site's, which no import and no update replaces: it says what no
/// institution does, as who may log in. A file that cannot be read may say it.
pub fn site_keys(path: &Path) -> Option<String> {
    if !path.exists() {
        return None;
    }
    let entries = match jsonpipe::ini::read_table::<BTreeMap<String, String>>(path, "realm") {
        Ok(entries) => entries,
        Err(error) => return Some(format!("{error:#}")),
    };
    let keys: Vec<String> = entries
        .into_iter()
        .flat_map(|(_, entry)| entry.into_keys())
        .filter(|key| !OF_THE_INSTITUTION.contains(&key.as_str()))
        .collect();
    (!keys.is_empty()).then(|| format!("it has keys of this site: {}", keys.join(", ")))
}

/// Where the file of a realm lies in a directory.
pub fn file_of(directory: &Path, realm: &str) -> PathBuf {
    directory.join(format!("{realm}.ini"))
}

/// Whether a realm has the other one as its last labels, and something in front.
fn is_below(realm: &str, other: &str) -> bool {
    realm
        .strip_suffix(other)
        .is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

/// Letters, digits, hyphens and dots as in RFC 1123; this is also what makes a realm safe as a file
/// name.
pub fn is_domain_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}
