//! The places of the realms' files, and the file that a user name leads to.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, io_error};
use serde::{Deserialize, Serialize};

use crate::realm::user_name::UserName;
use crate::realm::{Eap, Phase2, RealmFile, file_of, is_domain_name, site_keys};

/// The set that overrides `realms.d`: a symbolic link to one of `realms-N` beside it.
///
/// A session's supplicant reads the CA again, by the path that it was given at login. So the set
/// before the present one stays.
pub const INSTALLED: &str = "/var/lib/labtools/realms";

/// All that a login needs of a realm's file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Realm {
    /// The realm whose file it is, in lower case.
    pub realm: String,
    /// The user's canonical name: the only one that names a disk or an entry of the register.
    pub user: String,
    /// Whether the file lets this user log in.
    pub admitted: bool,
    /// The outer method.
    pub eap: Eap,
    /// The inner one.
    pub phase2: Phase2,
    /// The name outside the tunnel, that everybody on the way can read.
    pub anonymous_identity: String,
    /// The CAs that may have signed the server's certificate, a PEM file; an absolute path.
    pub ca_cert: PathBuf,
    /// The server's certificate must be for one of these names, separated by `;`, or one below it.
    pub domain_suffix_match: String,
    /// Whether TLS 1.3 may be used beside 1.2.
    pub tls13: bool,
    /// The wireless networks that take the user.
    pub ssids: Vec<String>,
    /// Whether wired ports take the user.
    pub wired: bool,
}

/// Finds the realm of a user name; `None` when no file is for it.
///
/// Of the files for the name's realm and those above it the one with the longest name counts, and
/// it must say that it is for realms below it. But a file of the site that has a gate counts for all
/// of its realms, whatever longer name an update brings. Status 78 when that file is wrong.
pub fn find(common: &Common, name: &UserName) -> anyhow::Result<Option<Realm>> {
    let Some(file) = Places::of(common)?.locate(&name.realm)? else {
        return Ok(None);
    };
    let user = file.canonical(name);
    Ok(Some(Realm {
        admitted: file.gate.admits(&user),
        user,
        anonymous_identity: file
            .anonymous_identity
            .unwrap_or_else(|| format!("anonymous@{}", name.realm)),
        realm: file.realm,
        eap: file.eap,
        phase2: file.phase2,
        ca_cert: file.ca_cert,
        domain_suffix_match: file.server_names.join(";"),
        tls13: file.tls13,
        ssids: file.ssids,
        wired: file.wired,
    }))
}

/// A directory of realms' files.
#[derive(Debug)]
pub struct Place {
    /// Its name, as seen below the root.
    pub name: PathBuf,
    /// Where it really is: a set that is switched meanwhile does not mix with the next.
    pub directory: PathBuf,
}

impl Place {
    fn is_of_the_site(&self) -> bool {
        self.name != Path::new(INSTALLED)
    }
}

/// The directories of realms' files that are there.
#[derive(Debug)]
pub struct Places {
    /// What an update brought, then what the machine was installed with.
    pub places: Vec<Place>,
    root: PathBuf,
}

/// What stands in a place under the name of a realm's file.
#[derive(Debug)]
pub enum Found {
    /// The file.
    File,
    /// A link that says under which realm the file is.
    Link(String),
}

impl Places {
    /// Those of a machine.
    pub fn of(common: &Common) -> anyhow::Result<Places> {
        let mut places = Vec::new();
        for (name, path) in [
            (INSTALLED.into(), common.path(INSTALLED)),
            (site(common), common.config("realms.d")),
        ] {
            match fs::canonicalize(&path) {
                Ok(directory) => places.push(Place { name, directory }),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
                Err(error) => {
                    let text = format_args!("looking into {}", path.display());
                    return Err(io_error(error, |_| Exit::Config, text));
                }
            }
        }
        Ok(Places {
            places,
            root: fs::canonicalize(&common.root).unwrap_or_else(|_| common.root.clone()),
        })
    }

    /// A text with its paths as seen below the root.
    pub fn seen_below_the_root(&self, text: &str) -> String {
        if self.root == Path::new("/") {
            return text.to_owned();
        }
        text.replace(&format!("{}/", self.root.display()), "/")
    }

