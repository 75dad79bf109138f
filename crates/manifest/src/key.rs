//! The keys: one signs on the server; several may be valid on the machines, each for one kind of
//! image.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use jsonpipe::{Exit, ExitContext, io_error};

use crate::description::Kind;

/// A key's PEM file has 113 or 119 bytes; a much longer file is not a key.
const PEM_MAX_BYTES: u64 = 4096;

/// An ed25519 signature, RFC 8032.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(ed25519_dalek::Signature);

impl Signature {
    /// Takes 64 bytes; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Signature> {
        ed25519_dalek::Signature::from_slice(bytes)
            .ok()
            .map(Signature)
    }

    /// Its 64 bytes, as in a `.sig` file.
    pub fn to_bytes(self) -> [u8; 64] {
        self.0.to_bytes()
    }
}

/// The public keys for one kind of image.
#[derive(Clone, Debug)]
pub struct Keys {
    kind: Kind,
    /// Each key with the name of its file.
    keys: Vec<(String, ed25519_dalek::VerifyingKey)>,
}

impl Keys {
    /// Reads the keys for a kind, such as `base-*.pub`, in a directory: ed25519, PEM, as `openssl
    /// pkey -pubout` writes it. Sorted by name.
    ///
    /// Status 78 when there is none, or an invalid one: a machine without keys must not accept any
    /// image.
    pub fn read(directory: &Path, kind: Kind) -> anyhow::Result<Keys> {
        let failed = |error| {
            io_error(
                error,
                |_| Exit::Config,
                format_args!("reading the keys in {}", directory.display()),
            )
        };
        let mut keys = Vec::new();
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Exit::Config.error(format_args!(
                    "reading the keys in {}: no such directory; make it, with the publisher's public key as {}-NAME.pub",
                    directory.display(),
                    kind.keys()
                )));
            }
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name
                .strip_prefix(kind.keys())
                .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".pub"))
            {
                keys.push((name.to_owned(), read_public(&directory.join(name))?));
            }
        }
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        if keys.is_empty() {
            return Err(Exit::Config.error(format_args!(
                "reading the keys in {}: no {}-*.pub; put the publisher's public key there: openssl pkey -in KEY -pubout",
                directory.display(),
                kind.keys()
            )));
        }
        Ok(Keys { kind, keys })
    }

    /// The kind that the keys are for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a machine with these keys accepts signatures of this one.
    pub fn accept(&self, key: &SigningKey) -> bool {
        const PROBE: &[u8] = b"is this signature believed?\n"; // no JSON, so never a manifest
        self.verify(PROBE, &key.sign(PROBE))
    }

    /// Whether one of them made the signature. Weak keys and non-canonical signatures are refused.
    pub(crate) fn verify(&self, bytes: &[u8], signature: &Signature) -> bool {
        self.keys
            .iter()
            .any(|(_, key)| key.verify_strict(bytes, &signature.0).is_ok())
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.keys.iter().map(|(name, _)| name.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}

fn read_public(path: &Path) -> anyhow::Result<ed25519_dalek::VerifyingKey> {
    // A pipe would keep its reader waiting.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(Exit::Config.error(format_args!("reading {}: not a file", path.display())));
    }
    let file = File::open(path).exit(Exit::Config, || format!("reading {}", path.display()))?;
    let mut text = String::new();
    file.take(PEM_MAX_BYTES)
        .read_to_string(&mut text)
        .exit(Exit::Config, || format!("reading {}", path.display()))?;
    ed25519_dalek::VerifyingKey::from_public_key_pem(&text).map_err(|_| {
        Exit::Config.error(format_args!(
            "reading {}: not an ed25519 public key in PEM",
            path.display()
        ))
    })
}

/// Whether a file begins as a public key; no more of it is read, for it may be the private one.
fn is_public(path: &Path) -> bool {
    const LABEL: &[u8] = b"-----BEGIN PUBLIC KEY-----";
    // A pipe would keep its reader waiting.
    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let mut start = [0; LABEL.len()];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| start == LABEL)
}

