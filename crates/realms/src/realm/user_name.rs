//! The name that a user types.

/// RFC 2865, section 5: what an attribute can hold.
pub const USER_NAME_MAX_BYTES: usize = 253;

/// A user name taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct UserName {
    /// What the RADIUS server is told, as typed.
    pub identity: String,
    /// The whole name in lower case: for who has no realm's file, which makes it canonical.
    pub user: String,
    /// What follows the `@`, in lower case.
    pub realm: String,
}

impl UserName {
    /// What precedes the `@`, as typed.
    pub fn local(&self) -> &str {
        self.identity.split('@').next().unwrap_or_default()
    }

    /// `None` unless there is exactly one `@`, something on both sides of it, nothing invisible, no
    /// character with another spelling, no Windows domain in front, and room for it in RADIUS.
    pub fn parse(name: &str) -> Option<UserName> {
        let (local, realm) = name.split_once('@')?;
        // With a character that shows nothing one name can be made to look like another.
        let visible = !name
            .chars()
            .any(|c| c.is_whitespace() || jsonpipe::is_hidden(c));
        if local.is_empty()
            || realm.is_empty()
            || realm.contains('@')
            // RFC 7542 has none in a name. Servers of Active Directory take DOMAIN\alice for alice,
            // who would be two people here, and only one of them at the gate.
            || local.contains('\\')
            || !visible
            || !is_one_spelling(name)
            || name.len() > USER_NAME_MAX_BYTES
        {
            return None;
        }
        Some(UserName {
            identity: name.to_owned(),
            user: name.to_lowercase(),
            realm: realm.to_lowercase(),
        })
    }
}

/// Whether no character has another spelling that a server may take for the same one, as full-width
/// letters have (NFKC, Unicode Standard Annex 15). Two spellings would make two people of one.
pub fn is_one_spelling(text: &str) -> bool {
    unicode_normalization::is_nfkc(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_has_one_at_and_two_sides() {
        let name = UserName::parse("Alice@Uni-A.example").unwrap();
        assert_eq!(
            (name.identity.as_str(), name.user.as_str()),
            ("Alice@Uni-A.example", "alice@uni-a.example")
        );
        assert_eq!(name.realm, "uni-a.example");
        let long = format!("{}@uni-a.example", "a".repeat(4096));
        for bad in [
            &long,
            "",
            "alice",
            "@",
            "alice@",
            "@uni-a.example",
            "a@b@c",
            "a b@c",
            "a\0@c",
            "a@c\n",
            "../../x",
            r"UNI\alice@uni-a.example",
            "a\u{200b}@c",
            "a\u{202e}@c",
            "a\u{3164}@c",
            "\u{34f}a@c",
            "\u{ff41}lice@c",
            "\u{212a}arl@c",
            "\u{fb01}n@c",
            "jo\u{308}rg@c",
            "alice\u{ff20}c",
            "alice@\u{ff43}",
        ] {
            assert_eq!(UserName::parse(bad), None, "{bad:?}");
        }
        assert!(UserName::parse("j\u{f6}rg@c").is_some());
    }
}
