//! Input: the section `login`, written by a login or a logout.

use std::net::IpAddr;

use jsonpipe::{Document, Exit, ExitContext, is_hidden};
use serde::Deserialize;

use crate::time::Time;

/// The section. [`need`] asks for the values that a line requires; the others may be absent.
#[derive(Debug, Deserialize)]
pub struct Login {
    pub authenticated: Option<bool>,
    pub session: Option<Text>,
    pub user: Option<Text>,
    pub realm: Option<Text>,
    pub reason: Option<Text>,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub duration_seconds: Option<u64>,
    pub links: Option<Vec<Link>>,
}

/// A link of the session.
#[derive(Debug, Deserialize)]
pub struct Link {
    /// All that it has had.
    pub addresses: Vec<IpAddr>,
}

/// Words that a person can see, and at least one.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Text(pub String);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Text, &'static str> {
        if text.is_empty() {
            Err("empty")
        } else if text.contains(is_hidden) {
            Err("holds a character that cannot be seen")
        } else {
            Ok(Text(text))
        }
    }
}

/// A value without which there is no line; status 65 names the key.
pub fn need<T>(value: Option<T>, key: &str) -> anyhow::Result<T> {
    value.exit(Exit::Data, || format!("login.{key}: missing"))
}

/// The addresses of all links, each once.
pub fn addresses(links: &[Link]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for address in links.iter().flat_map(|link| &link.addresses) {
        let address = address.to_string();
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// The base of the user's disk: the one that he has, or the one that he chose.
pub fn base(document: &Document) -> anyhow::Result<Option<String>> {
    #[derive(Deserialize)]
    struct Base {
        base: Option<Text>,
    }
    for section in ["volume", "choice"] {
        let read: Option<Base> = document.read(section)?;
        if let Some(Text(base)) = read.and_then(|read| read.base) {
            return Ok(Some(base));
        }
    }
    Ok(None)
}
