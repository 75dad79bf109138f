//! The private key of a host.

use std::fmt;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer, SigningKey};
use jsonpipe::Exit;
use zeroize::Zeroizing;

/// The private key of the host, which signs its reports and identifies it in TLS. Wiped when
/// dropped, never shown.
pub struct Key {
    pem: Zeroizing<String>,
    key: SigningKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Reads the key from PEM, as `openssl genpkey -algorithm ed25519` writes it. Status as for
    /// [`secret_file::read`], and 78 when it is not such a key.
    pub fn read(path: &Path) -> anyhow::Result<Key> {
        let pem = secret_file::read(path)?;
        let key = SigningKey::from_pkcs8_pem(&pem).map_err(|_| {
            let path = path.display();
            Exit::Config.error(format_args!(
                "reading {path}: not an ed25519 key; openssl genpkey -algorithm ed25519 makes one"
            ))
        })?;
        Ok(Key { pem, key })
    }

    /// The key's text, for TLS.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn sign(&self, text: &str) -> String {
        BASE64_STANDARD.encode(self.key.sign(text.as_bytes()).to_bytes())
    }
}
