//! Unusual files, each a change of one that is usual. testdata/realms has whole ones.

mod any;

use super::*;
use crate::realm::{Eap, Phase2, RealmFile};

/// 2026-11-29, in seconds since 1970.
const NOW: i64 = 1_795_910_400;

/// See testdata/README.md.
const CA: &str = include_str!("../../../../testdata/nm-8021x-login/ca.pem");

fn ca() -> String {
    CA.lines().filter(|line| !line.starts_with('-')).collect()
}

fn usual() -> String {
    format!(
        r#"<EAPIdentityProviderList>
<EAPIdentityProvider ID="a.example">
<AuthenticationMethods><AuthenticationMethod>
<EAPMethod><Type>21</Type></EAPMethod>
<ServerSideCredential><CA format="X.509" encoding="base64">{}</CA><ServerID>radius.a.example</ServerID></ServerSideCredential>
<ClientSideCredential></ClientSideCredential>
<InnerAuthenticationMethod><NonEAPAuthMethod><Type>1</Type></NonEAPAuthMethod></InnerAuthenticationMethod>
</AuthenticationMethod></AuthenticationMethods>
</EAPIdentityProvider>
</EAPIdentityProviderList>
"#,
        ca()
    )
}

fn read(text: &str) -> Result<Description, String> {
    let mut found = parse(text.as_bytes(), None, NOW)?;
    assert_eq!(found.len(), 1, "{text}");
    found.remove(0)
}

/// The usual file with something else in a place.
fn with(from: &str, to: &str) -> Result<Description, String> {
    let usual = usual();
    assert!(usual.contains(from), "{from}");
    read(&usual.replacen(from, to, 1))
}

/// The usual file with more in an element.
fn with_in(element: &str, more: &str) -> Result<Description, String> {
    with(&format!("<{element}>"), &format!("<{element}>{more}"))
}

/// The reader of realms' files reads what was described, whatever stood in the file.
fn round_trip(description: &Description) {
    let directory = tempfile::tempdir().unwrap();
    let realm = &description.realm;
    let write = |ending: &str, text: String| {
        std::fs::write(directory.path().join(format!("{realm}.{ending}")), text).unwrap();
    };
    write("ini", description.ini());
    write("pem", description.pem());
    let read = RealmFile::read(directory.path(), realm, std::path::Path::new("/")).unwrap();
    let ssids = match &description.ssids[..] {
        [] => vec!["eduroam".to_owned()],
        ssids => ssids.to_vec(),
    };
    assert_eq!(
        (read.eap, read.phase2, read.subrealms, read.wired),
        (
            description.eap,
            description.phase2,
            description.subrealms,
            true
        )
    );
    assert_eq!(read.realm, *realm);
    assert_eq!(read.anonymous_identity, description.anonymous_identity);
    assert_eq!(read.server_names.join(";"), description.domain_suffix_match);
    assert_eq!(read.ssids, ssids);
    assert_eq!(read.ca_certificates.len(), description.certificates.len());
}

#[test]
fn a_usual_file_says_all_of_a_realm() {
    let description = read(&usual()).unwrap();
    assert_eq!(
        description.ini(),
        "# Written by nm-8021x-login import, which replaces it.\n[realm.a.example]\neap=ttls\nphase2=pap\nca_cert=a.example.pem\ndomain_suffix_match=radius.a.example\n"
    );
    assert_eq!(description.pem(), CA);
}

