//! `mkimg-torrent verify`: compares an image with its description, and locates the faults.

use base64::prelude::{BASE64_STANDARD, Engine};
use jsonpipe::{Answer, Common, Exit, ExitContext, Pipe};
use manifest::{Base, Hex, InfoHash, Keys, Kind, Signed};
use sha2::{Digest, Sha256};

use crate::image::Image;
use crate::metainfo::Metainfo;
use crate::pieces::{self, Piece};
use crate::report::{Fault, Verification, WrongPieces};
use crate::request::{self, Described, Verify};
use crate::store;

/// Compares everything; the answer is no when there is a fault.
pub fn verify(common: &Common, pipe: &Pipe, options: &Verify) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the section image, as create writes it")?;
    let described: Described = document.require("image").map_err(|error| {
        match document.read::<request::Image>("image") {
            Ok(Some(_)) => Exit::Data.error("image: this is the input of create; give its output"),
            _ => error,
        }
    })?;
    let signed = Signed::from_base64(&described.manifest, &described.signature)?;
    let decode = |key: &str, text: &str| {
        BASE64_STANDARD
            .decode(text)
            .exit(Exit::Data, || format!("image.{key}: not Base64"))
    };
    let torrent_file = decode("torrent_file", &described.torrent_file)?;
    let blocks_torrent_file = decode("blocks_torrent_file", &described.blocks_torrent_file)?;
    let keys = Keys::read(&common.config("keys"), Kind::Base)?;

    let mut verification = Verification {
        changed: false,
        verified: false,
        name: None,
        generation: None,
        path: None,
        faults: Vec::new(),
        wrong_pieces: Vec::new(),
    };
    match signed.verify::<Base>(&keys) {
        // Without a manifest nothing is known, not even the path of the image.
        Err(error) => verification.fault("manifest", format!("{error:#}")),
        Ok(base) => {
            let torrent = verification.torrent("torrent_file", &torrent_file, base.infohash);
            let blocks_torrent = verification.torrent(
                "blocks_torrent_file",
                &blocks_torrent_file,
                base.blocks_infohash,
            );
            let in_store = store::image_path(&base);
            let path = options
                .file
                .clone()
                .unwrap_or_else(|| common.path(&in_store));
            verification.path = Some(
                options
                    .file
                    .as_ref()
                    .map_or(in_store, |file| file.display().to_string()),
            );
            let image = Image::open(&path)?;
            verification.image(pipe, &image, &base, torrent, blocks_torrent)?;
            verification.name = Some(base.name);
            verification.generation = Some(base.generation);
        }
    }
    verification.verified = verification.faults.is_empty();
    document.set("verification", &verification)?;
    Ok(if verification.verified {
        Answer::yes(document)
    } else {
        Answer::no(document)
    })
}

impl Verification {
    fn fault(&mut self, what: &'static str, reason: impl Into<String>) {
        self.faults.push(Fault {
            what,
            reason: reason.into(),
        });
    }

    /// A torrent, if it is the one that the manifest names; its other faults are also recorded.
    fn torrent(
        &mut self,
        what: &'static str,
        bytes: &[u8],
        infohash: InfoHash,
    ) -> Option<Metainfo> {
        let torrent = match Metainfo::parse(bytes) {
            Ok(torrent) => torrent,
            Err(message) => {
                self.fault(what, message);
                return None;
            }
        };
        if !torrent.private {
            self.fault(what, "not private: peers would exchange each other, and every building fetch from every other");
        }
        for source in &torrent.other_sources {
            self.fault(
                what,
                format!("it has {source}: hosts would fetch from there beside the swarm"),
            );
        }
        if torrent.infohash != infohash {
            self.fault(
                what,
                format!(
                    "its infohash is {}, the manifest has {infohash}",
                    torrent.infohash
                ),
            );
            return None;
        }
        Some(torrent)
    }

