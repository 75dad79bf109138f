//! `seedctl get`: fetches an image.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use confined::Identity;
use images::Ending;
use jsonpipe::signals::{self, Deferred};
use jsonpipe::{
    Answer, Common, Exit, ExitContext, Missing, Pipe, io_error, lock, sabotaged, timestamp,
};
use manifest::Digest;
use progress::{Progress, Size};
use sha2::{Digest as _, Sha256};

use crate::TOOL;
use crate::aria2::{Rpc, Trust};
use crate::daemon;
use crate::fetch::{Fetch, interrupted};
use crate::fill::{Filled, Filling, Source};
use crate::origin::Account;
use crate::report::Transfer;
use crate::request::{Get, Image};
use crate::settings::Settings;
use crate::signed_image::{SignedImage, There};
use crate::store::{self, Content, Part};

/// One call at a time on a machine: two would share the uplink, the disk and the file names.
const LOCK: &str = "/run/labtools/get.lock";

/// The space that must stay free for the machine.
const SPARE_BYTES: u64 = 64 << 20;

/// `seedctl get`: on success the image of the document is in the store and offered to others; on
/// failure nothing has changed.
pub fn get(common: &Common, pipe: &Pipe, options: &Get) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the section image")?;
    let section: Image = document.require("image")?;
    let signals = signals::defer()?;
    let settings = Settings::read(common)?;
    let image = SignedImage::of(common, &section)?;
    if !options.allow_downgrade {
        image.refuse_downgrade(common)?;
    }
    let identity = settings.aria2.identity()?;
    if options.dry_run {
        let there = image.look(&signals)?.ok_or_else(interrupted)?;
        let whole = matches!(there, There::Whole(_));
        let state = if whole { "complete" } else { "absent" };
        document.set(
            "transfer",
            &transfer(
                &image,
                &Account::read(common, image.base.infohash),
                state,
                !whole,
            ),
        )?;
        return Ok(Answer::yes(document).holding(signals));
    }
    let lock = lock::take(
        common,
        LOCK,
        "another seedctl get is running; try again later",
    )?;
    let there = image.look(&signals)?.ok_or_else(interrupted)?;
    let rpc = daemon::ensure(common, &settings.aria2)?;
    let left = image.leave_others(&rpc)?;
    let get = Getting {
        common,
        pipe,
        signals: &signals,
        rpc: &rpc,
        image: &image,
        identity,
        port: settings.aria2.listen_port,
        options,
        whole_is_smaller: there == There::Absent
            && section
                .delta
                .is_some_and(|delta| delta.fetched_bytes >= delta.whole_bytes),
    };
    let mut report = if let There::Whole(map) = there {
        get.keep(map)?
    } else {
        get.renew()?
    };
    // Repeated here, because a seed --all, as after a boot, may have added the previous generation
    // in the meantime.
    report.changed |= left | image.leave_others(&rpc)?;
    drop(lock); // the reader of the document may be slow
    document.set("transfer", &report)?;
    Ok(Answer::yes(document).holding(signals))
}

/// The section `transfer`, with the data of a closed account.
pub fn transfer(
    image: &SignedImage,
    account: &Account,
    state: &'static str,
    changed: bool,
) -> Transfer {
    let closed = account.is_closed(image.base.size_bytes);
    let bytes = |bytes: u64| closed.then_some(bytes);
    let mut missing = Vec::new();
    if !closed {
        let reason = if state == "absent" {
            "the image is not here yet"
        } else {
            "no transfer of it is recorded here"
        };
        let keys = [
            "building_bytes",
            "outside_bytes",
            "reused_bytes",
            "zero_bytes",
        ];
        missing.extend(keys.map(|key| Missing {
            key: key.into(),
            reason: reason.into(),
        }));
    }
    Transfer {
        infohash: image.base.infohash,
        blocks_infohash: image.base.blocks_infohash,
        name: image.base.name.clone(),
        generation: image.base.generation,
        path: image.files.path(),
        sha256: image.base.sha256,
        size_bytes: image.base.size_bytes,
        state,
        building_bytes: bytes(account.building_bytes),
        outside_bytes: bytes(account.outside_bytes),
        reused_bytes: bytes(account.reused_bytes),
        zero_bytes: bytes(account.zero_bytes),
        gateway: account.gateway.filter(|_| closed),
        server_only: account.server_only().filter(|_| closed),
        started_at: None,
        complete_at: None,
        changed,
        missing,
    }
}