#[test]
fn two_number_spaces_are_kept_apart() {
    let methods = |outer: &str, element: &str, inner: &str| {
        let text = usual()
            .replace("<Type>21<", &format!("<Type>{outer}<"))
            .replace(
                "NonEAPAuthMethod><Type>1<",
                &format!("{element}><Type>{inner}<"),
            )
            .replace("NonEAPAuthMethod>", &format!("{element}>"));
        read(&text).map(|found| (found.eap.name(), found.phase2.name()))
    };
    for (outer, element, inner, expected) in [
        ("21", "NonEAPAuthMethod", "1", Ok(("ttls", "pap"))),
        ("21", "NonEAPAuthMethod", "3", Ok(("ttls", "mschapv2"))),
        (
            "21",
            "NonEAPAuthMethod",
            "MSCHAPv2",
            Ok(("ttls", "mschapv2")),
        ),
        ("21", "EAPMethod", "26", Ok(("ttls", "eap-mschapv2"))),
        ("25", "EAPMethod", "26", Ok(("peap", "mschapv2"))),
        ("25", "EAPMethod", "25", Ok(("peap", "mschapv2"))),
        ("PEAP", "EAPMethod", "MSCHAPv2", Ok(("peap", "mschapv2"))),
        (
            "21",
            "NonEAPAuthMethod",
            "26",
            Err("an inner method of another number"),
        ),
        (
            "21",
            "EAPMethod",
            "3",
            Err("an inner method of another number"),
        ),
        (
            "21",
            "EAPMethod",
            "1",
            Err("an inner method of another number"),
        ),
        ("21", "NonEAPAuthMethod", "2", Err("TTLS with MSCHAP")),
        ("25", "NonEAPAuthMethod", "1", Err("PEAP with PAP")),
        ("43", "EAPMethod", "26", Err("it has EAP-FAST")),
        ("52", "EAPMethod", "26", Err("it has EAP-PWD")),
        ("13", "EAPMethod", "0", Err("EAP-TLS only")),
        ("", "EAPMethod", "26", Err("a method of another number")),
    ] {
        match (methods(outer, element, inner), expected) {
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (found, expected) => assert_eq!(found.ok(), expected.ok(), "{outer} {element} {inner}"),
        }
    }
}

#[test]
fn the_first_supported_method_is_taken() {
    let method = |outer: u8, inner: &str| {
        format!(
            "<AuthenticationMethod><EAPMethod><Type>{outer}</Type></EAPMethod><ServerSideCredential><CA>{}</CA><ServerID>other.a.example</ServerID></ServerSideCredential>{inner}</AuthenticationMethod>",
            ca()
        )
    };
    let peap = "<InnerAuthenticationMethod><EAPMethod><Type>26</Type></EAPMethod></InnerAuthenticationMethod>";
    let before = [method(13, ""), method(43, peap), method(25, peap)].concat();
    let found = with_in("AuthenticationMethods", &before).unwrap();
    assert_eq!(
        (found.eap, found.phase2, found.domain_suffix_match.as_str()),
        (Eap::Peap, Phase2::Mschapv2, "other.a.example"),
        "with its own servers"
    );
    // A method that names nobody to trust does not make way for another one.
    let bare = format!(
        "<AuthenticationMethod><EAPMethod><Type>25</Type></EAPMethod>{peap}</AuthenticationMethod>"
    );
    let why = with_in("AuthenticationMethods", &bare).unwrap_err();
    assert!(why.starts_with("no CA"), "{why}");
}

#[test]
fn realm_is_what_names_end_in_or_servers_go_by() {
    let client = |id: &str, more: &str| {
        let text = usual()
            .replace("a.example\">", &format!("{id}\">"))
            .replace(
                "<ClientSideCredential>",
                &format!("<ClientSideCredential>{more}"),
            );
        read(&text).map(|found| (found.realm, found.subrealms, found.anonymous_identity))
    };
    let outer = "<OuterIdentity>anonymous@b.example</OuterIdentity>";
    let suffix = "<InnerIdentitySuffix>C.example</InnerIdentitySuffix>";
    let hint = "<InnerIdentityHint>true</InnerIdentityHint>";
    let all = format!("{outer}{suffix}{hint}");
    let anonymous = Some("anonymous@b.example".to_owned());
    for (id, more, realm, subrealms, identity) in [
        ("A.example", "", "a.example", false, None),
        ("undefined", outer, "b.example", false, anonymous.clone()),
        ("a.example", outer, "b.example", false, anonymous.clone()),
        ("urn:undefined", suffix, "c.example", true, None),
        ("a.example", &all, "c.example", false, anonymous.clone()),
        (
            "a.example",
            "<OuterIdentity> </OuterIdentity>",
            "a.example",
            false,
            None,
        ),
        (
            "a.example",
            "<OuterIdentity>anonymous</OuterIdentity>",
            "a.example",
            false,
            None,
        ),
        (
            "a.example",
            "<OuterIdentity>a&#10;b@c.example</OuterIdentity>",
            "a.example",
            false,
            None,
        ),
        (
            "a.example",
            "<OuterIdentity>@a.example</OuterIdentity>",
            "a.example",
            false,
            Some("@a.example".into()),
        ),
    ] {
        assert_eq!(
            client(id, more).unwrap(),
            (realm.to_owned(), subrealms, identity),
            "{id} {more}"
        );
    }
    for id in [
        "undefined",
        "localhost",
        "../x.example",
        "uni-ä.example",
        &format!("{}.example", "a.".repeat(120)),
    ] {
        assert!(client(id, "").unwrap_err().contains("--realm"), "{id}");
    }
    let why = client(
        "a.example",
        "<InnerIdentitySuffix>../x</InnerIdentitySuffix>",
    )
    .unwrap_err();
    assert!(why.contains("InnerIdentitySuffix"), "{why}");
    let given = parse(usual().as_bytes(), Some("given.example"), NOW).unwrap();
    assert_eq!(given[0].as_ref().unwrap().realm, "given.example");
}

