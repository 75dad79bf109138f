//! An institution's eap-config, as the eduroam CAT and others write it: XML in, descriptions of
//! realms out.
//!
//! The format is that of draft-winter-opsec-netconfig-metadata. Files are read as they are found:
//! the order of elements, and what else there is, says nothing. What a file says of one person (a
//! name, a password, a certificate for the client) is never looked at.

pub mod authorities;
pub mod description;
mod methods;
mod xml;

use std::borrow::Cow;

use jiff::tz::TimeZone;
use manifest::EAP_CONFIG_MAX_BYTES;
use roxmltree::Node;

use crate::realm::is_domain_name;
use authorities::Authorities;
use description::Description;
use xml::{child, children, content};

/// `REALM.ini` is the name of a file, which the kernel limits to 255 bytes, and `.REALM.ini.tmp` is
/// another one.
const REALM_MAX_BYTES: usize = 240;

/// What RADIUS takes for a name (RFC 2865, section 5).
const IDENTITY_MAX_BYTES: usize = 253;

/// Reads a file: one result for each institution in it, and why it is not one for a login by name
/// and password. `Err` when the whole file is none.
///
/// `realm` is the realm, instead of the one that the file names. `now` is in seconds since 1970.
pub fn parse(
    file: &[u8],
    realm: Option<&str>,
    now: i64,
) -> Result<Vec<Result<Description, String>>, String> {
    if file.len() as u64 > EAP_CONFIG_MAX_BYTES {
        return Err(format!("larger than {} MiB", EAP_CONFIG_MAX_BYTES >> 20));
    }
    let text = xml::decode(file)?;
    let tree = xml::parse(&text)?;
    let root = tree.root_element();
    if !root.has_tag_name("EAPIdentityProviderList") {
        return Err("not an eap-config: its root is not EAPIdentityProviderList".into());
    }
    let mut found = Vec::new();
    let mut only_elsewhere = None;
    for provider in children(root, "EAPIdentityProvider") {
        match networks(provider) {
            Networks::Elsewhere => only_elsewhere = Some(OPENROAMING_ONLY),
            Networks::Here(ssids) => found.push(describe(provider, realm, ssids, now)),
        }
    }
    match (found.is_empty(), only_elsewhere) {
        (false, _) => Ok(found),
        (true, Some(why)) => Err(why.into()),
        (true, None) => Err("no EAPIdentityProvider in it".into()),
    }
}

const OPENROAMING_ONLY: &str = "for OpenRoaming only: it names a ConsortiumOID, but no SSID";

/// The networks that an institution's credential is for.
enum Networks {
    /// With SSIDs of its own, if any.
    Here(Vec<String>),
    /// OpenRoaming, which is known by the id of a consortium.
    Elsewhere,
}

/// What `CredentialApplicability` says. That the cable is not named says nothing: it works there.
fn networks(provider: Node<'_, '_>) -> Networks {
    let applicability = children(provider, "CredentialApplicability");
    let entries = || applicability.clone().flat_map(|node| node.children());
    let names: Vec<_> = entries()
        .filter(|entry| entry.has_tag_name("IEEE80211"))
        .flat_map(|entry| children(entry, "SSID").map(move |ssid| (entry, content(ssid))))
        .collect();
    let wired = entries().any(|entry| entry.has_tag_name("IEEE8023"));
    if names.is_empty() && !wired && entries().any(|entry| child(entry, "ConsortiumOID").is_some())
    {
        return Networks::Elsewhere;
    }
    let mut ssids = Vec::new();
    for (entry, ssid) in names {
        let is_tkip = child(entry, "MinRSNProto").is_some_and(|proto| content(proto) == "TKIP");
        if !is_tkip && is_listed(&ssid) && !ssids.contains(&ssid) {
            ssids.push(ssid);
        }
    }
    Networks::Here(ssids)
}

/// Whether a name can stand in a list of a realm's file, and be an SSID.
fn is_listed(ssid: &str) -> bool {
    (1..=32).contains(&ssid.len())
        && !ssid.contains(',')
        && !ssid.ends_with('\\')
        && !ssid.chars().any(jsonpipe::is_hidden)
}

