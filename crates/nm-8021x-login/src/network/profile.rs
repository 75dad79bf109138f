//! The NetworkManager profile of a login, and the proof that NetworkManager took it as it was
//! meant.
//!
//! Keys and types: nm-settings-dbus(5). `AddAndActivateConnection2` drops a whole setting when one
//! value has the wrong type and activates the rest: measured with NetworkManager 1.42, a `ca-cert`
//! sent as a string gave a plain profile and "success" with a wrong password. So what is there
//! afterwards is compared with what was sent.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use realms::{Phase2, Realm};
use zbus::{OwnedVariant, Variant};

use super::network_manager::{Device, Kind};

/// The id of every profile that login makes, and by which logout knows them.
pub const PROFILE_ID: &str = "labtools login";

/// Settings as NetworkManager takes them.
pub type Settings<'a> = BTreeMap<&'static str, BTreeMap<&'static str, Variant<'a>>>;

/// Settings as NetworkManager gives them.
pub type OwnedSettings = HashMap<String, HashMap<String, OwnedVariant>>;

/// NM_SETTING_SECRET_FLAG_AGENT_OWNED: NetworkManager asks the secret agent, and stores nothing.
const SECRET_AGENT_OWNED: u32 = 1;

/// NM_SETTING_802_1X_AUTH_FLAGS_TLS_1_0_DISABLE and ..._1_1_DISABLE: whatever the system's OpenSSL
/// would still take.
const TLS_1_2_OR_NEWER: u32 = 0x1 | 0x2;
/// NM_SETTING_802_1X_AUTH_FLAGS_TLS_1_3_ENABLE, which NetworkManager knows since 1.42:
/// wpa_supplicant uses 1.3 only where it is told to.
const TLS_1_3_ENABLE: u32 = 0x100;

/// NetworkManager's own: the cable carries the traffic, wireless is the spare.
const WIRED_METRIC: i64 = 100;
const WIRELESS_METRIC: i64 = 600;

const WIRELESS_SECURITY: &str = "802-11-wireless-security";

/// For NetworkManager to give up by itself, in seconds: after us, so that the reason is ours to
/// find.
const AUTH_TIMEOUT_SECONDS: i32 = 60;

/// The profile of a login.
///
/// There is no password in it: with `persist=volatile` NetworkManager would write it below `/run`
/// in clear text. And no `802-1x.optional`: with it a wrong password activates after a timeout.
/// `rank` is the link's place among those of the login: traffic leaves by the lowest one.
pub fn settings<'a>(
    uuid: &'a str,
    device: &'a Device,
    rank: u32,
    identity: &'a str,
    realm: &'a Realm,
) -> Settings<'a> {
    let tls_1_3 = if realm.tls13 { TLS_1_3_ENABLE } else { 0 };
    let (phase2_key, phase2) = match realm.phase2 {
        Phase2::Pap => ("phase2-auth", "pap"),
        Phase2::Mschapv2 => ("phase2-auth", "mschapv2"),
        Phase2::EapMschapv2 => ("phase2-autheap", "mschapv2"),
    };
    let automatic = || {
        let metric = i64::from(rank)
            + match device.kind {
                Kind::Ethernet => WIRED_METRIC,
                Kind::Wifi { .. } => WIRELESS_METRIC,
            };
        BTreeMap::from([
            ("method", Variant::from("auto")),
            ("route-metric", metric.into()),
        ])
    };
    let mut settings = BTreeMap::from([
        (
            "connection",
            BTreeMap::from([
                ("id", Variant::from(PROFILE_ID)),
                ("uuid", uuid.into()),
                ("type", device.kind.setting().into()),
                ("interface-name", device.interface.as_str().into()),
                ("autoconnect", false.into()),
            ]),
        ),
        (
            "802-1x",
            BTreeMap::from([
                ("eap", Variant::from(vec![realm.eap.name()])),
                ("identity", identity.into()),
                (
                    "anonymous-identity",
                    realm.anonymous_identity.as_str().into(),
                ),
                ("ca-cert", certificate(&realm.ca_cert).into()),
                (
                    "domain-suffix-match",
                    realm.domain_suffix_match.as_str().into(),
                ),
                ("phase1-auth-flags", (TLS_1_2_OR_NEWER | tls_1_3).into()),
                (phase2_key, phase2.into()),
                ("password-flags", SECRET_AGENT_OWNED.into()),
                ("auth-timeout", AUTH_TIMEOUT_SECONDS.into()),
            ]),
        ),
        ("ipv4", automatic()),
        ("ipv6", automatic()),
    ]);
    let link = match &device.kind {
        Kind::Ethernet => BTreeMap::new(),
        Kind::Wifi { ssid } => {
            settings.insert(
                WIRELESS_SECURITY,
                BTreeMap::from([("key-mgmt", "wpa-eap".into())]),
            );
            BTreeMap::from([("ssid", ssid.as_bytes().to_vec().into())])
        }
    };
    settings.insert(device.kind.setting(), link);
    settings
}

/// A certificate is bytes: the path as a URI with its terminating NUL.
fn certificate(path: &Path) -> Vec<u8> {
    [b"file://", path.as_os_str().as_bytes(), b"\0"].concat()
}

