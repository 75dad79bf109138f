//! The image that a document describes: a signed manifest, and the two torrents that fetch the
//! image.

use std::fs::{self, File};
use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use block_map::map_bytes;
use images::{Ending, bases};
use jsonpipe::signals::Deferred;
use jsonpipe::{Common, Exit, ExitContext, io_error};
use manifest::{Base, InfoHash, Keys, Kind, Signature, Signed};
use progress::Progress;

use crate::TOOL;
use crate::aria2::{Rpc, State, Trust};
use crate::request::Image;
use crate::store::{self, Files, Part};
use crate::torrent::Torrent;

/// The polling interval of aria2.
const LOOK_MILLISECONDS: u16 = 100;

/// An image signed by a known key, with the torrents that match its manifest.
#[derive(Debug)]
pub struct SignedImage {
    /// The manifest's exact bytes and the signature.
    pub signed: Signed,
    /// The content of the manifest.
    pub base: Base,
    /// Fetches the image.
    pub torrent: Torrent,
    /// Fetches the block map.
    pub blocks_torrent: Torrent,
    /// Its files in the store.
    pub files: Files,
}

/// The state of the image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum There {
    /// It is not there, or only parts of it.
    Absent,
    /// It is there, with wrong content.
    Damaged,
    /// It is whole, with this block map.
    Whole(Vec<u8>),
}

impl SignedImage {
    /// Verifies the section `image`. Status 65 when the signature is invalid or a part does not
    /// match the manifest; 78 without keys.
    pub fn of(common: &Common, image: &Image) -> anyhow::Result<SignedImage> {
        let signed = Signed::from_base64(&image.manifest, &image.signature)?;
        let base = verify(common, &signed)?;
        let torrent = |key: &str, text: &str| {
            let key = format!("image.{key}");
            let bytes = BASE64_STANDARD
                .decode(text)
                .exit(Exit::Data, || format!("{key}: not Base64"))?;
            anyhow::Ok((bytes, key))
        };
        let torrents = [
            torrent("torrent_file", &image.torrent_file)?,
            torrent("blocks_torrent_file", &image.blocks_torrent_file)?,
        ];
        SignedImage::with(common, signed, base, torrents)
    }

    /// Verifies a generation in the store, from the files beside the image.
    pub fn read(common: &Common, files: &Files) -> anyhow::Result<SignedImage> {
        let manifest = files.sidecar(Ending::Manifest);
        let read = |ending: Ending| {
            let path = files.sidecar(ending);
            fs::read(&path).map_err(|error| {
                io_error(
                    error,
                    Exit::of_read,
                    format_args!("reading {}", path.display()),
                )
            })
        };
        let torrent = |ending: Ending| {
            anyhow::Ok((read(ending)?, files.sidecar(ending).display().to_string()))
        };
        let (bytes, signature) = (read(Ending::Manifest)?, read(Ending::Signature)?);
        let torrents = [torrent(Ending::Torrent)?, torrent(Ending::BlocksTorrent)?];
        let verified = || -> anyhow::Result<SignedImage> {
            let signature = Signature::from_bytes(&signature)
                .exit(Exit::Data, || "its signature is not 64 bytes long")?;
            let signed = Signed { bytes, signature };
            let base = verify(common, &signed)?;
            SignedImage::with(common, signed, base, torrents)
        };
        let image = verified().exit(Exit::Data, || manifest.display().to_string())?;
        if image.files != *files {
            return Err(Exit::Data.error(format_args!(
                "{}: it belongs to another image",
                manifest.display()
            )));
        }
        Ok(image)
    }

    /// Combines a verified manifest with the bytes and names of the torrents of the image and its
    /// block map.
    fn with(
        common: &Common,
        signed: Signed,
        base: Base,
        torrents: [(Vec<u8>, String); 2],
    ) -> anyhow::Result<SignedImage> {
        let [(torrent, place), (blocks_torrent, blocks_place)] = torrents;
        let torrent = Torrent::check(torrent, base.infohash, base.size_bytes, &place)?;
        let blocks_bytes = map_bytes(base.size_bytes);
        let blocks_torrent = Torrent::check(
            blocks_torrent,
            base.blocks_infohash,
            blocks_bytes,
            &blocks_place,
        )?;
        let files = Files::of(common, &base);
        Ok(SignedImage {
            signed,
            base,
            torrent,
            blocks_torrent,
            files,
        })
    }

    /// The torrent of a part.
    pub fn torrent(&self, part: Part) -> &Torrent {
        match part {
            Part::Image => &self.torrent,
            Part::Blocks => &self.blocks_torrent,
        }
    }

    /// Refuses a generation below the current one of bases.ini.
    pub fn refuse_downgrade(&self, common: &Common) -> anyhow::Result<()> {
        let bases = bases::read_if_there(common)?;
        match bases.iter().find(|current| current.name == self.base.name) {
            Some(current) if self.base.generation < current.generation => Err(Exit::Data.error(format_args!(
                "refusing generation {} of {}: {} is current; use --allow-downgrade to accept it",
                self.base.generation, self.base.name, current.generation
            ))),
            _ => Ok(()),
        }
    }

