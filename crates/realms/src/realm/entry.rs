//! `[realm.REALM]` as it is written, and what of it is refused.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsonpipe::{Exit, io_error, is_hidden};
use serde::Deserialize;

use super::{Eap, Phase2, RealmFile, is_domain_name};
use crate::realm::bundle::{self, CaCertificate};
use crate::realm::gate::{Case, Gate, Group, Pattern};
use crate::realm::user_name::{USER_NAME_MAX_BYTES, UserName, is_one_spelling};
use crate::{VALUE_MAX_BYTES, file};

/// All CAs that a browser knows are 200 KiB; the names of half a million people are 16 MiB.
const NAMED_FILE_MAX_BYTES: u64 = 16 << 20;

/// IEEE 802.11: an SSID is that long at most.
const SSID_MAX_BYTES: usize = 32;

/// The wireless network of the federation.
const EDUROAM: &str = "eduroam";

/// `[realm.R]` as it is written. What must be there is optional here, so that its absence is
/// refused with a reason.
#[derive(Debug, Deserialize)]
pub struct Entry {
    eap: Eap,
    phase2: Phase2,
    anonymous_identity: Option<String>,
    ca_cert: Option<String>,
    domain_suffix_match: Option<String>,
    #[serde(default)]
    tls13: bool,
    #[serde(default)]
    subrealms: bool,
    ssids: Option<Vec<String>>,
    wired: Option<bool>,
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    group: Option<String>,
    #[serde(default)]
    case: Case,
    #[serde(default)]
    accepts: Vec<String>,
}

/// What is wrong with an entry.
pub enum Wrong {
    /// `KEY: why`.
    Key(String),
    /// Of a file that it names: all of the error.
    File(anyhow::Error),
}

fn wrong(text: impl Into<String>) -> Wrong {
    Wrong::Key(text.into())
}

/// A file that cannot be read.
pub fn unreadable(error: std::io::Error, what: impl std::fmt::Display) -> anyhow::Error {
    io_error(error, |_| Exit::Config, format_args!("reading {what}"))
}

impl Entry {
    /// What it says, once all of it can be meant so. `named` gives the path of a file that it names.
    pub fn check(self, realm: &str, named: impl Fn(&str) -> PathBuf) -> Result<RealmFile, Wrong> {
        match (self.eap, self.phase2) {
            (Eap::Peap, Phase2::Pap) => {
                return Err(wrong("phase2: pap does not exist in peap; use mschapv2"));
            }
            (Eap::Peap, Phase2::EapMschapv2) => {
                return Err(wrong(
                    "phase2: eap-mschapv2 is for ttls; in peap it is called mschapv2",
                ));
            }
            _ => {}
        }
        if self.subrealms && !realm.contains('.') {
            return Err(wrong(
                "subrealms: a realm of one label has half the world below it",
            ));
        }
        let (ca_cert, ca_certificates) = ca(realm, self.ca_cert, &named)?;
        let mut file = RealmFile {
            realm: realm.to_owned(),
            eap: self.eap,
            phase2: self.phase2,
            anonymous_identity: anonymous_identity(self.anonymous_identity)?,
            ca_cert,
            ca_certificates,
            server_names: server_names(self.domain_suffix_match)?,
            tls13: self.tls13,
            subrealms: self.subrealms,
            ssids: ssids(self.ssids)?,
            wired: self.wired.unwrap_or(true),
            case: self.case,
            accepts: accepts(realm, self.accepts)?,
            gate: Gate::default(),
        };
        if file.ssids.is_empty() && !file.wired {
            return Err(wrong(
                "wired: false, and ssids is empty: no network is left",
            ));
        }
        for text in &patterns("deny", self.deny)? {
            pattern(&file, text).map_err(|why| wrong(format!("deny: {text}: {why}")))?;
            file.gate.deny.push(Pattern::new(&text.to_lowercase()));
        }
        for text in &patterns("allow", self.allow)? {
            let pattern = pattern(&file, text);
            file.gate
                .allow
                .push(pattern.map_err(|why| wrong(format!("allow: {text}: {why}")))?);
        }
        if let Some(group) = self.group {
            let members = members(&file, &named(&group)).map_err(Wrong::File)?;
            file.gate.group = Some(Group {
                file: group,
                members,
            });
        }
        Ok(file)
    }
}

/// The file of the CAs, and what is in it.
fn ca(
    realm: &str,
    path: Option<String>,
    named: impl Fn(&str) -> PathBuf,
) -> Result<(PathBuf, Vec<CaCertificate>), Wrong> {
    let path = path
        .ok_or_else(|| wrong("ca_cert: missing; without it any server could ask for passwords"))?;
    let path = named(&path);
    let what = format!("{}, the CA of {realm}", path.display());
    // NetworkManager wants an absolute path, and would not say that it could not read the file.
    let path = fs::canonicalize(path).map_err(|error| Wrong::File(unreadable(error, &what)))?;
    let pem = file::read(&path, NAMED_FILE_MAX_BYTES)
        .map_err(|error| Wrong::File(unreadable(error, &what)))?;
    let certificates = bundle::check(&pem)
        .map_err(|why| Wrong::File(Exit::Config.error(format_args!("reading {what}: {why}"))))?;
    Ok((path, certificates))
}

