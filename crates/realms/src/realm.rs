//! Realms: whom to trust for the names behind an `@`, from `realms.d/REALM.ini`.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jsonpipe::{Exit, ExitContext, io_error};
use nix::libc;
use serde::Deserialize;

use crate::user_name::USER_NAME_MAX_BYTES;
use crate::{VALUE_MAX_BYTES, bundle};

/// All CAs that a browser knows are 200 KiB.
const BUNDLE_MAX_BYTES: u64 = 16 << 20;

/// The EAP method; both put the password into a TLS tunnel to the realm's own server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Phase2 {
    /// In clear text inside the tunnel; TTLS only.
    Pap,
    /// MS-CHAP version 2.
    Mschapv2,
}

impl Phase2 {
    /// As NetworkManager's `802-1x.phase2-auth` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Phase2::Pap => "pap",
            Phase2::Mschapv2 => "mschapv2",
        }
    }
}

/// `[realm.R]` as it is written. What must be there is optional here, so that its absence is
/// refused with a reason.
#[derive(Debug, Deserialize)]
struct Entry {
    eap: Eap,
    phase2: Phase2,
    anonymous_identity: Option<String>,
    ca_cert: Option<String>,
    domain_suffix_match: Option<String>,
}

/// A realm that is complete: a login to it cannot be answered by anybody but its own server.
#[derive(Debug)]
pub struct Realm {
    /// The outer method.
    pub eap: Eap,
    /// The inner one.
    pub phase2: Phase2,
    /// The name outside the tunnel, that everybody on the way can read.
    pub anonymous_identity: String,
    /// The CA that signed the server's certificate, a PEM file.
    pub ca_cert: PathBuf,
    /// The server's certificate must be for this name, or one below it.
    pub domain_suffix_match: String,
}

/// Finds a realm in the directory `realms.d`; `None` when nobody described it.
///
/// `root` is what absolute paths in the file hang on. Status 78 when the file is wrong, or lacks
/// the CA or the server name: without both, anybody with an access point could collect passwords.
pub fn find(directory: &Path, realm: &str, root: &Path) -> anyhow::Result<Option<Realm>> {
    if !is_domain_name(realm) {
        return Ok(None);
    }
    let path = directory.join(format!("{realm}.ini"));
    if !path
        .try_exists()
        .exit(Exit::Io, || format!("looking for {}", path.display()))?
    {
        return Ok(None);
    }
    let wrong =
        |text: &str| Exit::Config.error(format_args!("{}: realm.{realm}: {text}", path.display()));
    let mut entries = jsonpipe::ini::read_table::<Entry>(&path, "realm")?;
    let (_, entry) = match entries.pop() {
        Some(entry) if entries.is_empty() && entry.0 == realm => entry,
        _ => {
            return Err(Exit::Config.error(format_args!(
                "{}: expected only [realm.{realm}]",
                path.display()
            )));
        }
    };
    let ca_cert = entry
        .ca_cert
        .ok_or_else(|| wrong("ca_cert: missing; without it any server could ask for passwords"))?;
    let domain_suffix_match = entry.domain_suffix_match.ok_or_else(|| {
        wrong(
            "domain_suffix_match: missing; without it any server of the CA could ask for passwords",
        )
    })?;
    let names: Vec<String> = domain_suffix_match
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
    let domain_suffix_match = names.join(";");
    if domain_suffix_match.len() > VALUE_MAX_BYTES {
        return Err(wrong(
            "domain_suffix_match: longer than the 255 bytes that NetworkManager takes",
        ));
    }
    if (entry.eap, entry.phase2) == (Eap::Peap, Phase2::Pap) {
        return Err(wrong("phase2: pap does not exist in peap; use mschapv2"));
    }
    let ca_cert = match Path::new(&ca_cert).strip_prefix("/") {
        Ok(below_root) => root.join(below_root),
        Err(_) => directory.join(&ca_cert),
    };
    // NetworkManager wants an absolute path, and would not say that it could not read the file.
    let ca_cert = fs::canonicalize(&ca_cert).map_err(|error| {
        io_error(
            error,
            |_| Exit::Config,
            format_args!("reading {}, the CA of {realm}", ca_cert.display()),
        )
    })?;
    let pem = read_bundle(&ca_cert).map_err(|error| {
        io_error(
            error,
            |_| Exit::Config,
            format_args!("reading {}, the CA of {realm}", ca_cert.display()),
        )
    })?;
    bundle::check(&pem).map_err(|why| {
        Exit::Config.error(format_args!(
            "reading {}, the CA of {realm}: {why}",
            ca_cert.display()
        ))
    })?;
    let anonymous_identity = entry
        .anonymous_identity
        .unwrap_or_else(|| format!("anonymous@{realm}"));
    match anonymous_identity.len() {
        0 => Err(wrong(
            "anonymous_identity: empty; leave it out, and it is anonymous@REALM",
        )),
        1..=USER_NAME_MAX_BYTES => Ok(Some(Realm {
            eap: entry.eap,
            phase2: entry.phase2,
            anonymous_identity,
            ca_cert,
            domain_suffix_match,
        })),
        _ => Err(wrong(
            "anonymous_identity: longer than the 253 bytes that RADIUS takes",
        )),
    }
}