    /// The places by how much they count for a realm: what an update brought comes before what the
    /// machine was installed with. But an update knows nothing of who may log in here, so a file of
    /// the site that says it comes first.
    pub fn for_realm(&self, realm: &str) -> Vec<&Place> {
        let mut places: Vec<&Place> = self.places.iter().collect();
        places.sort_by_key(|place| {
            !(place.is_of_the_site() && site_keys(&file_of(&place.directory, realm)).is_some())
        });
        places
    }

    /// The file that is for the users of a realm.
    pub fn locate(&self, realm: &str) -> anyhow::Result<Option<RealmFile>> {
        if !is_domain_name(realm) {
            return Ok(None);
        }
        if let Some(gate) = self.gate_of_the_site(realm)? {
            return Ok(Some(gate));
        }
        for candidate in upwards(realm) {
            for Place { directory, .. } in self.for_realm(candidate) {
                match look(directory, candidate)? {
                    None => {}
                    Some(Found::File) => {
                        let file = RealmFile::read(directory, candidate, &self.root)?;
                        return Ok(file.covers(realm).then_some(file));
                    }
                    // For this one realm, none below it.
                    Some(Found::Link(_)) if candidate != realm => return Ok(None),
                    Some(Found::Link(target)) => {
                        return self.follow(directory, realm, &target).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The site's file that is for a realm, by the names of the site's files alone, if it has a key
    /// of the site. An update that brings a longer name leads nobody around it.
    fn gate_of_the_site(&self, realm: &str) -> anyhow::Result<Option<RealmFile>> {
        let Some(Place { directory, .. }) = self.places.iter().find(|place| place.is_of_the_site())
        else {
            return Ok(None);
        };
        for candidate in upwards(realm) {
            if let Some(found) = look(directory, candidate)? {
                let has_gate = site_keys(&file_of(directory, candidate)).is_some();
                if !has_gate || matches!(found, Found::Link(_)) {
                    return Ok(None);
                }
                let file = RealmFile::read(directory, candidate, &self.root)?;
                return Ok(file.covers(realm).then_some(file));
            }
        }
        Ok(None)
    }

    /// The file that a link leads to, which must accept the realm that the link is called by.
    fn follow(&self, directory: &Path, realm: &str, target: &str) -> anyhow::Result<RealmFile> {
        let link = file_of(directory, realm);
        for Place { directory, .. } in self.for_realm(target) {
            if let Some(found) = look(directory, target)? {
                let file = match found {
                    Found::File => RealmFile::read(directory, target, &self.root)?,
                    Found::Link(_) => break,
                };
                if !file.accepts.iter().any(|accepted| accepted == realm) {
                    return Err(Exit::Config.error(format_args!(
                        "{}: a link to {target}.ini, which does not accept {realm}; add it to accepts there",
                        link.display()
                    )));
                }
                return Ok(file);
            }
        }
        Err(Exit::Config.error(format_args!(
            "{}: a link to {target}.ini, which is no file",
            link.display()
        )))
    }
}

/// The directory of the site's files, as seen below the root.
pub fn site(common: &Common) -> PathBuf {
    match &common.config {
        Some(directory) => directory.join("realms.d"),
        None => "/etc/labtools/realms.d".into(),
    }
}

/// A realm, and those above it, in turn.
fn upwards(realm: &str) -> impl Iterator<Item = &str> {
    iter::successors(Some(realm), |below| Some(below.split_once('.')?.1))
}

/// Looks for a realm's file in a directory. Opens nothing.
pub fn look(directory: &Path, realm: &str) -> anyhow::Result<Option<Found>> {
    let path = file_of(directory, realm);
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("looking for {}", path.display()),
        )
    };
    match fs::symlink_metadata(&path) {
        Ok(about) if about.is_symlink() => {
            let target = fs::read_link(&path).map_err(failed)?;
            let of = target
                .to_str()
                .and_then(|name| name.strip_suffix(".ini"))
                .filter(|name| is_domain_name(name));
            of.map(|of| Some(Found::Link(of.to_owned()))).ok_or_else(|| {
                Exit::Config.error(format_args!(
                    "{}: a link to elsewhere; only a link to the file of another realm in this directory is read",
                    path.display()
                ))
            })
        }
        Ok(_) => Ok(Some(Found::File)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
