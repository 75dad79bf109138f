//! Output.

use jsonpipe::Missing;
use serde::{Deserialize, Serialize};

/// The section `login`: the answer.
#[derive(Debug, Default, Serialize)]
pub struct Login {
    /// Whether this call opened (login) or closed (logout) a port, or has a device autoconnect as
    /// before.
    pub changed: bool,
    /// The user's canonical name: what the realm's file makes of the one that was typed. Absent
    /// when that was not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The realm whose file decided, in lower case; where there is none, that of the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How the answer was found: `8021x`. Absent when nobody was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// Names this login; the UUID of its first NetworkManager profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whether the user is who he says, and the port open.
    pub authenticated: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What the supplicant said of it, in its own words. Absent where it printed nothing that the
    /// reason does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When the login began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When the session ended, of a logout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How long the session was, by a clock that nobody sets and that does not stand still while
    /// the machine sleeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// The links that were tried by this login, or that the session had.
    pub links: Vec<Link>,
    /// What of the above is not known, and why.
    pub missing: Vec<Missing>,
}

/// Why a login was refused. Of several links' reasons the first in this order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The server that answered is of another CA. Perhaps a trap.
    ServerNotTrusted,
    /// The server that answered is of the realm's CA, but has another name. Perhaps a trap.
    ServerWrongName,
    /// The server's certificate is over, or not valid yet; or this computer's clock is wrong.
    ServerExpired,
    /// The exchange ended before name and password were asked for: no EAP method or TLS version
    /// that both sides take.
    NoAgreement,
    /// The exchange ended before a server of the realm had a word: nobody behind the switch knows
    /// the realm.
    RealmRejected,
    /// The switch asked for a name, and no verdict came.
    ServerSilent,
    /// Nobody on the link asked for a name.
    #[serde(rename = "no_8021x")]
    No8021x,
    /// No cable and no wireless network of the realm, or the cable was pulled.
    NoCarrier,
}

/// One link of a session.
#[derive(Debug, Default, Serialize)]
pub struct Link {
    /// The network interface.
    pub interface: String,
    /// `ethernet` or `wifi`.
    pub kind: String,
    /// The name of the wireless network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssid: Option<String>,
    /// The UUID of its NetworkManager profile. Absent in a dry run, which makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Whether the network accepted the user on this link, of a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<bool>,
    /// Why not, where that is known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What the supplicant said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The EAP method: `ttls`, `peap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eap: Option<&'static str>,
    /// The subject of the certificate that the server showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_subject: Option<String>,
    /// The addresses that the link got, without prefix lengths; of a logout all that it ever had.
    pub addresses: Vec<String>,
    /// Whether traffic leaves by this link. Absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    /// Whether the device does not autoconnect as before the login, though its port is closed, of a
    /// logout. Absent when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrestored: Option<bool>,
    /// From the activation to the supplicant's verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict_seconds: Option<f64>,
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
