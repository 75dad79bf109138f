//! Output: what became of a set of realms.

use std::fmt;

use serde::Serialize;

/// The sections `import` and `update`.
#[derive(Debug, Default, Serialize)]
pub struct Set {
    /// Whether the set is another one now.
    pub changed: bool,
    /// Of an update, which set it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The realms that were read, and are in the set.
    pub imported: Vec<Imported>,
    /// Those of them that are believed for another CA or server than before.
    pub changes: Vec<Changed>,
    /// Realms whose file is the site's, and stays.
    pub kept: Vec<Kept>,
    /// Of an update, realms that are no longer in the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Vec<String>>,
    /// What was not taken.
    pub refused: Vec<Refused>,
}

/// A realm that is in the set.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// Its name.
    pub realm: String,
    /// The eap-config.
    pub file: String,
    /// The method outside, as in the realm's file.
    pub eap: &'static str,
    /// The method inside.
    pub phase2: &'static str,
    /// Certificates of the eap-config that are not trusted, and why.
    pub left_out: Vec<String>,
}

/// A realm that another server could answer for than before.
#[derive(Debug, Serialize)]
pub struct Changed {
    /// Its name.
    pub realm: String,
    /// The CAs before.
    pub old_ca_certificates: Vec<Ca>,
    /// The CAs now.
    pub new_ca_certificates: Vec<Ca>,
    /// The names of the servers before, where they changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_server_names: Option<Vec<String>>,
    /// The names of the servers now, where they changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_server_names: Option<Vec<String>>,
}

/// For people: what changed, old and new.
impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |certificates: &[Ca]| {
            let shown: Vec<String> = certificates
                .iter()
                .map(|ca| format!("{} (until {})", ca.subject, ca.not_after))
                .collect();
            shown.join(", ")
        };
        let old = list(&self.old_ca_certificates);
        let new = list(&self.new_ca_certificates);
        write!(f, "CA {old} -> {new}")?;
        match (&self.old_server_names, &self.new_server_names) {
            (Some(old), Some(new)) => {
                write!(f, "; servers {} -> {}", old.join(", "), new.join(", "))
            }
            _ => Ok(()),
        }
    }
}

/// One certificate of a CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ca {
    /// Whose it is.
    pub subject: String,
    /// Its last second, RFC 3339.
    pub not_after: String,
}

/// A realm whose file no import replaces.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Its name.
    pub realm: String,
    /// The file that counts.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// A file, or one realm of it, that was not taken.
#[derive(Debug, Serialize)]
pub struct Refused {
    /// The eap-config.
    pub file: String,
    /// The realm, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Why, in words.
    pub reason: String,
}

/// The section `publication`.
#[derive(Debug, Serialize)]
pub struct Publication {
    /// Whether another set is published now.
    pub changed: bool,
    /// Which set is; absent when none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The realms that the files describe.
    pub realms: Vec<String>,
    /// Those of the set before that are no longer described.
    pub removed: Vec<String>,
    /// The files of the set before that are refused now. Unless there is none, nothing is published.
    pub lost: Vec<String>,
    /// What was not taken.
    pub refused: Vec<Refused>,
}