fn server_names(text: Option<String>) -> Result<Vec<String>, Wrong> {
    let text = text.ok_or_else(|| {
        wrong(
            "domain_suffix_match: missing; without it any server of the CA could ask for passwords",
        )
    })?;
    let names: Vec<String> = text
        .split(';')
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    if !names
        .iter()
        .all(|name| is_domain_name(name) && name.contains('.'))
    {
        return Err(wrong(
            "domain_suffix_match: not a domain name, or several separated by ;",
        ));
    }
    if names.join(";").len() > VALUE_MAX_BYTES {
        return Err(wrong(
            "domain_suffix_match: longer than the 255 bytes that NetworkManager takes",
        ));
    }
    Ok(names)
}

/// Everybody on the way can read it, and it must lead to the realm's server.
fn anonymous_identity(text: Option<String>) -> Result<Option<String>, Wrong> {
    let Some(text) = text else { return Ok(None) };
    if text.is_empty() {
        return Err(wrong(
            "anonymous_identity: empty; leave it out, and it is anonymous@REALM",
        ));
    }
    if text.len() > USER_NAME_MAX_BYTES {
        return Err(wrong(
            "anonymous_identity: longer than the 253 bytes that RADIUS takes",
        ));
    }
    let leads = text
        .split_once('@')
        .is_some_and(|(_, realm)| is_domain_name(&realm.to_ascii_lowercase()));
    if !leads || text.contains(|c: char| c.is_whitespace() || is_hidden(c)) {
        return Err(wrong(
            "anonymous_identity: not of the form anonymous@REALM; without the realm it leads to no server",
        ));
    }
    Ok(Some(text))
}

fn ssids(names: Option<Vec<String>>) -> Result<Vec<String>, Wrong> {
    let names = names.unwrap_or_else(|| vec![EDUROAM.into()]);
    match names
        .iter()
        .find(|name| name.len() > SSID_MAX_BYTES || name.contains(is_hidden))
    {
        Some(name) => Err(wrong(format!(
            "ssids: {name}: longer than 32 bytes, or with a character that cannot be seen"
        ))),
        None => Ok(names),
    }
}

fn accepts(realm: &str, names: Vec<String>) -> Result<Vec<String>, Wrong> {
    match names
        .iter()
        .find(|name| !is_domain_name(name) || *name == realm)
    {
        Some(name) => Err(wrong(format!(
            "accepts: {name}: not another realm, in lower case"
        ))),
        None => Ok(names),
    }
}

/// The patterns of a gate. A gate without one would be open to all.
fn patterns(key: &str, texts: Option<Vec<String>>) -> Result<Vec<String>, Wrong> {
    match texts {
        Some(texts) if texts.is_empty() => Err(wrong(format!(
            "{key}: empty; leave it out, and it keeps no user out"
        ))),
        texts => Ok(texts.unwrap_or_default()),
    }
}

/// A pattern that can match somebody: one that cannot would keep out, or let in, other people than
/// its author thinks.
fn pattern(file: &RealmFile, text: &str) -> Result<Pattern, String> {
    let (local, realm) = text
        .split_once('@')
        .filter(|(local, realm)| !local.is_empty() && !realm.is_empty() && !realm.contains('@'))
        .ok_or_else(|| format!("not of the form NAME@REALM; for all: *@{}", file.realm))?;
    if text.contains(|c: char| c.is_whitespace() || is_hidden(c)) || !is_one_spelling(text) {
        return Err("a character that no user name has".into());
    }
    let realm = realm.to_lowercase();
    if file.accepts.contains(&realm) {
        return Err(format!("{realm} is accepted as {}; name that", file.realm));
    }
    if !realm.contains(['*', '?']) && !file.covers(&realm) {
        return Err(format!(
            "{realm} is not a realm of this file; for the realms below {}, add subrealms=true",
            file.realm
        ));
    }
    Ok(Pattern::new(&match file.case {
        Case::Fold => text.to_lowercase(),
        Case::Keep => format!("{local}@{realm}"),
    }))
}

/// The canonical names in a group's file. None would be an export that failed.
fn members(file: &RealmFile, path: &Path) -> anyhow::Result<HashSet<String>> {
    let what = format!("{}, the group of {}", path.display(), file.realm);
    let text =
        file::read_text(path, NAMED_FILE_MAX_BYTES).map_err(|error| unreadable(error, &what))?;
    let mut members = HashSet::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match UserName::parse(line).filter(|name| file.covers(&name.realm)) {
            Some(name) => members.insert(file.canonical(&name)),
            None => {
                return Err(Exit::Config.error(format_args!(
                    "reading {what}: line {}: not a user name such as alice@{}",
                    index + 1,
                    file.realm
                )));
            }
        };
    }
    if members.is_empty() {
        return Err(Exit::Config.error(format_args!(
            "reading {what}: no user name in it; to keep all users out, use deny"
        )));
    }
    Ok(members)
}
