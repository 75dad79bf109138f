//! The realms that are installed, and until when their CAs are good.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonpipe::{Common, Exit, io_error, shown, timestamp};
use serde::Serialize;

use crate::find::{Found, Place, Places, look};
use crate::realm::bundle::CaCertificate;
use crate::realm::gate::{Case, Pattern};
use crate::realm::{RealmFile, file_of, is_domain_name};

/// The last second that a certificate can name (RFC 5280, section 4.1.2.5).
const LAST_SECOND: i64 = 253_402_300_799;

/// The section `realms`.
#[derive(Debug, Default, Serialize)]
pub struct Listing {
    /// So many days before its end, a CA is said to expire soon.
    pub days: u32,
    /// The realms, by name.
    pub realms: Vec<Listed>,
    /// The files that no login can use.
    pub broken: Vec<Broken>,
}

/// One realm.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// In lower case.
    pub realm: String,
    /// Its file, as seen below the root.
    pub file: PathBuf,
    /// The files of another place that it stands in for, as seen below the root: nothing that they
    /// say counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<PathBuf>,
    /// `ttls` or `peap`.
    pub eap: &'static str,
    /// `pap`, `mschapv2` or `eap-mschapv2`.
    pub phase2: &'static str,
    /// Whether TLS 1.3 may be used.
    pub tls13: bool,
    /// Whether realms below it are taken.
    pub subrealms: bool,
    /// The other realms whose users are its own.
    pub accepts: Vec<String>,
    /// Its wireless networks.
    pub ssids: Vec<String>,
    /// Whether wired ports take its users.
    pub wired: bool,
    /// Whether upper and lower case make two people.
    pub case: Case,
    /// The patterns of users who may log in; empty for all.
    pub allow: Vec<String>,
    /// The patterns of users who may not.
    pub deny: Vec<String>,
    /// The file of those who may log in, as the realm's file names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The names of its servers.
    pub server_names: Vec<String>,
    /// Its CAs.
    pub ca_certificates: Vec<ListedCa>,
}

/// One certificate of a CA.
#[derive(Debug, Serialize)]
pub struct ListedCa {
    /// Whose it is.
    pub subject: String,
    /// Its last second, RFC 3339.
    pub not_after: String,
    /// What that means today.
    pub state: CaState,
}

/// What the date of a CA means today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaState {
    /// Good for longer.
    Good,
    /// Its end comes within the days that were asked for.
    ExpiresSoon,
    /// Its end is over.
    Expired,
}

/// A file that no login can use.
#[derive(Debug, Serialize)]
pub struct Broken {
    /// The file, as seen below the root.
    pub file: PathBuf,
    /// Why.
    pub error: String,
}

impl Listing {
    /// Whether there is a realm, every file can be used, and every CA is good for the days that
    /// were asked for.
    pub fn is_good(&self) -> bool {
        let mut certificates = self.realms.iter().flat_map(|realm| &realm.ca_certificates);
        !self.realms.is_empty()
            && self.broken.is_empty()
            && certificates.all(|ca| ca.state == CaState::Good)
    }
}

/// Lists the realms of a machine. Status 74 or 77 when a directory cannot be read.
pub fn list(common: &Common, days: u32, now: SystemTime) -> anyhow::Result<Listing> {
    let places = Places::of(common)?;
    let mut listing = Listing {
        days,
        ..Listing::default()
    };
    // By name.
    let mut files: BTreeMap<String, Vec<&Place>> = BTreeMap::new();
    for place in &places.places {
        for name in names(&place.directory)? {
            let shown_name = shown(&name.to_string_lossy()).into_owned();
            let realm = shown_name
                .strip_suffix(".ini")
                .filter(|realm| is_domain_name(realm));
            match realm {
                Some(realm) => {
                    files.entry(realm.to_owned()).or_default().push(place);
                }
                None => listing.broken.push(Broken {
                    file: place.name.join(&shown_name),
                    error: "its name is not that of a realm in lower case and .ini".into(),
                }),
            }
        }
    }
    let mut replaced = Vec::new();
    for (realm, mut found) in files {
        if found.len() > 1 {
            found = places.for_realm(&realm);
        }
        let mut named = found.iter().map(|place| file_of(&place.name, &realm));
        let (Some(place), Some(file)) = (found.first(), named.next()) else {
            continue; // each has been found somewhere
        };
        match places.read(&place.directory, &realm) {
            // The gate of a realm above it, in a file of the site.
            Ok(Some(read)) if read.realm != realm => replaced.push((read.realm, file)),
            Ok(Some(read)) => listing.realms.push(Listed {
                replaces: named.collect(),
                ..Listed::of(read, file, days, now)
            }),
            Ok(None) => {} // a good link: its realm is among what another accepts
            Err(error) => listing.broken.push(Broken {
                file,
                error: shown(&places.seen_below_the_root(&format!("{error:#}"))).into_owned(),
            }),
        }
    }
    for (by, file) in replaced {
        if let Some(listed) = listing.realms.iter_mut().find(|listed| listed.realm == by) {
            listed.replaces.push(file);
        }
    }
    Ok(listing)
}