/// All of a file, and no more than a bundle of CAs needs: a pipe would keep the login waiting, a
/// device would never end.
fn read_bundle(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !about.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(BUNDLE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BUNDLE_MAX_BYTES {
        return Err(io::Error::other(
            "larger than 16 MiB, which no file of CAs is",
        ));
    }
    Ok(bytes)
}

/// Letters, digits, hyphens and dots as in RFC 1123; this is also what makes a realm safe as a file
/// name.
fn is_domain_name(name: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "[realm.a.example]\neap=ttls\nphase2=pap\nca_cert=a.pem\ndomain_suffix_match=radius.a.example\n";

    /// See testdata/README.md.
    const CERTIFICATE: &str = include_str!("../../../testdata/nm-8021x-login/ca.pem");

    fn load(ini: &str) -> anyhow::Result<Option<Realm>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.example.ini"), ini).unwrap();
        fs::write(dir.path().join("a.pem"), CERTIFICATE).unwrap();
        fs::write(
            dir.path().join("torn.pem"),
            format!("{CERTIFICATE}{}", &CERTIFICATE[..400]),
        )
        .unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::File::create(dir.path().join("huge"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        find(dir.path(), "a.example", Path::new("/nonexistent"))
    }

    #[test]
    fn a_complete_realm_is_read() {
        let realm = load(GOOD).unwrap().unwrap();
        assert_eq!(
            (realm.eap, realm.phase2, realm.anonymous_identity.as_str()),
            (Eap::Ttls, Phase2::Pap, "anonymous@a.example")
        );
        assert!(realm.ca_cert.is_absolute());
    }

    #[test]
    fn a_realm_that_a_trap_could_answer_for_is_refused() {
        for (from, to, message) in [
            ("ca_cert=a.pem\n", "", "ca_cert: missing"),
            (
                "domain_suffix_match=radius.a.example\n",
                "",
                "domain_suffix_match: missing",
            ),
            ("=radius.a.example", "=", "not a domain name"),
            ("=radius.a.example", "=example", "not a domain name"),
            ("=radius.a.example", "=a.example;", "not a domain name"),
            ("=a.pem", "=none.pem", "none.pem"),
            (
                "=a.pem",
                "=pipe",
                "pipe, the CA of a.example: not a regular file",
            ),
            (
                "=a.pem",
                "=huge",
                "huge, the CA of a.example: larger than 16 MiB",
            ),
            ("=a.pem", "=.", "the CA of a.example: is a directory"),
            (
                "=a.pem",
                "=torn.pem",
                "torn.pem, the CA of a.example: a block CERTIFICATE that is torn",
            ),
            (
                "eap=",
                "anonymous_identity=\neap=",
                "anonymous_identity: empty",
            ),
            ("=a.pem", "=/etc/a.pem", "/nonexistent/etc/a.pem"),
            ("=ttls", "=peap", "pap does not exist in peap"),
            (
                "=ttls",
                "=md5",
                "realm.a.example.eap: expected one of ttls, peap",
            ),
            (
                "a.example]",
                "b.example]",
                "expected only [realm.a.example]",
            ),
            ("eap=", "eapp=x\neap=", "eapp: unknown key"),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Config);
            assert!(format!("{error:#}").contains(message), "{error:#}");
        }
    }

    #[test]
    fn names_of_servers_are_separated_by_semicolons_in_any_case() {
        let realm =
            load(&GOOD.replace("=radius.a.example", "=RADIUS.a.example ; radius.B.example"))
                .unwrap()
                .unwrap();
        assert_eq!(
            realm.domain_suffix_match,
            "radius.a.example;radius.b.example"
        );
    }

    #[test]
    fn an_unknown_realm_is_nobodys_fault() {
        let dir = tempfile::tempdir().unwrap();
        for realm in ["b.example", "..", "../a", "a/b", "", ".", "-a", "A.example"] {
            assert!(
                find(dir.path(), realm, Path::new("/")).unwrap().is_none(),
                "{realm}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_realm_never_leaves_its_directory(realm in "\\PC{0,30}|[./a]{0,9}") {
            if is_domain_name(&realm) {
                prop_assert!(!realm.contains('/') && !realm.contains(".."));
            }
        }
    }
}
