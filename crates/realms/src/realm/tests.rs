//! What a file says, what is refused of it, and who is who.

use std::fs;

use proptest::prelude::*;

use super::*;

const GOOD: &str = "[realm.a.example]\neap=ttls\nphase2=pap\nca_cert=a.pem\ndomain_suffix_match=radius.a.example\n";

/// See testdata/README.md.
const CERTIFICATE: &str = include_str!("../../../../testdata/nm-8021x-login/ca.pem");

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
        ("allow=", "realm.a.example.allow: empty; leave it out"),
        ("deny=", "realm.a.example.deny: empty; leave it out"),
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
        ("deny=\u{ff45}ve@a.example", "no user name has"),
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