/// What is said of one institution.
fn describe(
    provider: Node<'_, '_>,
    realm: Option<&str>,
    ssids: Vec<String>,
    now: i64,
) -> Result<Description, String> {
    if let Some(until) = child(provider, "ValidUntil").map(content)
        && !until.is_empty()
    {
        let seconds = instant(&until).ok_or("ValidUntil: not a date and time")?;
        if seconds < now {
            return Err("its ValidUntil is over; get the institution's present file".into());
        }
    }
    let (method, eap, phase2) = methods::choose(provider)?;
    let server = child(method, "ServerSideCredential");
    let client = child(method, "ClientSideCredential");
    let named = Named::read(provider, client)?;
    let realm = match realm {
        Some(realm) => realm.to_owned(),
        None => named.realm()?.into_owned(),
    };
    let Authorities {
        certificates,
        left_out,
    } = authorities::choose(
        server.iter().flat_map(|server| children(*server, "CA")),
        now,
    )?;
    Ok(Description {
        realm,
        eap,
        phase2,
        anonymous_identity: named.outer,
        domain_suffix_match: server_names(server)?,
        subrealms: named.suffix.is_some() && !named.exactly,
        ssids,
        certificates,
        left_out,
    })
}

/// A date and time of XML Schema, in seconds since 1970; without a zone it is UTC.
fn instant(text: &str) -> Option<i64> {
    let zoned = text.parse::<jiff::Timestamp>();
    let at = zoned.or_else(|_| TimeZone::UTC.to_timestamp(text.parse()?));
    at.ok().map(|at| at.as_second())
}

/// What a file says of its users' names.
struct Named {
    /// `ID`, where that is a realm: it may also be `undefined`, or something else.
    id: Option<String>,
    /// The identity outside the tunnel, with a realm.
    outer: Option<String>,
    /// What the names of the users end in.
    suffix: Option<String>,
    /// Whether that is all that is behind the `@`.
    exactly: bool,
}

impl Named {
    fn read(provider: Node<'_, '_>, client: Option<Node<'_, '_>>) -> Result<Named, String> {
        let said = |element| {
            let text = content(child(client?, element)?);
            (!text.is_empty()).then_some(text)
        };
        let suffix = match said("InnerIdentitySuffix") {
            Some(suffix) => Some(
                realm(suffix.strip_prefix('@').unwrap_or(&suffix))
                    .ok_or("InnerIdentitySuffix: not a domain name")?,
            ),
            None => None,
        };
        Ok(Named {
            id: provider.attribute("ID").and_then(realm),
            outer: said("OuterIdentity").filter(|outer| is_identity(outer)),
            suffix,
            exactly: matches!(said("InnerIdentityHint").as_deref(), Some("true" | "1")),
        })
    }

    /// The realm of the users. The suffix is about their names; the identity outside is what the
    /// servers on the way go by; the id may be anything.
    fn realm(&self) -> Result<Cow<'_, str>, String> {
        let outer = self.outer.as_ref().and_then(|outer| {
            let (_, behind) = outer.rsplit_once('@')?;
            realm(behind)
        });
        (self.suffix.as_deref().map(Cow::Borrowed))
            .or(outer.map(Cow::Owned))
            .or(self.id.as_deref().map(Cow::Borrowed))
            .ok_or_else(|| "it names no realm; import it alone, with --realm".into())
    }
}

/// A realm as a user's name has it, in lower case; `None` when it is none.
pub fn realm(text: &str) -> Option<String> {
    let realm = text.trim().to_ascii_lowercase();
    (is_domain_name(&realm) && realm.contains('.') && realm.len() <= REALM_MAX_BYTES)
        .then_some(realm)
}

/// Whether an identity gets to its realm, and shows nothing strange on the way. `@realm` does.
fn is_identity(text: &str) -> bool {
    text.len() <= IDENTITY_MAX_BYTES
        && text.matches('@').count() == 1
        && text
            .rsplit_once('@')
            .is_some_and(|(_, behind)| realm(behind).is_some())
        && !text
            .chars()
            .any(|c| c.is_whitespace() || jsonpipe::is_hidden(c))
}

/// The names of the servers, as a realm's file has them.
fn server_names(server: Option<Node<'_, '_>>) -> Result<String, String> {
    let mut names: Vec<String> = Vec::new();
    for element in server
        .iter()
        .flat_map(|server| children(*server, "ServerID"))
    {
        let name = content(element).to_ascii_lowercase();
        if name.is_empty() || names.contains(&name) {
            continue;
        }
        if !is_domain_name(&name) || !name.contains('.') {
            return Err(format!(
                "ServerID {}: not a domain name",
                jsonpipe::shown(&name)
            ));
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err("no ServerID: any server of the CA could ask for passwords".into());
    }
    Ok(names.join(";"))
}

#[cfg(test)]
mod tests;
