//! `mkimg-torrent create`: reads an image once, and writes the files for its distribution beside
//! it.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use images::POOL_LOCK;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, lock, signals, timestamp};
use manifest::{Base, Description, Format, Hex, Keys, Kind, Program, Signed, SigningKey};
use sha2::{Digest, Sha256};

use crate::delta::delta;
use crate::image::Image;
use crate::metainfo::Contents;
use crate::metalink::metalink;
use crate::pieces::{self, PieceHasher};
use crate::request::{self, Create, Programs};
use crate::store::{self, Generation, Plan};
use crate::{TOOL, report};

/// The piece length of the block map. A map is small; many pieces let many hosts begin at once.
const MAP_PIECE_BYTES: u64 = pieces::MIN_BYTES;

/// Describes, signs and writes; a dry run only reports whether there is anything to write.
pub fn create(common: &Common, pipe: &Pipe, options: &Create) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the section image")?;
    let (request, mut base) = described(&document)?;
    check_urls("--url", options.url.as_slice()).map_err(|error| Exit::Usage.error(error))?;
    let key = options.key.as_deref().map(|path| signing_key(common, path));
    let key = key.transpose()?;
    if options.check {
        return Ok(Answer::yes(document));
    }
    let key = key.ok_or_else(|| Exit::Usage.error("no --key FILE"))?;

    let image = match (&options.file, &request.path) {
        (Some(file), _) => Image::open(file)?,
        (None, Some(path)) => Image::open(&common.path(path))?,
        (None, None) => Image::open(&common.path(store::image_path(&base))).map_err(|error| {
            match Exit::of(&error) {
                Exit::NoInput => Exit::NoInput.error(format_args!(
                    "{error:#}; give the image as FILE, or its place as image.path"
                )),
                _ => error,
            }
        })?,
    };
    base.size_bytes = image.size_bytes();
    base.virtual_bytes = image.virtual_bytes()?;
    base.created_at = match &request.created_at {
        Some(text) => utc(text)?,
        None => timestamp::rfc3339(image.modified()?),
    };
    let piece_bytes = request
        .piece_bytes
        .unwrap_or_else(|| pieces::length_for(base.size_bytes));
    check_pieces(piece_bytes, base.size_bytes)?;
    base.to_bytes()?; // faults of the description are reported before the image is read

    let digests = image.digest(pipe, piece_bytes)?;
    let name = format!("{}-{}", base.name, base.generation);
    let file_name = format!("{name}.{}", base.format.as_str());
    let torrent = |name: &str, size_bytes: u64, piece_bytes: u64, pieces: &[pieces::Piece]| {
        let (source, comment) = (request.source.as_deref(), request.comment.as_deref());
        Contents {
            name,
            size_bytes,
            piece_bytes,
            pieces,
            source,
            trackers: &request.trackers,
            comment,
        }
        .encode()
    };
    let (torrent_file, infohash) =
        torrent(&file_name, base.size_bytes, piece_bytes, &digests.pieces)?;
    let map_pieces = pieces_of(&digests.blocks);
    let map_name = format!("{name}.blocks");
    let (blocks_torrent_file, blocks_infohash) = torrent(
        &map_name,
        digests.blocks.len() as u64,
        MAP_PIECE_BYTES,
        &map_pieces,
    )?;
    let blocks_sha256 = Hex(Sha256::digest(&digests.blocks).into());
    let base = Base {
        sha256: digests.sha256,
        blocks_sha256,
        infohash,
        blocks_infohash,
        ..base
    };
    let signed = Signed::seal(&base, &key)?;
    drop(key);

    let delta = delta(common, pipe, &base, &digests.blocks, piece_bytes);

    // From here on signals are deferred until all files exist. A dry run writes nothing, not even
    // the lock's file.
    let ending_signals = signals::defer()?;
    let lock = if options.dry_run {
        None
    } else {
        Some(lock::wait(common, POOL_LOCK, &ending_signals)?)
    };
    let signature = signed.signature.to_bytes();
    let metalink_text = options
        .url
        .as_ref()
        .map(|url| metalink(&base, &file_name, piece_bytes, &digests.pieces, url));
    let generation = Generation {
        base: &base,
        blocks: &digests.blocks,
        torrent: &torrent_file,
        blocks_torrent: &blocks_torrent_file,
        signed: &signed,
    };
    let mut plan = Plan::new(common, &generation, &signature)?;
    if let (Some(path), Some(text)) = (&options.metalink, &metalink_text) {
        plan.add_first(path, 0o644, text.as_bytes())?;
    }
    let changed = plan.changes();
    let undo = if options.dry_run {
        None
    } else {
        Some(plan.carry_out()?)
    };
    drop(lock); // the reader of the document may be slow

    let (manifest, signature) = signed.to_base64();
    document.set(
        TOOL.section,
        &report::Image {
            changed,
            manifest,
            signature,
            torrent_file: BASE64_STANDARD.encode(&torrent_file),
            blocks_torrent_file: BASE64_STANDARD.encode(&blocks_torrent_file),
            delta,
        },
    )?;
    let answer = Answer::yes(document).holding(ending_signals);
    let common = common.clone();
    Ok(match undo {
        // Status 74 means that nothing was changed.
        Some(undo) => answer.or_undo(move || undo.take_back(&common)),
        None => answer,
    })
}