/// What NetworkManager has otherwise than it was sent, in the settings that decide who is let in.
/// Empty is good.
///
/// `802-1x` must be the same key by key, with nothing added; of the others the keys that were sent.
pub fn differences(sent: &Settings<'_>, held: &OwnedSettings) -> Vec<String> {
    let mut differences = Vec::new();
    let nothing = HashMap::new();
    for (setting, keys) in sent {
        if setting.starts_with("ip") {
            continue; // nobody is let in by an address
        }
        let held = held.get(*setting).unwrap_or(&nothing);
        for (key, value) in keys {
            // NetworkManager leaves out what has its default value, which `autoconnect=false` is
            // not.
            if held.get(*key).is_none_or(|held| **held != *value) {
                differences.push(format!("{setting}.{key}"));
            }
        }
        if *setting == "802-1x" {
            differences.extend(
                held.keys()
                    .filter(|key| !keys.contains_key(key.as_str()))
                    .map(|key| format!("{setting}.{key}")),
            );
        }
    }
    differences
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use realms::Eap;

    /// A realm, for tests.
    pub fn realm() -> Realm {
        Realm {
            realm: "a.example".into(),
            user: "alice@a.example".into(),
            admitted: true,
            tls13: false,
            ssids: vec!["eduroam".into()],
            wired: true,
            eap: Eap::Ttls,
            phase2: Phase2::Mschapv2,
            anonymous_identity: "anonymous@a.example".into(),
            ca_cert: "/etc/ca.pem".into(),
            domain_suffix_match: "radius.a.example".into(),
        }
    }

    fn wired() -> Device {
        Device {
            path: "/1".into(),
            interface: "eth0".into(),
            kind: Kind::Ethernet,
        }
    }

    fn held(sent: &Settings<'_>) -> OwnedSettings {
        let own = |value: &Variant<'_>| value.try_to_owned().unwrap();
        sent.iter()
            .map(|(name, keys)| {
                (
                    (*name).into(),
                    keys.iter()
                        .map(|(key, value)| ((*key).into(), own(value)))
                        .collect(),
                )
            })
            .collect()
    }

    #[test]
    fn the_password_is_not_in_the_profile_and_the_certificate_is_bytes() {
        let (realm, device) = (realm(), wired());
        let sent = settings("u", &device, 0, "alice@a.example", &realm);
        assert!(
            !sent["802-1x"].contains_key("password") && !sent["802-1x"].contains_key("optional")
        );
        assert_eq!(
            sent["802-1x"]["ca-cert"],
            Variant::from(b"file:///etc/ca.pem\0".to_vec())
        );
        assert_eq!(sent["802-1x"]["password-flags"], Variant::from(1u32));
    }

    #[test]
    fn profile_has_the_methods_of_the_realm_and_no_tls_before_1_2() {
        let device = wired();
        let methods = |phase2, tls13| {
            let realm = Realm {
                phase2,
                tls13,
                ..realm()
            };
            let sent = settings("u", &device, 0, "alice@a.example", &realm);
            let inner = ["phase2-auth", "phase2-autheap"]
                .map(|key| sent["802-1x"].get(key).map(|value| format!("{value:?}")));
            (
                inner,
                sent["802-1x"]["phase1-auth-flags"]
                    == Variant::from(if tls13 { 0x103u32 } else { 3 }),
            )
        };
        let inner = |text: &str| Some(format!("{:?}", Variant::from(text)));
        assert_eq!(methods(Phase2::Pap, false), ([inner("pap"), None], true));
        assert_eq!(
            methods(Phase2::Mschapv2, true),
            ([inner("mschapv2"), None], true)
        );
        assert_eq!(
            methods(Phase2::EapMschapv2, false),
            ([None, inner("mschapv2")], true)
        );
    }

    #[test]
    fn a_wireless_profile_is_for_its_network_alone() {
        let (realm, mut device) = (realm(), wired());
        device.kind = Kind::Wifi {
            ssid: "eduroam".into(),
        };
        let sent = settings("u", &device, 1, "alice@a.example", &realm);
        assert_eq!(
            sent["802-11-wireless"]["ssid"],
            Variant::from(b"eduroam".to_vec())
        );
        assert_eq!(
            sent["802-11-wireless-security"]["key-mgmt"],
            Variant::from("wpa-eap")
        );
        assert_eq!(sent["ipv4"]["route-metric"], Variant::from(601i64));
        let mut open = held(&sent);
        open.remove("802-11-wireless-security");
        assert_eq!(
            differences(&sent, &open),
            ["802-11-wireless-security.key-mgmt"]
        );
    }

    #[test]
    fn changes_by_networkmanager_are_found() {
        let (realm, device) = (realm(), wired());
        let sent = settings("u", &device, 0, "alice@a.example", &realm);
        assert!(differences(&sent, &held(&sent)).is_empty());

        let mut plain = held(&sent);
        plain.remove("802-1x");
        assert_eq!(differences(&sent, &plain).len(), sent["802-1x"].len());

        let mut optional = held(&sent);
        optional
            .get_mut("802-1x")
            .unwrap()
            .insert("optional".into(), true.into());
        assert_eq!(differences(&sent, &optional), ["802-1x.optional"]);

        let mut weaker = held(&sent);
        weaker.get_mut("802-1x").unwrap().insert(
            "phase2-auth".into(),
            Variant::from("pap").try_to_owned().unwrap(),
        );
        assert_eq!(differences(&sent, &weaker), ["802-1x.phase2-auth"]);
    }
}
