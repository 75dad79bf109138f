//! `mkimg-torrent host` and `verify-host`: signs the root of a host on the server, and verifies it
//! on a machine.
//!
//! `host` refuses what a machine would refuse: it reads the image as `abflip` reads the slot, and
//! the manifest is checked as on the machines.

use extlinux::{Extlinux, SECTOR};
use jsonpipe::{Answer, Common, Document, Exit, Pipe, timestamp};
use manifest::{
    Description, Digest, Hex, Keys, Signed, SigningKey, SlotField, SlotFieldKind, ZfsHost,
};

use crate::create::utc;
use crate::image::Image;
use crate::request::{Host, HostKind, Root, VerifyHost};
use crate::survey::boot_entry;
use crate::{TOOL, ext4, report};

/// The offset of the magic number in a stream of `zfs send`, little-endian or big-endian by the
/// machine that made it (zfs_ioctl.h).
const STREAM_MAGIC_AT: u64 = 8;
const STREAM_MAGIC: u64 = 0x2_f5ba_cbac;

/// Describes and signs a root; writes no file.
pub fn host(common: &Common, pipe: &Pipe, options: &Host) -> anyhow::Result<Answer> {
    let mut document = pipe.document("a document with the section image")?;
    let root: Root = document.require("image")?;
    let key = SigningKey::read(&options.key)?;
    for model in &root.models {
        if model.trim().is_empty() || model.chars().any(char::is_control) {
            return Err(Exit::Data.error("image.models: empty, or not one line"));
        }
    }
    if root
        .path
        .as_ref()
        .is_some_and(|path| !path.starts_with('/'))
    {
        return Err(Exit::Data.error("image.path: not an absolute path"));
    }
    check(&root)?;
    if options.check {
        return Ok(Answer::yes(document));
    }
    let image = match (&options.file, &root.path) {
        (Some(file), _) => Image::open(file)?,
        (None, Some(path)) => Image::open(&common.path(path))?,
        (None, None) => {
            return Err(
                Exit::Usage.error("which image? give it as FILE, or its place as image.path")
            );
        }
    };
    let created_at = match &root.created_at {
        Some(text) => utc(text)?,
        None => timestamp::rfc3339(image.modified()?),
    };
    let report = match root.kind {
        HostKind::Host => seal(&slot_root(&image, &root, created_at)?, &key)?,
        HostKind::ZfsHost => seal(&pool_root(&image, &root, created_at)?, &key)?,
    };
    document.set(TOOL.section, &report)?;
    Ok(Answer::yes(document))
}

/// Refuses what the manifest refuses of the description, with a size that stands for an image's.
fn check(root: &Root) -> anyhow::Result<()> {
    let created_at = root.created_at.as_deref().map(utc).transpose()?;
    let created_at = created_at.unwrap_or_default();
    let bytes = match root.kind {
        HostKind::Host => for_slot(root, 1, created_at).to_bytes(),
        HostKind::ZfsHost => for_pool(root, 1, created_at).to_bytes(),
    };
    bytes.map(drop)
}

fn for_slot(root: &Root, size_bytes: u64, created_at: String) -> manifest::Host {
    manifest::Host {
        name: root.name.clone(),
        version: root.version,
        size_bytes,
        sha256: Hex([0; 32]),
        models: root.models.clone(),
        slot_fields: Vec::new(),
        created_at,
    }
}

fn for_pool(root: &Root, size_bytes: u64, created_at: String) -> ZfsHost {
    ZfsHost {
        name: root.name.clone(),
        version: root.version,
        size_bytes,
        sha256: Hex([0; 32]),
        models: root.models.clone(),
        created_at,
    }
}

/// The root for a slot. Faults are reported before all of it is read.
fn slot_root(image: &Image, root: &Root, created_at: String) -> anyhow::Result<manifest::Host> {
    let mut slot_fields = file_system_fields(image)?;
    let mut host = manifest::Host {
        slot_fields: slot_fields.clone(),
        ..for_slot(root, image.size_bytes(), created_at)
    };
    host.to_bytes()?;
    let boot_once = boot_once(image)?;
    let survey = image.survey()?;
    if survey.boot_entries.is_empty() {
        return Err(image.wrong(&format!(
            "no boot entry says {}, so that no slot could boot it",
            boot_entry()
        )));
    }
    let digits = SlotFieldKind::RootPartuuid.length_bytes();
    let behind = boot_entry().len() as u64 - digits;
    slot_fields.extend(
        survey
            .boot_entries
            .iter()
            .map(|at| field(at + behind, SlotFieldKind::RootPartuuid)),
    );
    slot_fields.extend(boot_once);
    host.slot_fields = slot_fields;
    host.sha256 = survey.sha256;
    Ok(host)
}

