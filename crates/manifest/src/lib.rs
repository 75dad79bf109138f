//! The manifest of an image, and its signature: the trusted facts about an image before its first
//! byte arrives. A federation's set of realms has one as well.
//!
//! `mkimg-torrent` writes and signs it once, for a base or for the root of a host. Every machine
//! verifies it with the public keys in its own host image, and compares all data with it, whatever
//! the source. The signature is over the file's exact bytes (ed25519, 64 raw bytes), so `openssl
//! pkeyutl -verify -rawin` agrees. `kind` binds a manifest to its purpose and to the keys for that
//! purpose: a base is never accepted as the root of a host.
//!
//! The content of manifests and their verification belong here; nothing else does.

mod description;
mod host;
mod key;
mod model;
mod realms;
mod zfs_host;

pub use description::{
    Base, Description, Digest, Format, Hex, InfoHash, Kind, NAME_RULE, NUMBER_MAX, Program,
    check_count, is_name,
};
pub use host::{Host, SlotField, SlotFieldKind};
pub use key::{Keys, Signature, SigningKey};
pub use model::check_model;
pub use realms::{EAP_CONFIG_MAX_BYTES, EapConfig, FILE_NAME_RULE, Realms, is_file_name};
pub use zfs_host::ZfsHost;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use jsonpipe::{Exit, ExitContext, io_error};

/// A host's manifest has some ninety bytes per slot field, a base's a few per program.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;

/// A manifest's exact bytes and their signature, neither verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The bytes that were signed.
    pub bytes: Vec<u8>,
    /// Their signature.
    pub signature: Signature,
}

impl Signed {
    /// Describes and signs an image. The same description and key give the same bytes.
    pub fn seal<D: Description>(description: &D, key: &SigningKey) -> anyhow::Result<Signed> {
        let bytes = description.to_bytes()?;
        let signature = key.sign(&bytes);
        Ok(Signed { bytes, signature })
    }

    /// Reads the two files; by default the signature's name is the manifest's ending in `.sig`.
    /// Status 66 when one does not exist, 65 when its length is impossible.
    pub fn read(manifest: &Path, signature: Option<&Path>) -> anyhow::Result<Signed> {
        let bytes = read_at_most(manifest, MANIFEST_MAX_BYTES)?;
        let path = signature.map_or_else(|| manifest.with_extension("sig"), Path::to_owned);
        let signature = Signature::from_bytes(&read_at_most(&path, 64)?).ok_or_else(|| {
            Exit::Data.error(format_args!(
                "reading {}: not 64 bytes long",
                path.display()
            ))
        })?;
        Ok(Signed { bytes, signature })
    }

    /// Decodes the section `image` of a document, where both are in Base64. Status 65 when they are
    /// invalid.
    pub fn from_base64(manifest: &str, signature: &str) -> anyhow::Result<Signed> {
        let decode = |key: &str, text: &str| {
            BASE64_STANDARD
                .decode(text)
                .exit(Exit::Data, || format!("image.{key}: not Base64"))
        };
        let bytes = decode("manifest", manifest)?;
        let signature = Signature::from_bytes(&decode("signature", signature)?)
            .ok_or_else(|| Exit::Data.error("image.signature: not 64 bytes long"))?;
        Ok(Signed { bytes, signature })
    }

    /// For the section `image`: the manifest and the signature, in Base64.
    pub fn to_base64(&self) -> (String, String) {
        (
            BASE64_STANDARD.encode(&self.bytes),
            BASE64_STANDARD.encode(self.signature.to_bytes()),
        )
    }

    /// The content of the manifest, if one of the keys for its kind signed it. Status 65 when none
    /// did, or when the content is invalid; 70 when the keys are for another kind than the
    /// requested one.
    ///
    /// The keys come first: unsigned bytes are never parsed.
    pub fn verify<D: Description>(&self, keys: &Keys) -> anyhow::Result<D> {
        if keys.kind() != D::KIND {
            return Err(Exit::Software.error(format_args!(
                "verifying the manifest of a {} with {keys}",
                D::KIND.as_str()
            )));
        }
        if !keys.verify(&self.bytes, &self.signature) {
            return Err(Exit::Data.error(format_args!(
                "verifying the manifest: not signed by any of {keys}"
            )));
        }
        description::parse(&self.bytes)
    }
}

fn read_at_most(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("reading {}", path.display()),
        )
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Exit::Data.error(format_args!(
            "reading {}: longer than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sealed_bytes_are_verified() {
        let directory = tempfile::tempdir().unwrap();
        let key = key::tests::write_pair(directory.path(), "base-1", 1);
        let base = description::tests::base();
        let sealed = Signed::seal(&base, &key).unwrap();
        let keys = Keys::read(directory.path(), Kind::Base).unwrap();
        assert_eq!(sealed.verify::<Base>(&keys).unwrap(), base);
        assert_eq!(Signed::seal(&base, &key).unwrap(), sealed);

        let (manifest, signature) = sealed.to_base64();
        assert_eq!(Signed::from_base64(&manifest, &signature).unwrap(), sealed);
        for (manifest, signature) in [
            ("*", signature.as_str()),
            (&manifest, "*"),
            (&manifest, "AAAA"),
        ] {
            assert_eq!(
                Exit::of(&Signed::from_base64(manifest, signature).unwrap_err()),
                Exit::Data
            );
        }

        for at in [0, sealed.bytes.len() / 2, sealed.bytes.len() - 1] {
            let mut forged = sealed.clone();
            forged.bytes[at] ^= 1;
            let error = forged.verify::<Base>(&keys).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Data);
            assert!(
                format!("{error:#}")
                    .starts_with("verifying the manifest: not signed by any of base-1.pub"),
                "{error:#}"
            );
        }
        let stranger = key::tests::write_pair(directory.path(), "host-1", 2);
        assert!(
            Signed::seal(&base, &stranger)
                .unwrap()
                .verify::<Base>(&keys)
                .is_err()
        );
        // The right kind of key, the wrong kind of manifest.
        let hosts = Keys::read(directory.path(), Kind::Host).unwrap();
        let of_a_base = Signed::seal(&base, &stranger).unwrap();
        let error = of_a_base.verify::<Host>(&hosts).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "reading the manifest: kind: it describes a base, not a host"
        );
        let error = of_a_base.verify::<Base>(&hosts).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Software, "{error:#}");
    }
}