/// The request, and what it describes; the values of the file are added later. Status 65 for all
/// that is wrong without one.
pub fn described(document: &Document) -> anyhow::Result<(request::Image, Base)> {
    let request: request::Image = document.require("image")?;
    let programs: Programs = document.read("programs")?.unwrap_or_default();
    let base = description(&request, programs)?;
    check_urls("image.trackers", &request.trackers)?;
    if request.trackers.is_empty() {
        return Err(Exit::Data
            .error("image.trackers: empty; name at least one, which machines ask for peers"));
    }
    request.created_at.as_deref().map(utc).transpose()?;
    let smallest = Base {
        // They stand for those of an image.
        size_bytes: 1,
        virtual_bytes: 1,
        ..base.clone()
    };
    if let Some(piece_bytes) = request.piece_bytes {
        check_pieces(piece_bytes, smallest.size_bytes)?;
    }
    smallest.to_bytes()?;
    Ok((request, base))
}

fn check_pieces(piece_bytes: u64, image_bytes: u64) -> anyhow::Result<()> {
    match pieces::suit(piece_bytes, image_bytes) {
        true => Ok(()),
        false => Err(Exit::Data.error(format_args!("image.piece_bytes: {}", pieces::RULE))),
    }
}

/// The private key, if machines accept its signatures: a wrong one, replacing a valid signature,
/// would end its distribution.
fn signing_key(common: &Common, path: &Path) -> anyhow::Result<SigningKey> {
    let key = SigningKey::read(path)?;
    let directory = common.config("keys");
    if !Keys::read(&directory, Kind::Base)?.accept(&key) {
        let (path, directory) = (path.display(), directory.display());
        return Err(Exit::Config.error(format_args!(
            "signing with {path}: its public half is not in base-*.pub in {directory}; machines would refuse its signature; \
             put it there: openssl pkey -in {path} -pubout -out {directory}/base-NAME.pub"
        )));
    }
    Ok(key)
}

/// The values of the document.
fn description(request: &request::Image, programs: Programs) -> anyhow::Result<Base> {
    let wrong = |key: &str, what: &str| Err(Exit::Data.error(format_args!("{key}: {what}")));
    for (key, name) in [
        ("image.name", &request.name),
        ("image.ostype", &request.ostype),
    ] {
        if !manifest::is_name(name) {
            return wrong(key, manifest::NAME_RULE);
        }
    }
    if let Err(message) = manifest::check_count(request.generation, "generations") {
        return wrong("image.generation", &message);
    }
    if request.format != Format::Qcow2 {
        return wrong(
            "image.format",
            "raw; a base is qcow2, which qemu-img convert -O qcow2 makes of it",
        );
    }
    if request
        .path
        .as_ref()
        .is_some_and(|path| !path.starts_with('/'))
    {
        return wrong("image.path", "not an absolute path");
    }
    let models = request.models.iter().map(|model| ("image.models", model));
    let programs_ = programs
        .iter()
        .flat_map(|(name, version)| [("programs", name), ("programs", version)]);
    let lines = [
        ("image.comment", &request.comment),
        ("image.source", &request.source),
    ];
    let lines = lines
        .into_iter()
        .filter_map(|(key, line)| Some((key, line.as_ref()?)));
    for (key, text) in models.chain(programs_).chain(lines) {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return wrong(key, "empty, or not one line");
        }
    }
    Ok(Base {
        name: request.name.clone(),
        title: request.title.clone(),
        ostype: request.ostype.clone(),
        default: request.default,
        generation: request.generation,
        format: request.format,
        size_bytes: 0,
        virtual_bytes: 0,
        sha256: Hex([0; 32]),
        blocks_sha256: Hex([0; 32]),
        infohash: Hex([0; 20]),
        blocks_infohash: Hex([0; 20]),
        models: request.models.clone(),
        programs: programs
            .into_iter()
            .map(|(name, version)| Program { name, version })
            .collect(),
        created_at: String::new(),
    })
}

/// A torrent client uses HTTP or UDP, so only such URLs are accepted.
fn check_urls(key: &str, urls: &[String]) -> anyhow::Result<()> {
    let is_url = |url: &str| {
        let rest = ["http://", "https://", "udp://"]
            .into_iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        rest.is_some_and(|rest| {
            !rest.is_empty()
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte))
        })
    };
    match urls.iter().all(|url| is_url(url)) {
        true => Ok(()),
        false => Err(Exit::Data.error(format_args!(
            "{key}: not a URL with http://, https:// or udp://"
        ))),
    }
}

/// A time in the form of the documents.
pub fn utc(text: &str) -> anyhow::Result<String> {
    let time = humantime::parse_rfc3339(text).exit(
        Exit::Data,
        || "image.created_at: not a time like 2026-11-23T00:00:00Z",
    )?;
    Ok(timestamp::rfc3339(time))
}

fn pieces_of(map: &[u8]) -> Vec<pieces::Piece> {
    let mut hasher = PieceHasher::new(MAP_PIECE_BYTES);
    hasher.update(map);
    hasher.finish()
}