/// The names in a directory that are those of realms' files, or look like it, in order.
fn names(directory: &Path) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let names = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut names = names.map_err(|error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", directory.display()),
        )
    })?;
    // A file that is being written begins with a dot.
    names.retain(|name| {
        Path::new(name).extension() == Some(OsStr::new("ini"))
            && !name.as_encoded_bytes().starts_with(b".")
    });
    names.sort();
    Ok(names)
}

impl Places {
    /// The file that a login to a realm reads, with what it accepts leading to it; `None` when it is
    /// a link that is good.
    fn read(&self, directory: &Path, realm: &str) -> anyhow::Result<Option<RealmFile>> {
        let file = self.locate(realm)?;
        if let Some(Found::Link(_)) = look(directory, realm)? {
            return Ok(None);
        }
        let Some(file) = file else { return Ok(None) };
        if file.realm != realm {
            return Ok(Some(file));
        }
        for accepted in &file.accepts {
            let leads_here = self
                .locate(accepted)
                .is_ok_and(|found| found.is_some_and(|found| found.realm == file.realm));
            if !leads_here {
                return Err(Exit::Config.error(format_args!(
                    "{}: realm.{realm}.accepts: {accepted} does not lead here; make {accepted}.ini a link to {realm}.ini",
                    file_of(directory, realm).display()
                )));
            }
        }
        Ok(Some(file))
    }
}

impl Listed {
    fn of(read: RealmFile, file: PathBuf, days: u32, now: SystemTime) -> Listed {
        Listed {
            realm: read.realm,
            file,
            replaces: Vec::new(),
            eap: read.eap.name(),
            phase2: read.phase2.name(),
            tls13: read.tls13,
            subrealms: read.subrealms,
            accepts: read.accepts,
            ssids: read.ssids,
            wired: read.wired,
            case: read.case,
            allow: read.gate.allow.iter().map(Pattern::text).collect(),
            deny: read.gate.deny.iter().map(Pattern::text).collect(),
            group: read.gate.group.map(|group| group.file),
            server_names: read.server_names,
            ca_certificates: read
                .ca_certificates
                .into_iter()
                .map(|certificate| ListedCa::of(certificate, days, now))
                .collect(),
        }
    }
}

impl ListedCa {
    fn of(certificate: CaCertificate, days: u32, now: SystemTime) -> ListedCa {
        let seconds = certificate.not_after.clamp(0, LAST_SECOND);
        let not_after = UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
        let state = if not_after < now {
            CaState::Expired
        } else if not_after < now + Duration::from_secs(u64::from(days) * 86_400) {
            CaState::ExpiresSoon
        } else {
            CaState::Good
        };
        ListedCa {
            subject: certificate.subject,
            not_after: timestamp::rfc3339(not_after),
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_ends_with_its_last_second() {
        let state = |not_after: i64, days: u32, now: u64| {
            let certificate = CaCertificate {
                subject: "CN=Uni A".into(),
                not_after,
            };
            let listed = ListedCa::of(certificate, days, UNIX_EPOCH + Duration::from_secs(now));
            (listed.state, listed.not_after)
        };
        let day = 86_400;
        assert_eq!(state(day, 0, 86_400).0, CaState::Good);
        assert_eq!(state(day, 0, 86_401).0, CaState::Expired);
        assert_eq!(state(10 * day, 9, 86_400).0, CaState::Good);
        assert_eq!(state(10 * day, 9, 86_401).0, CaState::ExpiresSoon);
        assert_eq!(
            state(-1, 0, 1),
            (CaState::Expired, "1970-01-01T00:00:00Z".into())
        );
        assert_eq!(state(i64::MAX, u32::MAX, 1).1, "9999-12-31T23:59:59Z");
    }
}