    /// The state of the image in the store, found by reading all of it; `None` when a signal ends
    /// the work. A different image with this name and generation is never overwritten, because
    /// users' disks may depend on it: status 65.
    pub fn look(&self, signals: &Deferred) -> anyhow::Result<Option<There>> {
        let path = self.files.finished(Part::Image);
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", path.display()),
            )
        };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(There::Absent));
            }
            Err(error) => return Err(failed(error)),
        };
        let ours = match fs::read(self.files.sidecar(Ending::Manifest)) {
            Ok(manifest) if manifest != self.signed.bytes => {
                return Err(Exit::Data.error(format_args!(
                    "refusing generation {} of {}: the store has another image under that number; give the new one the next",
                    self.base.generation, self.base.name
                )));
            }
            Ok(_) => true,
            Err(_) => false,
        };
        let mut whole = None;
        if file.metadata().map_err(failed)?.len() == self.base.size_bytes {
            let mut progress = Progress::new(TOOL);
            let read =
                |done| progress.show("reading the image in the store", done, self.base.size_bytes);
            let Some(content) = store::content(&mut file, signals, read).map_err(failed)? else {
                return Ok(None);
            };
            whole = (content.sha256 == self.base.sha256).then_some(content.map);
        }
        match (whole, ours) {
            (Some(map), _) => Ok(Some(There::Whole(map))),
            (None, true) => Ok(Some(There::Damaged)),
            (None, false) => Err(Exit::Data.error(format_args!(
                "refusing to replace {}: it has no manifest, and is not this image; move it away",
                path.display()
            ))),
        }
    }

    /// Writes the small files beside the image that are missing or different. Returns whether there
    /// were any.
    pub fn write_sidecars(&self) -> anyhow::Result<bool> {
        let signature = self.signed.signature.to_bytes();
        let files: [(Ending, &[u8]); 4] = [
            (Ending::Torrent, &self.torrent.bytes),
            (Ending::BlocksTorrent, &self.blocks_torrent.bytes),
            (Ending::Signature, &signature),
            (Ending::Manifest, &self.signed.bytes),
        ];
        let mut changed = false;
        for (ending, bytes) in files {
            if fs::read(self.files.sidecar(ending)).ok().as_deref() != Some(bytes) {
                self.files.write_sidecar(ending, bytes)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Removes the base's other generations from aria2. It would keep pruned files open, which
    /// keeps their disk space in use, and continue fetches that a killed call had begun. Returns
    /// whether there was one.
    pub fn leave_others(&self, rpc: &Rpc) -> anyhow::Result<bool> {
        let ours = [Part::Image, Part::Blocks].map(|part| self.torrent(part).infohash);
        let mut changed = false;
        for download in rpc
            .downloads()?
            .iter()
            .filter(|download| self.files.holds(&download.dir))
        {
            if let Some(infohash) = download
                .info_hash
                .filter(|infohash| !ours.contains(infohash))
            {
                changed |= rpc.leave(infohash)?;
            }
        }
        Ok(changed)
    }

    /// Ensures that a complete part is offered to others. Returns whether it was not before.
    pub fn seed(
        &self,
        rpc: &Rpc,
        signals: &Deferred,
        part: Part,
        trust: Trust,
    ) -> anyhow::Result<bool> {
        let torrent = self.torrent(part);
        if rpc
            .download(torrent.infohash)?
            .is_some_and(|download| download.is_offered())
        {
            return Ok(false);
        }
        let path = self.files.finished(part);
        self.files.require(part, torrent.length)?;
        store::remove_control_file(&path)?;
        rpc.drop_torrent(torrent.infohash)?;
        rpc.add(torrent, &path, trust, None)?;
        let settled = self.settle(rpc, signals, part);
        if settled.is_err() {
            rpc.drop_torrent(torrent.infohash)?;
        }
        settled.map(|()| true)
    }

    /// Waits until aria2 offers a complete part. Status 65 when pieces of it are missing.
    pub fn settle(&self, rpc: &Rpc, signals: &Deferred, part: Part) -> anyhow::Result<()> {
        settle(
            rpc,
            signals,
            self.torrent(part).infohash,
            &self.files.finished(part).display().to_string(),
        )
    }
}

/// The content of a manifest, if a key for bases signed it.
fn verify(common: &Common, signed: &Signed) -> anyhow::Result<Base> {
    signed.verify(&Keys::read(&common.config("keys"), Kind::Base)?)
}

fn settle(rpc: &Rpc, signals: &Deferred, infohash: InfoHash, what: &str) -> anyhow::Result<()> {
    let mut progress = Progress::new(TOOL);
    let not_whole = || {
        Exit::Data.error(format_args!(
            "seeding {what}: it is not whole; seedctl get repairs it"
        ))
    };
    loop {
        let download = rpc.download(infohash)?;
        let download = download.exit(Exit::TemporaryFailure, || {
            format!("seeding {what}: another call stopped it")
        })?;
        let is_checking = download.verified_bytes();
        match download.status {
            State::Active if download.is_offered() => return Ok(()),
            State::Active if is_checking.is_none() && download.completed_length > 0 => {
                return Err(not_whole());
            }
            // aria2 starts to fetch wrong pieces, but may not write to a file of the store: then it
            // fails without a message.
            State::Error if download.error_message.as_deref() == Some("") => {
                return Err(not_whole());
            }
            State::Active | State::Waiting => {}
            _ => {
                let message = download
                    .error_message
                    .unwrap_or_else(|| "aria2 does not say why".into());
                return Err(Exit::Unavailable.error(format_args!("seeding {what}: {message}")));
            }
        }
        progress.show(
            format_args!("checking {what}"),
            is_checking.unwrap_or(0),
            download.total_length,
        );
        if crate::fetch::wait(signals, LOOK_MILLISECONDS) {
            return Err(crate::fetch::interrupted());
        }
    }
}