#[test]
fn networks_are_names_that_a_list_can_have() {
    let ssids = |entries: &str| {
        let more = format!("<CredentialApplicability>{entries}</CredentialApplicability>");
        with(
            "<AuthenticationMethods>",
            &format!("{more}<AuthenticationMethods>"),
        )
        .map(|found| found.ssids)
    };
    let entry = |ssid: &str, proto: &str| {
        format!("<IEEE80211><SSID>{ssid}</SSID><MinRSNProto>{proto}</MinRSNProto></IEEE80211>")
    };
    let listed = [
        entry("Uni A", "CCMP"),
        entry("old", "TKIP"),
        entry("a,b", "CCMP"),
        entry("a&#10;b=c", "CCMP"),
        entry(&"x".repeat(33), "CCMP"),
        entry("end\\", "CCMP"),
        entry("eduroam", "CCMP"),
        entry("eduroam", "CCMP"),
    ];
    assert_eq!(ssids(&listed.concat()).unwrap(), ["Uni A", "eduroam"]);
    let oid = "<IEEE80211><ConsortiumOID>5a03ba0000</ConsortiumOID></IEEE80211>";
    assert_eq!(ssids(oid).unwrap_err(), OPENROAMING_ONLY);
    let none = Vec::<String>::new();
    assert_eq!(ssids(&format!("{oid}<IEEE8023/>")).unwrap(), none);
    assert_eq!(ssids("").unwrap(), none);
}

#[test]
fn a_date_that_is_over_refuses_the_file() {
    let valid = |until: &str| {
        with(
            "<AuthenticationMethods>",
            &format!("<ValidUntil>{until}</ValidUntil><AuthenticationMethods>"),
        )
        .map(|_| ())
    };
    for good in [
        "2030-01-01T00:00:00Z",
        "2026-11-29T23:00:00-05:00",
        "2030-01-01T00:00:00",
        "2030-01-01",
        " ",
        "2030-01-01T00:00:00.5+01:00",
    ] {
        assert_eq!(valid(good), Ok(()), "{good}");
    }
    for over in ["2020-01-01T00:00:00Z", "2020-01-01"] {
        assert!(valid(over).unwrap_err().contains("is over"), "{over}");
    }
    assert!(valid("soon").unwrap_err().contains("not a date"));
}