struct Getting<'a> {
    common: &'a Common,
    pipe: &'a Pipe,
    signals: &'a Deferred,
    rpc: &'a Rpc,
    image: &'a SignedImage,
    identity: Identity,
    /// The port on which aria2 listens for peers.
    port: u16,
    options: &'a Get,
    /// Whether old images save nothing, by the word of the server.
    whole_is_smaller: bool,
}

impl Getting<'_> {
    /// Adds the block map and the sidecars of an image that was just verified, and seeds it.
    fn keep(&self, map: Vec<u8>) -> anyhow::Result<Transfer> {
        let files = &self.image.files;
        let mut changed = self.keep_map(&map)?;
        changed |= self.image.write_sidecars()?;
        for part in [Part::Blocks, Part::Image] {
            self.image
                .seed(self.rpc, self.signals, part, Trust::Verified)?;
        }
        files.clear_incoming()?;
        Ok(transfer(
            self.image,
            &Account::read(self.common, self.image.base.infohash),
            "complete",
            changed,
        ))
    }

    /// Writes the block map of the image, if the store lacks it. Returns whether it was written.
    fn keep_map(&self, map: &[u8]) -> anyhow::Result<bool> {
        let SignedImage { base, files, .. } = self.image;
        if sha256(&fs::read(files.finished(Part::Blocks)).unwrap_or_default()) == base.blocks_sha256
        {
            return Ok(false);
        }
        if sha256(map) != base.blocks_sha256 {
            return Err(
                Exit::Data.error("image.manifest: blocks_sha256 is not of this image's block map")
            );
        }
        files.write_sidecar(Ending::Blocks, map)?;
        Ok(true)
    }

    /// Fetches the image. On failure none of its torrents is in aria2, and the data lies ready for
    /// the next call, unless there is no room.
    fn renew(&self) -> anyhow::Result<Transfer> {
        let done = self.bring();
        if let Err(error) = &done {
            for part in [Part::Image, Part::Blocks] {
                let _ = self.rpc.drop_torrent(self.image.torrent(part).infohash); // only the first error is reported
            }
            // A data error: the content is not the signed one. Either way the data is useless.
            if matches!(Exit::of(error), Exit::CantCreate | Exit::Data) {
                let _ = self.image.files.clear_incoming();
            }
        }
        done
    }

    fn bring(&self) -> anyhow::Result<Transfer> {
        let SignedImage {
            base,
            files,
            torrent,
            ..
        } = self.image;
        let started_at = timestamp::rfc3339(SystemTime::now());
        for part in [Part::Image, Part::Blocks] {
            self.rpc.drop_torrent(self.image.torrent(part).infohash)?; // left by an earlier call that was killed
        }
        files.prepare(self.identity)?;
        let path = files.arriving(Part::Image);
        let sources = files.sources()?;
        let untouched = fs::symlink_metadata(&path).map_or(true, |found| found.blocks() == 0);
        let (mut account, trust) = if (sources.is_empty() || self.whole_is_smaller) && untouched {
            self.begin()?
        } else {
            (self.fill(&sources)?, Trust::Check)
        };
        let doing = format!("getting {} {}", base.name, base.generation);
        let present = account.reused_bytes
            + account.zero_bytes
            + account.building_bytes
            + account.outside_bytes;
        self.fetcher()
            .fetch(torrent, &path, (present, trust), &mut account, &doing)?;
        let mut file = self.take(Part::Image)?;
        let map = self.verify(&mut file)?;
        if sha256(&map) != base.blocks_sha256 && !files.taken(Part::Blocks).exists() {
            self.map()?; // the signed map is wrong but harmless, and all machines should have the same
        }
        self.image.settle(self.rpc, self.signals, Part::Image)?;
        self.image.write_sidecars()?;
        if files.taken(Part::Blocks).exists() {
            files.finish(Part::Blocks)?;
        } else {
            self.keep_map(&map)?;
        }
        self.image
            .seed(self.rpc, self.signals, Part::Blocks, Trust::Verified)?;
        account.close();
        account.write(self.common, base.infohash)?;
        files.finish(Part::Image)?;
        files.clear_incoming()?;
        let transfer = transfer(self.image, &account, "complete", true);
        Ok(Transfer {
            started_at: Some(started_at),
            complete_at: Some(timestamp::rfc3339(SystemTime::now())),
            ..transfer
        })
    }

    fn fetcher(&self) -> Fetch<'_> {
        let patience = Duration::from_secs(self.options.timeout);
        Fetch {
            common: self.common,
            pipe: self.pipe,
            signals: self.signals,
            rpc: self.rpc,
            patience,
            port: self.port,
        }
    }

    /// The verified block map: from the store, or fetched and then offered to others.
    fn map(&self) -> anyhow::Result<Vec<u8>> {
        let SignedImage {
            base,
            files,
            blocks_torrent,
            ..
        } = self.image;
        if let Ok(map) = fs::read(files.finished(Part::Blocks))
            && sha256(&map) == base.blocks_sha256
        {
            self.image
                .seed(self.rpc, self.signals, Part::Blocks, Trust::Verified)?;
            return Ok(map);
        }
        self.make_room(blocks_torrent.length)?;
        drop(files.open_arriving(Part::Blocks, blocks_torrent.length, self.identity)?);
        let path = files.arriving(Part::Blocks);
        let nothing = (0, Trust::Check);
        self.fetcher().fetch(
            blocks_torrent,
            &path,
            nothing,
            &mut Account::default(),
            "getting the block map",
        )?;
        let mut file = self.take(Part::Blocks)?;
        let mut map = Vec::new();
        file.read_to_end(&mut map)
            .exit(Exit::Io, || "reading the block map")?;
        if sha256(&map) != base.blocks_sha256 {
            return Err(Exit::Data.error(
                "image.blocks_torrent_file: its data does not have the digest in the manifest",
            ));
        }
        file.sync_all().exit(Exit::Io, || "syncing the block map")?;
        Ok(map)
    }

    /// Begins a new image without any source: the block map is not needed first, and is computed
    /// from the image later. Returns its account, and whether aria2 must find the zeros in the
    /// image.
    fn begin(&self) -> anyhow::Result<(Account, Trust)> {
        let SignedImage {
            base,
            files,
            torrent,
            ..
        } = self.image;
        self.make_room(base.size_bytes - torrent.zero_bytes)?;
        drop(files.open_arriving(Part::Image, base.size_bytes, self.identity)?);
        let zeros = Filled {
            present_bytes: torrent.zero_bytes,
            zero_bytes: torrent.zero_bytes,
            kept_bytes: 0,
        };
        Ok((
            self.account(Account::default(), zeros)?,
            if torrent.zero_bytes == 0 {
                Trust::Empty
            } else {
                Trust::Check
            },
        ))
    }

    /// Fills the new image from local data, by its block map. Returns its account.
    fn fill(&self, sources: &[(PathBuf, PathBuf)]) -> anyhow::Result<Account> {
        let map = &self.map()?;
        let SignedImage {
            base,
            files,
            torrent,
            ..
        } = self.image;
        let path = files.arriving(Part::Image);
        let failed = |error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("filling {}", path.display()),
            )
        };
        let file = files.open_arriving(Part::Image, base.size_bytes, self.identity)?;
        let mut filling = Filling::new(&file, base.size_bytes, map);
        let mut looking = Progress::new(TOOL);
        let show = |done| {
            looking.show(
                "reading the parts that are here already",
                done,
                base.size_bytes,
            )
        };
        if !filling.keep(self.signals, show).map_err(failed)? {
            return Err(interrupted());
        }
        self.make_room(filling.absent_bytes())?;
        for (image, blocks) in sources {
            if filling.is_whole() {
                break;
            }
            let map = block_map::beside(self.common, blocks).unwrap_or_else(|error| {
                self.pipe.warn(format_args!(
                    "{error:#}; reading all of {} instead",
                    image.display()
                ));
                None
            });
            let Ok(mut source) = Source::open(image, map.as_deref()) else {
                continue;
            };
            let length = source.length();
            let mut progress = Progress::new(TOOL);
            let show = |done| progress.show("copying from the old image", done, length);
            if !filling
                .copy(&mut source, self.signals, show)
                .map_err(failed)?
            {
                return Err(interrupted());
            }
            if let Some(trouble) = &source.trouble {
                self.pipe.warn(format_args!(
                    "reading {}: {trouble}; continuing without that part",
                    image.display()
                ));
            }
        }
        let mut account = Account::read(self.common, base.infohash);
        let filled = filling.filled(torrent.piece_length);
        account.resume(filled.kept_bytes);
        self.account(account, filled)
    }

    /// The account of a partly filled image; `account` has the bytes that came over the network.
    fn account(&self, mut account: Account, filled: Filled) -> anyhow::Result<Account> {
        let base = &self.image.base;
        account.name = base.name.clone();
        account.generation = base.generation;
        account.infohash = base.infohash.to_string();
        account.size_bytes = base.size_bytes;
        account.zero_bytes = filled.zero_bytes;
        account.reused_bytes = filled.present_bytes
            - filled.zero_bytes
            - account.building_bytes
            - account.outside_bytes;
        account.write(self.common, base.infohash)?;
        self.pipe.note(format_args!(
            "{} of {} need not be fetched",
            Size(filled.present_bytes),
            Size(base.size_bytes)
        ));
        Ok(account)
    }

    /// Status 73 when these bytes do not fit.
    fn make_room(&self, bytes: u64) -> anyhow::Result<()> {
        let room = self.image.files.room()?;
        if room >= bytes.saturating_add(SPARE_BYTES) {
            return Ok(());
        }
        Err(Exit::CantCreate.error(format_args!(
            "making room for generation {} of {}: it needs {}, {} to spare, and there are {}",
            self.image.base.generation,
            self.image.base.name,
            Size(bytes),
            Size(SPARE_BYTES),
            Size(room)
        )))
    }

    /// Takes over a part from aria2, which can then only read it, and will soon offer it again.
    fn take(&self, part: Part) -> anyhow::Result<File> {
        let torrent = self.image.torrent(part);
        self.rpc.drop_torrent(torrent.infohash)?;
        let file = self.image.files.take(part)?;
        let path = self.image.files.taken(part);
        // aria2 has compared every piece with its hash.
        self.rpc.add(torrent, &path, Trust::Verified, None)?;
        Ok(file)
    }

    /// Verifies that the whole image has the digest in the manifest and is on the disk. Returns its
    /// block map.
    fn verify(&self, file: &mut File) -> anyhow::Result<Vec<u8>> {
        let size = self.image.base.size_bytes;
        let mut progress = Progress::new(TOOL);
        let content = store::content(file, self.signals, |done| {
            progress.show("verifying", done, size)
        });
        let Content { sha256, map } = content
            .exit(Exit::Io, || "reading the arrived image")?
            .ok_or_else(interrupted)?;
        if sha256 != self.image.base.sha256 && !sabotaged("skip-digest") {
            return Err(Exit::Data
                .error("image.torrent_file: its data does not have the digest in the manifest"));
        }
        file.sync_all().exit(Exit::Io, || "syncing the image")?;
        Ok(map)
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    manifest::Hex(Sha256::digest(bytes).into())
}
