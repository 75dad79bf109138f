//! `update-realms`: the set of a federation, signed and over HTTPS, becomes this machine's.
//!
//! The server gives a manifest, its signature, and the eap-configs that the manifest names, each
//! with its length and digest. So the server decides nothing: it can only be silent, or give the
//! set as it was signed. Until all of it is here, checked and durable, the present set counts.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use jsonpipe::{Answer, Common, Exit, Pipe, io_error};
use manifest::{EapConfig, Hex, Keys, Kind, Realms, Signature, Signed};
use sha2::{Digest, Sha256};

use crate::realm::RealmFile;
use crate::set::import::{Batch, Filling, answer, names, parse};
use crate::set::report::Refused;
use crate::set::server::Server;
use crate::set::{MANIFEST, Next};

/// The signature of the manifest.
pub const SIGNATURE: &str = "realms.sig";

/// Of ten thousand institutions, each with some two hundred bytes, it is a quarter of that.
const MANIFEST_MAX_BYTES: u64 = 8 << 20;
const SIGNATURE_BYTES: u64 = 64;

/// `update-realms`. Status 65 when the set is not as it was signed, or an older one; 66 or 78 when
/// the configuration or a key is missing or wrong; 69 when the server does not answer, 75 when it
/// does so too slowly, or another update is under way.
pub fn update(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let server = Server::of(common)?;
    let keys = Keys::read(&common.config("keys"), Kind::Realms)?;
    let next = Next::begin(common, None)?;
    let signed = fetch(&server)?;
    let set: Realms = signed.verify(&keys)?;
    pipe.note(format_args!(
        "the set is generation {} of {}, with {} files",
        set.generation,
        set.created_at,
        set.files.len()
    ));
    let installed = next.present().and_then(installed);
    check_age(&set, &signed, installed.as_ref())?;
    let mut filling = Filling::new(common, pipe, &next, None);
    filling.set.generation = Some(set.generation);
    let unchanged = digests(installed.as_ref().map(|(set, _)| set));
    let mut batch = Batch::default();
    for file in &set.files {
        // A realm whose file is the site's is in no set, whoever describes it.
        let wanted: Vec<&str> = file
            .realms
            .iter()
            .map(String::as_str)
            .filter(|realm| !filling.keeps(realm))
            .collect();
        let is_unchanged = unchanged.get(file.name.as_str()) == Some(&file.sha256);
        if wanted.is_empty() || is_unchanged && carry(&next, &wanted)? {
            continue;
        }
        pipe.note(format_args!("fetching {}", file.name));
        read(file, &wanted, &fetch_file(&server, file)?, &mut batch);
    }
    filling.fill(batch)?;
    // An institution that loses what a login must check is not believed, and keeps what it had.
    for Refused { realm, .. } in &filling.set.refused {
        if let Some(realm) = realm {
            carry(&next, &[realm])?;
        }
    }
    next.write(MANIFEST, &signed.bytes)?;
    next.write(SIGNATURE, &signed.signature.to_bytes())?;
    let mut section = filling.set;
    let removed = removed(&next)?;
    section.changed |=
        !removed.is_empty() || installed.is_none_or(|(_, bytes)| bytes != signed.bytes);
    section.removed = Some(removed);
    if !section.changed || dry_run {
        return answer("update", &section);
    }
    next.publish()?;
    Ok(answer("update", &section)?.staying(true))
}

fn fetch(server: &Server) -> anyhow::Result<Signed> {
    let bytes = server.get(MANIFEST, MANIFEST_MAX_BYTES)?;
    let signature = server.get(SIGNATURE, SIGNATURE_BYTES)?;
    let signature = Signature::from_bytes(&signature)
        .ok_or_else(|| Exit::Data.error(format_args!("reading {SIGNATURE}: not 64 bytes long")))?;
    Ok(Signed { bytes, signature })
}