fn field(offset_bytes: u64, kind: SlotFieldKind) -> SlotField {
    SlotField {
        offset_bytes,
        length_bytes: kind.length_bytes(),
        kind,
    }
}

/// The UUID and the label, if the file system allows changing them.
fn file_system_fields(image: &Image) -> anyhow::Result<Vec<SlotField>> {
    let mut superblock = [0; ext4::BYTES];
    if image.size_bytes() >= ext4::OFFSET + ext4::BYTES as u64 {
        superblock.copy_from_slice(&image.read(ext4::OFFSET, ext4::BYTES)?);
    }
    let name = image.path().display().to_string();
    ext4::check(&superblock, image.size_bytes(), &name).map_err(|why| image.wrong(&why))?;
    Ok(vec![
        field(ext4::UUID_OFFSET, SlotFieldKind::FilesystemUuid),
        field(ext4::LABEL_OFFSET, SlotFieldKind::FilesystemLabel),
    ])
}

/// extlinux's two boot-once sectors, if it is installed.
fn boot_once(image: &Image) -> anyhow::Result<Option<SlotField>> {
    let Some(found) = Extlinux::find(image.size_bytes(), |offset, length| {
        image.read(offset, length)
    })?
    else {
        return Ok(None);
    };
    let Some([first, second]) = found.area() else {
        return Err(image.wrong("its extlinux has no boot-once area; install it again"));
    };
    if second != first + 1 {
        return Err(
            image.wrong("the two sectors that extlinux writes are apart; make the image anew")
        );
    }
    for sector in [first, second] {
        if !extlinux::adv::is_copy(&image.read(sector * SECTOR, SECTOR as usize)?) {
            return Err(image
                .wrong("its extlinux has no valid boot-once area; see extlinux(1), --reset-adv"));
        }
    }
    Ok(Some(field(first * SECTOR, SlotFieldKind::BootOnce)))
}

/// The root for a pool: a stream of `zfs send`.
fn pool_root(image: &Image, root: &Root, created_at: String) -> anyhow::Result<ZfsHost> {
    let magic = match image.size_bytes() {
        0..16 => Vec::new(),
        _ => image.read(STREAM_MAGIC_AT, 8)?,
    };
    if magic != STREAM_MAGIC.to_le_bytes() && magic != STREAM_MAGIC.to_be_bytes() {
        return Err(image.wrong("not a stream of zfs send"));
    }
    let described = for_pool(root, image.size_bytes(), created_at);
    described.to_bytes()?;
    Ok(ZfsHost {
        sha256: image.survey()?.sha256,
        ..described
    })
}

/// The fields of both kinds of roots.
trait Described: Description {
    fn summary(&self) -> (&str, u64, u64, Digest, &[String]);
}

impl Described for manifest::Host {
    fn summary(&self) -> (&str, u64, u64, Digest, &[String]) {
        (
            &self.name,
            self.version,
            self.size_bytes,
            self.sha256,
            &self.models,
        )
    }
}

impl Described for ZfsHost {
    fn summary(&self) -> (&str, u64, u64, Digest, &[String]) {
        (
            &self.name,
            self.version,
            self.size_bytes,
            self.sha256,
            &self.models,
        )
    }
}

fn section<D: Described>(described: &D, signed: &Signed) -> report::Root {
    let (name, version, size_bytes, sha256, _) = described.summary();
    let (manifest, signature) = signed.to_base64();
    let kind = D::KIND.as_str();
    report::Root {
        changed: false,
        kind,
        name: name.into(),
        version,
        size_bytes,
        sha256,
        manifest,
        signature,
    }
}

fn seal<D: Described>(described: &D, key: &SigningKey) -> anyhow::Result<report::Root> {
    Ok(section(described, &Signed::seal(described, key)?))
}

/// Accepts a manifest if one of this machine's keys signed it, and it is for this machine.
pub fn verify_host(common: &Common, options: &VerifyHost) -> anyhow::Result<Answer> {
    let signed = Signed::read(&options.manifest, options.signature.as_deref())?;
    let report = match options.kind {
        HostKind::Host => believe::<manifest::Host>(common, &signed)?,
        HostKind::ZfsHost => believe::<ZfsHost>(common, &signed)?,
    };
    let mut document = Document::default();
    document.set(TOOL.section, &report)?;
    Ok(Answer::yes(document))
}

fn believe<D: Described>(common: &Common, signed: &Signed) -> anyhow::Result<report::Root> {
    let described: D = signed.verify(&Keys::read(&common.config("keys"), D::KIND)?)?;
    let (name, _, _, _, models) = described.summary();
    manifest::check_model(model::of_machine(common), models, &format!("take {name}"))?;
    Ok(section(&described, signed))
}
