//! The token that represents a user in paths.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use sha3::{Digest, Sha3_224};

/// 224 bits, six per character.
const LENGTH: usize = 38;

/// SHA3-224 of the user's full name, in Base64Url without padding: 38 characters whatever the name,
/// so that no name can build a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(String);

impl Token {
    /// The token of a user, by the name that the login made canonical: it knows whether upper and
    /// lower case are the same user.
    pub fn of(user: &str) -> Token {
        Token(BASE64_URL_SAFE_NO_PAD.encode(Sha3_224::digest(user)))
    }

    /// Parses the name of a directory, if it can be a token.
    pub fn parse(name: &str) -> Option<Token> {
        let fits = name.len() == LENGTH
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        fits.then(|| Token(name.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_sha3_224_in_base64url() {
        // python3:
        // base64.urlsafe_b64encode(hashlib.sha3_224(name.encode()).digest()).rstrip(b"=")
        for (user, token) in [
            (
                "alice@uni-a.example",
                "T36T7_9pSGo3VWMdGbk9-qTCynRXmZCZlGbo-w",
            ),
            (
                "ALICE@UNI-A.EXAMPLE",
                "9Tlql6ufewO9CJR5GWqIbdCfqPmgOh4qYyAZIg",
            ),
            (
                "bob@uni-b.example",
                "9o-xwKph7b1pRFcuLv8x3dDL6B1pky6AXYSBLQ",
            ),
            ("../../x", "VkuIG4eVRDGbjir3jPk7PJk49ncORpAwrgsuSQ"),
            (
                "João.Ação@Uni-A.example",
                "pEBMIWfHa-x5cFVUbOVm-wf9jg6v1FFSIMFXrA",
            ),
            (&"a".repeat(4096), "nM99ngAvjl-G6c73Akvi9Z_djxadrtzkDuLi4w"),
        ] {
            assert_eq!(Token::of(user).as_str(), token, "{user}");
        }
    }

    #[test]
    fn only_a_token_is_one() {
        assert!(Token::parse("xz8ZaIS-3Ri1Mqeu0oa7DMJgDGuZbdw9tOI5EA").is_some()); // Figure 4 of the thesis
        for name in [
            "",
            "lost+found",
            "..",
            "xz8ZaIS-3Ri1Mqeu0oa7DMJgDGuZbdw9tOI5EA=",
            "xz8ZaIS-3Ri1Mqeu0oa7DMJgDGuZbdw9tOI5E/",
        ] {
            assert!(Token::parse(name).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_gives_a_token(user in "\\PC{1,60}") {
            let token = Token::of(&user);
            prop_assert_eq!(Token::parse(token.as_str()), Some(token));
        }
    }
}