/// The private key. Wiped from memory when dropped; never shown.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Reads the key from PEM, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// Status as for [`secret_file::read`], and 78 when it is not such a key.
    pub fn read(path: &Path) -> anyhow::Result<SigningKey> {
        if is_public(path) {
            return Err(Exit::Config.error(format_args!(
                "reading {}: a public key; the private one signs",
                path.display()
            )));
        }
        let text = secret_file::read(path)?;
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&text);
        key.map(SigningKey).map_err(|_| {
            let way_out = "openssl genpkey -algorithm ed25519 makes one";
            Exit::Config.error(format_args!(
                "reading {}: not an ed25519 private key in PEM; {way_out}",
                path.display()
            ))
        })
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ed25519_dalek::pkcs8::EncodePublicKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
    use std::os::unix::fs::PermissionsExt;

    /// Writes `NAME.pub` into a directory, and returns its private key.
    pub fn write_pair(directory: &Path, name: &str, seed: u8) -> SigningKey {
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let pem = key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        fs::write(directory.join(format!("{name}.pub")), pem).unwrap();
        SigningKey(key)
    }

    // openssl genpkey -algorithm ed25519; printf text | openssl pkeyutl -sign -rawin -inkey … |
    // base64
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOPGIgMnOMEM+GicWFVfPQckIFh2A4aNE0yWA1EMATg2\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEABJ3i3t/qlVvom15F1jcfwZCFyXMzDFq1AqZFg9MtDLk=\n-----END PUBLIC KEY-----\n";
    const SIGNATURE_OF_TEXT: &str =
        "XgxckX/yLKKi1uYi0oVJYbNNstbtV+jtffsD3/SXCvKeb00v6gU03zm5TsgTY9hJ3hQeIilLUUiCtfj+H9VyAg==";

    #[test]
    fn openssl_agrees() {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, PRIVATE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        let signature = SigningKey::read(&path).unwrap().sign(b"text");
        assert_eq!(
            BASE64_STANDARD.encode(signature.to_bytes()),
            SIGNATURE_OF_TEXT
        );
        fs::write(directory.path().join("base-1.pub"), PUBLIC).unwrap();
        let keys = Keys::read(directory.path(), Kind::Base).unwrap();
        assert!(keys.verify(b"text", &signature) && !keys.verify(b"test", &signature));
    }

    #[test]
    fn several_keys_are_valid_at_once_each_for_one_kind() {
        let directory = tempfile::tempdir().unwrap();
        let status = |kind| {
            Keys::read(directory.path(), kind)
                .map_err(|error| (Exit::of(&error), format!("{error:#}")))
        };
        let none = format!(
            "reading the keys in {}: no base-*.pub; put the publisher's public key there: openssl pkey -in KEY -pubout",
            directory.path().display()
        );
        assert_eq!(status(Kind::Base).unwrap_err(), (Exit::Config, none));
        let keys: Vec<SigningKey> = ["base-2", "base-1", "host-1", "basement-1"]
            .into_iter()
            .enumerate()
            .map(|(seed, name)| write_pair(directory.path(), name, seed as u8))
            .collect();
        let bases = status(Kind::Base).unwrap();
        assert_eq!(bases.to_string(), "base-1.pub, base-2.pub");
        let valid: Vec<bool> = keys
            .iter()
            .map(|key| bases.verify(b"x", &key.sign(b"x")))
            .collect();
        assert_eq!(valid, [true, true, false, false]);
        assert!(keys.iter().map(|key| bases.accept(key)).eq(valid));
        fs::write(directory.path().join("base-3.pub"), "not a key").unwrap();
        assert_eq!(status(Kind::Base).unwrap_err().0, Exit::Config);
        fs::remove_dir_all(directory.path()).unwrap();
        let (exit, message) = status(Kind::Base).unwrap_err();
        assert_eq!(exit, Exit::Config);
        assert!(message.contains("no such directory; make it"), "{message}");
    }

    #[test]
    fn signing_key_is_ed25519_in_a_secret_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let refused = || {
            SigningKey::read(&path)
                .map_err(|error| (Exit::of(&error), format!("{error:#}")))
                .unwrap_err()
        };
        assert_eq!(refused().0, Exit::NoInput);
        fs::write(&path, PUBLIC).unwrap();
        assert!(refused().1.ends_with("a public key; the private one signs"));
        fs::write(&path, PRIVATE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(refused().0, Exit::Config);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(
            format!("{:?}", SigningKey::read(&path).unwrap()),
            "SigningKey(..)"
        );
        for text in ["", &PRIVATE.replace("MC4", "MC5")] {
            fs::write(&path, text).unwrap();
            let (exit, message) = refused();
            assert_eq!(exit, Exit::Config);
            assert!(message.contains("not an ed25519 private key"), "{message}");
        }
    }
}