    /// Checks the file against all trusted digests.
    fn image(
        &mut self,
        pipe: &Pipe,
        image: &Image,
        base: &Base,
        torrent: Option<Metainfo>,
        blocks_torrent: Option<Metainfo>,
    ) -> anyhow::Result<()> {
        let suits = |torrent: &Metainfo| pieces::suit(torrent.piece_bytes, image.size_bytes());
        let torrent = torrent.filter(suits);
        let piece_bytes = torrent
            .as_ref()
            .map_or(pieces::length_for(image.size_bytes()), |torrent| {
                torrent.piece_bytes
            });
        let digests = image.digest(pipe, piece_bytes)?;
        if image.size_bytes() != base.size_bytes {
            self.fault(
                "size",
                format!(
                    "{} bytes, the manifest has {}",
                    image.size_bytes(),
                    base.size_bytes
                ),
            );
        }
        if digests.sha256 != base.sha256 {
            self.fault(
                "sha256",
                format!("{}, the manifest has {}", digests.sha256, base.sha256),
            );
        }
        let blocks_sha256 = Hex(Sha256::digest(&digests.blocks).into());
        if blocks_sha256 != base.blocks_sha256 {
            self.fault(
                "blocks",
                format!(
                    "the block map has SHA-256 {blocks_sha256}, the manifest {}",
                    base.blocks_sha256
                ),
            );
        }
        if let Some(torrent) = torrent {
            self.wrong_pieces = wrong_pieces(&torrent, &digests.pieces);
            let wrong: u64 = self
                .wrong_pieces
                .iter()
                .map(|run| run.last - run.first + 1)
                .sum();
            if wrong > 0 {
                self.fault(
                    "pieces",
                    format!("{wrong} of {} are wrong or not there", torrent.pieces.len()),
                );
            } else if torrent.size_bytes != base.size_bytes {
                self.fault(
                    "torrent_file",
                    format!(
                        "of {} bytes, the manifest has {}",
                        torrent.size_bytes, base.size_bytes
                    ),
                );
            }
        }
        if let Some(torrent) = blocks_torrent
            && (torrent.size_bytes != block_map::map_bytes(base.size_bytes))
        {
            self.fault(
                "blocks_torrent_file",
                format!(
                    "of {} bytes, which is no map of this image",
                    torrent.size_bytes
                ),
            );
        }
        Ok(())
    }
}

/// The pieces of the torrent that a file with these pieces lacks.
fn wrong_pieces(torrent: &Metainfo, found: &[Piece]) -> Vec<WrongPieces> {
    let mut runs: Vec<WrongPieces> = Vec::new();
    for (index, piece) in torrent.pieces.iter().enumerate() {
        if found.get(index) == Some(piece) {
            continue;
        }
        let index = index as u64;
        let offset_bytes = index * torrent.piece_bytes;
        let length_bytes = torrent.piece_bytes.min(torrent.size_bytes - offset_bytes);
        match runs.last_mut().filter(|run| run.last + 1 == index) {
            Some(run) => (run.last, run.length_bytes) = (index, run.length_bytes + length_bytes),
            None => runs.push(WrongPieces {
                first: index,
                last: index,
                offset_bytes,
                length_bytes,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_pieces_come_in_runs() {
        let pieces: Vec<Piece> = (0..6).map(|i| [i; 20]).collect();
        let torrent = Metainfo {
            infohash: Hex([0; 20]),
            private: true,
            other_sources: vec![],
            size_bytes: 550,
            piece_bytes: 100,
            pieces: pieces.clone(),
        };
        let run = |first, last, offset_bytes, length_bytes| WrongPieces {
            first,
            last,
            offset_bytes,
            length_bytes,
        };
        assert_eq!(wrong_pieces(&torrent, &pieces), []);
        let mut found = pieces[..5].to_vec();
        found[0] = [9; 20];
        found[1] = [9; 20];
        assert_eq!(
            wrong_pieces(&torrent, &found),
            [run(0, 1, 0, 200), run(5, 5, 500, 50)]
        );
        assert_eq!(wrong_pieces(&torrent, &[]), [run(0, 5, 0, 550)]);
    }
}
