//! Any file: it is read or refused, and its realm comes back from the reader.

use proptest::prelude::*;

use super::*;

/// What a file can have between two tags.
fn fragments() -> impl Strategy<Value = String> {
    let tags = [
        "EAPIdentityProviderList",
        "EAPIdentityProvider",
        "AuthenticationMethods",
        "AuthenticationMethod",
        "EAPMethod",
        "Type",
        "ServerSideCredential",
        "CA",
        "ServerID",
        "ClientSideCredential",
        "OuterIdentity",
        "InnerIdentitySuffix",
        "InnerAuthenticationMethod",
        "NonEAPAuthMethod",
        "CredentialApplicability",
        "IEEE80211",
        "SSID",
        "ValidUntil",
    ];
    let tag = prop::sample::select(tags.to_vec());
    let piece = prop_oneof![
        tag.clone().prop_map(|tag| format!("<{tag}>")),
        tag.clone().prop_map(|tag| format!("</{tag}>")),
        tag.prop_map(|tag| format!("<{tag} ID='a.example' format='X.509'/>")),
        prop::sample::select(vec![
            "21",
            "25",
            "26",
            "1",
            "a.example",
            "@a.example",
            "2030-01-01",
            "MII",
            "<![CDATA[",
            "]]>",
            "&amp;",
            "&x;",
            "<!--",
            "-->",
            "<?xml encoding='x'?>",
            "<!DOCTYPE a>"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_values_come_back_from_the_reader(
        ssid in "\\PC{0,33}|[a-z ,;=\\[\\]#]{1,10}",
        outer in "\\PC{0,20}@b[.]example|\\PC{0,20}",
        server in "[a-zA-Z]{1,9}[.]a[.]example|\\PC{0,20}",
        suffix in "[a-zA-Z-]{1,9}[.]example|\\PC{0,20}",
    ) {
        let text = |value: &str| value.replace('&', "&amp;").replace('<', "&lt;");
        let whole = usual()
            .replace("radius.a.example", &text(&server))
            .replace(
                "<ClientSideCredential>",
                &format!(
                    "<ClientSideCredential><OuterIdentity>{}</OuterIdentity><InnerIdentitySuffix>{}</InnerIdentitySuffix>",
                    text(&outer),
                    text(&suffix)
                ),
            )
            .replace(
                "<AuthenticationMethods>",
                &format!(
                    "<CredentialApplicability><IEEE80211><SSID>{}</SSID></IEEE80211></CredentialApplicability><AuthenticationMethods>",
                    text(&ssid)
                ),
            );
        if let Ok(found) = read(&whole) {
            round_trip(&found);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, None, NOW);
    }

    #[test]
    fn any_pieces_are_read_or_refused(text in fragments()) {
        let _ = parse(text.as_bytes(), None, NOW);
    }

    #[test]
    fn any_change_of_a_usual_file_is_read_or_refused(at in 0usize..2000, length in 0usize..40, piece in fragments()) {
        let mut text = usual();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.replace_range(at..end, &piece);
        for found in parse(text.as_bytes(), None, NOW).into_iter().flatten().flatten() {
            round_trip(&found);
        }
    }
}