/// An eap-config, as it was signed.
fn fetch_file(server: &Server, file: &EapConfig) -> anyhow::Result<Vec<u8>> {
    let bytes = server.get(&file.name, file.size_bytes)?;
    let is_whole = bytes.len() as u64 == file.size_bytes;
    if is_whole && digest(&bytes) == file.sha256 {
        return Ok(bytes);
    }
    Err(Exit::Data.error(format_args!(
        "fetching {}: not the file that was signed; if the server is being updated, try again later",
        file.name
    )))
}

/// SHA-256.
pub fn digest(bytes: &[u8]) -> manifest::Digest {
    Hex(Sha256::digest(bytes).into())
}

/// The manifest of the present set, if that came from a server, and its bytes.
fn installed(present: &Path) -> Option<(Realms, Vec<u8>)> {
    let bytes = fs::read(present.join(MANIFEST)).ok()?;
    Some((serde_json::from_slice(&bytes).ok()?, bytes))
}

/// Refuses a set older than the present one: its CAs may be lost ones.
fn check_age(
    set: &Realms,
    signed: &Signed,
    installed: Option<&(Realms, Vec<u8>)>,
) -> anyhow::Result<()> {
    let Some((present, bytes)) = installed else {
        return Ok(());
    };
    if set.generation < present.generation {
        return Err(Exit::Data.error(format_args!(
            "refusing generation {} of the realms: {} is installed",
            set.generation, present.generation
        )));
    }
    if set.generation == present.generation && *bytes != signed.bytes {
        return Err(Exit::Data.error(format_args!(
            "refusing generation {} of the realms: another set of this number is installed; publish the next one",
            set.generation
        )));
    }
    Ok(())
}

/// The files of a set, by name.
fn digests(set: Option<&Realms>) -> HashMap<&str, manifest::Digest> {
    let files = set.into_iter().flat_map(|set| &set.files);
    files
        .map(|file| (file.name.as_str(), file.sha256))
        .collect()
}

/// Takes realms over from the present set. False when it has not all of them in order; then none.
fn carry(next: &Next, realms: &[&str]) -> anyhow::Result<bool> {
    let Some(present) = next.present() else {
        return Ok(false);
    };
    let are_good = realms
        .iter()
        .all(|realm| RealmFile::read(present, realm, Path::new("/")).is_ok());
    if !are_good {
        return Ok(false);
    }
    for name in realms.iter().flat_map(|realm| names(realm)) {
        next.carry(&name)?;
    }
    Ok(true)
}

/// Adds what a file says of the realms that the set has it for.
fn read(file: &EapConfig, wanted: &[&str], bytes: &[u8], batch: &mut Batch) {
    let found = parse(bytes, None);
    let mut missing: BTreeSet<&str> = wanted.iter().copied().collect();
    let mut reasons = Vec::new();
    for result in found.unwrap_or_else(|reason| vec![Err(reason)]) {
        match result {
            Ok(description) if wanted.contains(&description.realm.as_str()) => {
                missing.remove(description.realm.as_str());
                batch.add(&file.name, Ok(vec![Ok(description)]));
            }
            Ok(_) => {} // kept, or not in the set
            Err(reason) => reasons.push(reason),
        }
    }
    for realm in missing {
        let reason = match &reasons[..] {
            [] => "the file does not describe this realm".into(),
            reasons => reasons.join("; "),
        };
        batch.refuse(&file.name, Some(realm), reason);
    }
}

/// The realms of the present set that are not in the next.
fn removed(next: &Next) -> anyhow::Result<Vec<String>> {
    let next_realms = realms(next.directory())?;
    let present = next.present().map(realms).transpose()?.unwrap_or_default();
    Ok(present.difference(&next_realms).cloned().collect())
}

fn realms(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let reading = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", directory.display()),
        )
    };
    let mut realms = BTreeSet::new();
    for entry in fs::read_dir(directory).map_err(reading)? {
        let name = entry.map_err(reading)?.file_name();
        if let Some(realm) = name.to_str().and_then(|name| name.strip_suffix(".ini")) {
            realms.insert(realm.to_owned());
        }
    }
    Ok(realms)
}
