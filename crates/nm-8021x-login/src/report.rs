//! Output.

use jsonpipe::Missing;
use realms::Realm;
use serde::Serialize;

/// The section `login`: the answer.
#[derive(Debug, Default, Serialize)]
pub struct Login {
    /// Whether this call opened (login) or closed (logout) a port.
    pub changed: bool,
    /// The user's canonical name: what the realm's file makes of the one that was typed. Absent when
    /// that was not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The realm whose file decided, in lower case; where there is none, that of the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How the answer was found: `8021x`. Absent when nobody was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// Names this login; the UUID of its NetworkManager profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whether the user is who he says, and the port open.
    pub authenticated: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What the supplicant said of it, in its own words. Absent where it said nothing that the
    /// reason does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When the login began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The links that are open by this login, or were closed by this logout.
    pub links: Vec<Link>,
    /// What of the above is not known, and why.
    pub missing: Vec<Missing>,
}

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not of the form `user@realm`.
    BadUserName,
    /// No `realms.d/REALM.ini`.
    UnknownRealm,
    /// The realm's file does not let this user log in here.
    NotAllowed,
    /// The network refused the name or the password; RADIUS does not say which.
    Rejected,
    /// The server that answered is not the realm's: another CA, another name, a date that is over.
    /// Perhaps a trap.
    ServerNotTrusted,
    /// The exchange ended before name and password were asked for: no EAP method or TLS version
    /// that both sides take.
    NoAgreement,
    /// No cable, or the cable was pulled.
    NoCarrier,
    /// Neither the switch nor the RADIUS server gave an answer.
    Timeout,
}

/// One link of a session.
#[derive(Debug, Serialize)]
pub struct Link {
    /// The network interface.
    pub interface: String,
    /// `ethernet`.
    pub kind: &'static str,
    /// The UUID of its NetworkManager profile. Absent in a dry run, which makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The EAP method that was used: `ttls`, `peap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eap: Option<&'static str>,
    /// The subject of the server certificate that was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_subject: Option<String>,
    /// The addresses that the link got, without prefix lengths.
    pub addresses: Vec<String>,
    /// Whether traffic leaves by this link. Absent when it does not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    /// From the activation to the supplicant's verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict_seconds: Option<f64>,
}

impl Link {
    /// A link that nothing is known of but what it was asked.
    pub fn tried(interface: &str, profile: Option<String>, realm: &Realm) -> Link {
        Link {
            eap: Some(realm.eap.name()),
            ..Link::closed(interface.to_owned(), profile)
        }
    }

    /// A link that a logout closed.
    pub fn closed(interface: String, profile: Option<String>) -> Link {
        Link {
            interface,
            kind: "ethernet",
            profile,
            eap: None,
            server_subject: None,
            addresses: Vec::new(),
            primary: None,
            verdict_seconds: None,
        }
    }
}

/// The section `vouchers`.
#[derive(Debug, Serialize)]
pub struct Vouchers {
    /// Whether they were made.
    pub changed: bool,
    /// The realm of their names.
    pub realm: String,
    /// When the RADIUS server begins to refuse them.
    pub expires_at: String,
    /// Their names. None in a dry run, which makes none.
    pub users: Vec<String>,
}
