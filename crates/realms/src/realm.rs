//! `REALM.ini`: whom to trust for the names of one realm, how they log in, and who of them may.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsonpipe::{Exit, io_error, is_hidden};
use serde::{Deserialize, Serialize};

use crate::bundle::{self, CaCertificate};
use crate::gate::{Case, Gate, Pattern};
use crate::user_name::{USER_NAME_MAX_BYTES, UserName};
use crate::{VALUE_MAX_BYTES, file};

/// What a person or an import writes has some lines, and the list of a large group is in a file of
/// its own.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// All CAs that a browser knows are 200 KiB; the names of half a million people are 16 MiB.
const NAMED_FILE_MAX_BYTES: u64 = 16 << 20;

/// IEEE 802.11: an SSID is that long at most.
const SSID_MAX_BYTES: usize = 32;

/// The wireless network of the federation.
const EDUROAM: &str = "eduroam";

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

/// `[realm.R]` as it is written. What must be there is optional here, so that its absence is
/// refused with a reason.
#[derive(Debug, Deserialize)]
struct Entry {
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
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    group: Option<String>,
    #[serde(default)]
    case: Case,
    #[serde(default)]
    accepts: Vec<String>,
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

/// Where the file of a realm lies in a directory.
pub fn file_of(directory: &Path, realm: &str) -> PathBuf {
    directory.join(format!("{realm}.ini"))
}

/// What is wrong with an entry.
enum Wrong {
    /// `KEY: why`.
    Key(String),
    /// Of a file that it names: all of the error.
    File(anyhow::Error),
}

fn wrong(text: impl Into<String>) -> Wrong {
    Wrong::Key(text.into())
}

fn unreadable(error: std::io::Error, what: impl std::fmt::Display) -> anyhow::Error {
    io_error(error, |_| Exit::Config, format_args!("reading {what}"))
}

impl Entry {
    fn check(self, realm: &str, named: impl Fn(&str) -> PathBuf) -> Result<RealmFile, Wrong> {
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
        for text in &self.deny {
            pattern(&file, text).map_err(|why| wrong(format!("deny: {text}: {why}")))?;
            file.gate.deny.push(Pattern::new(&text.to_lowercase()));
        }
        for text in &self.allow {
            let pattern = pattern(&file, text);
            file.gate
                .allow
                .push(pattern.map_err(|why| wrong(format!("allow: {text}: {why}")))?);
        }
        if let Some(group) = &self.group {
            file.gate.group = Some(members(&file, &named(group)).map_err(Wrong::File)?);
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

/// A pattern that can match somebody: one that cannot would keep out, or let in, other people than
/// its author thinks.
fn pattern(file: &RealmFile, text: &str) -> Result<Pattern, String> {
    let (local, realm) = text
        .split_once('@')
        .filter(|(local, realm)| !local.is_empty() && !realm.is_empty() && !realm.contains('@'))
        .ok_or_else(|| format!("not of the form NAME@REALM; for all: *@{}", file.realm))?;
    if text.contains(|c: char| c.is_whitespace() || is_hidden(c)) {
        return Err("a character that no user name has".into());
    }
    let realm = realm.to_lowercase();
    if file.accepts.contains(&realm) {
        return Err(format!("{realm} is accepted as {}; name that", file.realm));
    }
    if !realm.contains(['*', '?']) && !file.covers(&realm) {
        return Err(format!("{realm} is not a realm of this file"));
    }
    Ok(Pattern::new(&match file.case {
        Case::Fold => text.to_lowercase(),
        Case::Keep => format!("{local}@{realm}"),
    }))
}

/// The canonical names in a group's file.
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
    Ok(members)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "[realm.a.example]\neap=ttls\nphase2=pap\nca_cert=a.pem\ndomain_suffix_match=radius.a.example\n";

    /// See testdata/README.md.
    const CERTIFICATE: &str = include_str!("../../../testdata/nm-8021x-login/ca.pem");

    fn load(ini: &[u8]) -> anyhow::Result<RealmFile> {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("a.example.ini", ini);
        write("a.pem", CERTIFICATE.as_bytes());
        let torn = format!("{CERTIFICATE}{}", &CERTIFICATE[..400]);
        write("torn.pem", torn.as_bytes());
        write(
            "staff",
            b"# staff\nAlice@a.example\n\n bob@sub.a.example \ncarol@old.example\n",
        );
        write("no-names", b"alice@a.example\nbob\n");
        write("strangers", b"alice@b.example\n");
        write("latin-1", b"j\xf6rg@a.example\n");
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::File::create(dir.path().join("huge"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        RealmFile::read(dir.path(), "a.example", Path::new("/nonexistent"))
    }

    fn with(keys: &str) -> anyhow::Result<RealmFile> {
        load(format!("{GOOD}{keys}\n").as_bytes())
    }

    #[test]
    fn a_complete_realm_is_read() {
        let realm = load(GOOD.as_bytes()).unwrap();
        assert_eq!((realm.eap, realm.phase2), (Eap::Ttls, Phase2::Pap));
        assert!(realm.ca_cert.is_absolute() && realm.anonymous_identity.is_none());
        assert_eq!(realm.ssids, ["eduroam"]);
        assert!(realm.wired && !realm.tls13 && !realm.subrealms);
        let subject = &realm.ca_certificates[0].subject;
        assert!(subject.contains("CN="), "{subject}");
        let other = with("tls13=true\nsubrealms=true\nssids=eduroam, Uni A \nwired=false\ncase=keep\naccepts=old.example\nanonymous_identity=@a.example").unwrap();
        assert_eq!(other.ssids, ["eduroam", "Uni A"]);
        assert!(!other.wired && other.tls13 && other.subrealms && other.case == Case::Keep);
        assert!(with("ssids=").unwrap().ssids.is_empty());
    }

    #[test]
    fn a_realm_that_a_trap_could_answer_for_is_refused() {
        for (from, to, message) in [
            ("ca_cert=a.pem\n", "", "realm.a.example.ca_cert: missing"),
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
            ("=a.pem", "=/etc/a.pem", "/nonexistent/etc/a.pem"),
            ("=ttls", "=peap", "pap does not exist in peap"),
            (
                "eap=ttls\nphase2=pap",
                "eap=peap\nphase2=eap-mschapv2",
                "eap-mschapv2 is for ttls",
            ),
            (
                "=ttls",
                "=md5",
                "realm.a.example.eap: expected one of ttls, peap",
            ),
            (
                "=pap",
                "=PAP",
                "realm.a.example.phase2: expected one of pap, mschapv2, eap-mschapv2",
            ),
            (
                "a.example]",
                "b.example]",
                "expected only [realm.a.example]",
            ),
            (
                "[realm.a",
                "[realm.b.example]\neap=ttls\nphase2=pap\n[realm.a",
                "expected only [realm.a.example]",
            ),
            ("[realm.a", "[x]\n[realm.a", "[x]: expected [realm.NAME]"),
            ("[realm.a", "\u{feff}[realm.a", "byte-order mark"),
            ("=a.pem", "=a.pem\\", "ends in a backslash"),
            ("eap=", "eap=peap\neap=", "realm.a.example.eap: given twice"),
            ("eap=", "eapp=x\neap=", "eapp: unknown key"),
        ] {
            let error = load(GOOD.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Config);
            assert!(format!("{error:#}").contains(message), "{error:#}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_meant_so_is_refused() {
        let long = format!("anonymous_identity={}@a.example", "a".repeat(253));
        for (keys, message) in [
            ("anonymous_identity=", "anonymous_identity: empty"),
            (long.as_str(), "longer than the 253 bytes"),
            ("anonymous_identity=anonymous", "it leads to no server"),
            ("anonymous_identity=a b@a.example", "it leads to no server"),
            ("tls13=yes", "realm.a.example.tls13: expected true or false"),
            ("ssids=a\u{200b}", "cannot be seen"),
            (
                "ssids=eduroam,123456789012345678901234567890123",
                "ssids: 123456789012345678901234567890123: longer than 32 bytes",
            ),
            ("wired=false\nssids=", "no network is left"),
            ("case=upper", "case: expected one of fold, keep"),
            ("accepts=a.example", "accepts: a.example: not another realm"),
            ("accepts=B.example", "accepts: B.example: not another realm"),
            ("accepts=../b", "accepts: ../b: not another realm"),
            ("deny=eve", "deny: eve: not of the form NAME@REALM"),
            ("deny=@a.example", "not of the form NAME@REALM"),
            ("allow=*", "for all: *@a.example"),
            (
                "allow=*@b.example",
                "allow: *@b.example: b.example is not a realm of this file",
            ),
            (
                "deny=*@sub.a.example",
                "sub.a.example is not a realm of this file",
            ),
            (
                "accepts=old.example\ndeny=eve@old.example",
                "old.example is accepted as a.example; name that",
            ),
            ("deny=e\u{200b}ve@a.example", "no user name has"),
            ("group=none", "none, the group of a.example: no such file"),
            ("group=pipe", "pipe, the group of a.example: not a regular"),
            ("group=huge", "huge, the group of a.example: larger than"),
            (
                "group=latin-1",
                "latin-1, the group of a.example: not UTF-8",
            ),
            (
                "group=no-names",
                "line 2: not a user name such as alice@a.example",
            ),
            ("group=strangers", "line 1: not a user name"),
        ] {
            let error = with(keys).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Config);
            let error = format!("{error:#}");
            assert!(
                error.to_lowercase().contains(&message.to_lowercase()),
                "{error}"
            );
        }
        for (bytes, message) in [
            (&b"[realm.a.example]\nssids=\xff\n"[..], "not UTF-8"),
            (&vec![b'\n'; (1 << 20) + 1], "larger than 1 MiB"),
        ] {
            let error = format!("{:#}", load(bytes).unwrap_err());
            assert!(
                error.contains("a.example.ini") && error.contains(message),
                "{error}"
            );
        }
    }

    #[test]
    fn subrealms_of_a_single_label_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = GOOD.replace("realm.a.example", "realm.example") + "subrealms=true\n";
        fs::write(dir.path().join("example.ini"), text).unwrap();
        let error = RealmFile::read(dir.path(), "example", Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("half the world"), "{error:#}");
    }

    #[test]
    fn names_of_servers_are_separated_by_semicolons_in_any_case() {
        let text = GOOD.replace("=radius.a.example", "=RADIUS.a.example ; radius.B.example");
        assert_eq!(
            load(text.as_bytes()).unwrap().server_names,
            ["radius.a.example", "radius.b.example"]
        );
    }

    #[test]
    fn a_canonical_name_is_one_persons() {
        let canonical = |keys: &str, typed: &str| {
            let name = UserName::parse(typed).unwrap();
            with(keys).unwrap().canonical(&name)
        };
        assert_eq!(canonical("", "Alice@A.Example"), "alice@a.example");
        assert_eq!(canonical("case=keep", "Alice@A.Example"), "Alice@a.example");
        let accepting = "subrealms=true\naccepts=old.example,stud.a.example";
        assert_eq!(canonical(accepting, "a@OLD.example"), "a@a.example");
        assert_eq!(canonical(accepting, "a@stud.a.example"), "a@a.example");
        assert_eq!(canonical(accepting, "a@sub.a.example"), "a@sub.a.example");
        assert_eq!(
            canonical(accepting, "a@x.stud.a.example"),
            "a@x.stud.a.example"
        );
    }

    #[test]
    fn patterns_and_groups_are_of_canonical_names() {
        let admits = |keys: &str, user: &str| with(keys).unwrap().gate.admits(user);
        let group = "subrealms=true\naccepts=old.example\ngroup=staff";
        for (user, admitted) in [
            ("alice@a.example", true),
            ("bob@sub.a.example", true),
            ("carol@a.example", true),
            ("bob@a.example", false),
        ] {
            assert_eq!(admits(group, user), admitted, "{user}");
        }
        assert!(admits("allow=S*@A.example", "s1@a.example"));
        assert!(!admits("case=keep\nallow=S*@A.example", "s1@a.example"));
        assert!(admits("case=keep\nallow=S*@A.example", "S1@a.example"));
        assert!(!admits("case=keep\ndeny=Eve@A.example", "eVE@a.example"));
        assert!(!admits("allow=*@a.example\ndeny=eve@*", "eve@a.example"));
    }

    proptest! {
        #[test]
        fn a_realm_never_leaves_its_directory(realm in "\\PC{0,30}|[./a]{0,9}") {
            if is_domain_name(&realm) {
                prop_assert!(!realm.contains('/') && !realm.contains(".."));
            }
        }

        #[test]
        fn a_realm_is_below_another_by_whole_labels(
            realm in "[ab]{1,2}(\\.[ab]{1,2}){0,3}", other in "[ab]{1,2}(\\.[ab]{1,2}){0,3}",
        ) {
            let labels = |name: &str| name.split('.').map(str::to_owned).collect::<Vec<_>>();
            let (own, others) = (labels(&realm), labels(&other));
            prop_assert_eq!(
                is_below(&realm, &other),
                own.len() > others.len() && own.ends_with(&others)
            );
        }
    }
}
