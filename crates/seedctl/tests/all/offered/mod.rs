//! Images to distribute: torrents, manifest and document made by hand, so that each can be wrong in
//! its own way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine};
use block_map::BLOCK_BYTES;
use manifest::{Base, Format, Hex, InfoHash, Signed, SigningKey};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const NAME: &str = "windows";

/// The pieces of the torrents made here.
pub const PIECE_BYTES: usize = 256 << 10;

/// A key to sign with, in a directory, and its public half.
pub fn make_key(directory: &Path, name: &str) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(directory)
            .output()
            .expect("openssl");
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let public = format!("{name}.pub");
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", name]);
    openssl(&["pkey", "-in", name, "-pubout", "-out", &public]);
    fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// A torrent of one file.
pub struct TorrentFile {
    pub announce: String,
    pub info: Vec<u8>,
    /// What comes after `info`, bencoded: `8:url-list…`.
    pub after: String,
}

impl TorrentFile {
    pub fn of(content: &[u8], announce: &str) -> TorrentFile {
        let pieces: Vec<u8> = content
            .chunks(PIECE_BYTES)
            .flat_map(|piece| Sha1::digest(piece).to_vec())
            .collect();
        TorrentFile::with(content.len(), &pieces, "7:privatei1e", announce)
    }

    /// `more` is the end of `info`.
    pub fn with(length: usize, pieces: &[u8], more: &str, announce: &str) -> TorrentFile {
        let mut info = format!(
            "d6:lengthi{length}e4:name5:image12:piece lengthi{PIECE_BYTES}e6:pieces{}:",
            pieces.len()
        )
        .into_bytes();
        info.extend(pieces);
        info.extend(more.bytes());
        info.push(b'e');
        TorrentFile {
            announce: announce.into(),
            info,
            after: String::new(),
        }
    }

    pub fn infohash(&self) -> InfoHash {
        Hex(Sha1::digest(&self.info).into())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("d8:announce{}:{}4:info", self.announce.len(), self.announce).into_bytes();
        bytes.extend(&self.info);
        bytes.extend(self.after.bytes());
        bytes.push(b'e');
        bytes
    }
}

/// An image and all that is said of it.
pub struct Offered {
    pub image: Vec<u8>,
    pub map: Vec<u8>,
    pub base: Base,
    pub torrent: Vec<u8>,
    pub blocks_torrent: Vec<u8>,
}

impl Offered {
    pub fn new(generation: u64, image: Vec<u8>, announce: &str) -> Offered {
        let map: Vec<u8> = image
            .chunks(BLOCK_BYTES)
            .flat_map(block_map::digest)
            .collect();
        let (torrent, blocks_torrent) = (
            TorrentFile::of(&image, announce),
            TorrentFile::of(&map, announce),
        );
        let base = Base {
            name: NAME.into(),
            title: "Windows 10".into(),
            ostype: "windows".into(),
            default: true,
            generation,
            format: Format::Qcow2,
            size_bytes: image.len() as u64,
            virtual_bytes: 1 << 30,
            sha256: Hex(Sha256::digest(&image).into()),
            blocks_sha256: Hex(Sha256::digest(&map).into()),
            infohash: torrent.infohash(),
            blocks_infohash: blocks_torrent.infohash(),
            models: Vec::new(),
            programs: Vec::new(),
            created_at: "2026-11-23T00:00:00Z".into(),
        };
        Offered {
            image,
            map,
            base,
            torrent: torrent.bytes(),
            blocks_torrent: blocks_torrent.bytes(),
        }
    }

    fn signed(&self, key: &Path) -> Signed {
        Signed::seal(&self.base, &SigningKey::read(key).unwrap()).unwrap()
    }

    /// The document that is handed to the machines.
    pub fn document(&self, key: &Path) -> String {
        let (manifest, signature) = self.signed(key).to_base64();
        json!({"image": {
            "schema": 1, "changed": true, "manifest": manifest, "signature": signature,
            "torrent_file": BASE64_STANDARD.encode(&self.torrent),
            "blocks_torrent_file": BASE64_STANDARD.encode(&self.blocks_torrent),
        }})
        .to_string()
    }

    /// Puts all of it into the store of a machine.
    pub fn store(&self, root: &Path, key: &Path) {
        let directory = root.join("qcow2/backing").join(NAME);
        fs::create_dir_all(&directory).unwrap();
        let signed = self.signed(key);
        let files: [(&str, &[u8]); 6] = [
            ("qcow2", &self.image),
            ("blocks", &self.map),
            ("torrent", &self.torrent),
            ("blocks.torrent", &self.blocks_torrent),
            ("sig", &signed.signature.to_bytes()),
            ("manifest", &signed.bytes),
        ];
        for (ending, bytes) in files {
            let path = directory.join(format!("{}.{ending}", self.base.generation));
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        }
    }
}

/// Bytes that no two blocks have in common, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        bytes.extend(random.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