#[test]
fn the_text_is_in_the_encoding_that_it_says() {
    let declared =
        |encoding: &str| format!("<?xml version='1.0' encoding='{encoding}'?>{}", usual());
    for good in ["utf-8", "UTF-8", "us-ascii", "ISO-8859-1"] {
        read(&declared(good)).unwrap();
    }
    let latin_1 = [declared("iso-8859-1").as_bytes(), b"<!-- \xe4 -->"].concat();
    assert!(parse(&latin_1, None, NOW).unwrap()[0].is_ok());
    assert!(
        parse(&[usual().as_bytes(), b"<!-- \xe4 -->"].concat(), None, NOW)
            .unwrap_err()
            .starts_with("not UTF-8 at byte ")
    );
    let marked = [b"\xef\xbb\xbf", usual().as_bytes()].concat();
    assert!(parse(&marked, None, NOW).unwrap()[0].is_ok());
    for (bad, why) in [
        (declared("windows-1252"), "in the encoding windows-1252"),
        (declared("\u{202e}x"), "in the encoding \u{fffd}x"),
        (declared("utf-16"), "in the encoding utf-16"),
    ] {
        let error = parse(bad.as_bytes(), None, NOW).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
    for bytes in [&b"\xff\xfe<\0"[..], b"\xfe\xff\0<", b"<\0?\0", b"\0<\0?"] {
        assert!(
            parse(bytes, None, NOW)
                .unwrap_err()
                .starts_with("in UTF-16")
        );
    }
}

/// Time and memory of each are bounded by its size.
#[test]
fn files_made_to_hurt_are_refused() {
    let deep = "<a>".repeat(1_000_000);
    let closed = format!("{}{}", "<a>".repeat(20_000), "</a>".repeat(20_000));
    let wide = format!("<a>{}</a>", "<b/>".repeat(100_000));
    let attributes: String = (0..200_000)
        .map(|number| format!(" a{number}=\"\""))
        .collect();
    let namespaces: String = (0..5_000)
        .map(|number| format!("<a xmlns:n{number}=\"u\">"))
        .collect();
    let billion =
        "<!DOCTYPE a [<!ENTITY b \"x\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;\">]><a>&c;</a>";
    let outside = "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/shadow\">]><a>&b;</a>";
    for (file, why) in [
        (deep.as_str(), "more than 50000"),
        (&closed, "not an eap-config"),
        (&wide, "more than 50000"),
        (&format!("<a{attributes}/>"), "more attributes"),
        (&namespaces, "more attributes"),
        (billion, "a DTD"),
        (outside, "a DTD"),
        ("<a>&b;</a>", "an entity that XML does not know, at 1:4"),
        (
            &" ".repeat(EAP_CONFIG_MAX_BYTES as usize + 1),
            "larger than 4 MiB",
        ),
        ("<EAPIdentityProviderList/>", "no EAPIdentityProvider"),
        ("", "not well-formed"),
        ("{}", "not well-formed"),
        ("<!DOCTYPE html><html>", "a web page"),
        (&usual()[..500], "cut off"),
    ] {
        let error = parse(file.as_bytes(), None, NOW).unwrap_err();
        assert!(error.starts_with(why), "{why}: {error}");
    }
}

/// What a file says of a person is in no text that is made of it, nor in an error.
#[test]
fn secrets_of_a_file_stay_in_it() {
    let secrets = "<UserName>SECRET</UserName><Password>SECRET</Password><Passphrase>SECRET</Passphrase><ClientCertificate format='PKCS12'>SECRET</ClientCertificate>";
    let found = with_in("ClientSideCredential", secrets).unwrap();
    assert!(!format!("{found:?}{}{}", found.ini(), found.pem()).contains("SECRET"));
    for broken in [
        "<Password>a&SECRET;</Password>",
        "<Password>a</SECRET>",
        "<Password SECRET>",
        "<Password a='SECRET' a='SECRET'/>",
        "<SECRET:a/>",
    ] {
        let error = with_in("ClientSideCredential", broken).unwrap_err();
        assert!(!error.contains("SECRET"), "{error}");
    }
}

#[test]
fn server_names_are_domain_names_one_after_the_other() {
    let names = |names: &[&str]| {
        let elements: String = names
            .iter()
            .map(|name| format!("<ServerID>{name}</ServerID>"))
            .collect();
        with("<ServerID>radius.a.example</ServerID>", &elements)
            .map(|found| found.domain_suffix_match)
    };
    assert_eq!(
        names(&["B.example", "a.example", "b.example", ""]).unwrap(),
        "b.example;a.example"
    );
    for bad in [
        "*.a.example",
        "example",
        "a example.org",
        "a.example;b.example",
        "a.example\\",
        "&#x202e;a.example",
    ] {
        assert!(
            names(&[bad]).unwrap_err().contains("not a domain name"),
            "{bad}"
        );
    }
    assert!(names(&[]).unwrap_err().starts_with("no ServerID"));
}
