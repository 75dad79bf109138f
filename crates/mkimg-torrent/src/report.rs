//! Output: the sections `image` and `verification`. Paths are relative to the root.

use manifest::Digest;
use serde::Serialize;

/// The section `image`: everything that a machine needs to fetch and verify the image.
#[derive(Debug, Serialize)]
pub struct Image {
    /// Whether this call wrote any of the files (in a dry run: would write).
    pub changed: bool,
    /// The manifest's exact bytes, Base64.
    pub manifest: String,
    /// Their signature, ed25519, 64 bytes, Base64.
    pub signature: String,
    /// The torrent of the image, Base64.
    pub torrent_file: String,
    /// The torrent of the block map, Base64.
    pub blocks_torrent_file: String,
    /// The comparison with the generation before; absent where the store has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
}

/// The part of an image that a machine with an earlier generation has already.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Delta {
    /// The earlier generation.
    pub generation: u64,
    /// The bytes of the blocks that are in both images, at any position, except zeros.
    pub shared_bytes: u64,
    /// The bytes that such a machine fetches: pieces with a block that it lacks, and the block map.
    pub fetched_bytes: u64,
    /// The bytes that a machine without an earlier generation fetches: all pieces but zeros.
    pub whole_bytes: u64,
}

/// The section `image` of a host's root.
#[derive(Debug, Serialize)]
pub struct Root {
    /// Always false: nothing is written.
    pub changed: bool,
    /// `host` or `zfs_host`.
    pub kind: &'static str,
    /// The name in the manifest.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The length of the image or stream.
    pub size_bytes: u64,
    /// The digest of the image or stream.
    pub sha256: Digest,
    /// The manifest's exact bytes, Base64.
    pub manifest: String,
    /// Their signature, ed25519, 64 bytes, Base64.
    pub signature: String,
}

/// The section `verification`: whether an image matches its description.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Always false: verifying changes nothing.
    pub changed: bool,
    /// Whether there are no faults.
    pub verified: bool,
    /// The image's name; absent when the manifest is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its generation; absent when the manifest is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The file that was read; absent when the manifest is invalid, because no file was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The faults.
    pub faults: Vec<Fault>,
    /// The pieces of the torrent that the file lacks, in runs.
    pub wrong_pieces: Vec<WrongPieces>,
}

/// A fault.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// `manifest`, `torrent_file`, `blocks_torrent_file`, `size`, `sha256`, `pieces` or `blocks`.
    pub what: &'static str,
    /// The reason, in words.
    pub reason: String,
}

/// A run of wrong or missing pieces.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct WrongPieces {
    /// The first, counted from 0.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The offset of the run in the file.
    pub offset_bytes: u64,
    /// Its length in the file as described.
    pub length_bytes: u64,
}
