//! The store: the places of a generation's finished and arriving files.
//!
//! A finished file has its name in the base's directory, and is whole, verified and owned by root.
//! Arriving files are in `.incoming` beside it, in the same file system: `.incoming/GENERATION/`
//! belongs to aria2's user, the only place where that user may write; `.incoming/GENERATION.image`
//! has been taken over from aria2 and belongs to root, but does not have its final name yet.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use block_map::BLOCK_BYTES;
use confined::Identity;
use images::{BACKING, Ending, file_name, parse_file_name};
use jsonpipe::signals::Deferred;
use jsonpipe::{Common, Exit, ExitContext, atomic, io_error};
use manifest::{Base, Digest, Format};
use nix::errno::Errno;
use nix::libc;
use sha2::{Digest as _, Sha256};

/// The bytes hashed between two checks for other work; whole blocks.
const CHUNK_BYTES: usize = 1 << 20;

/// A file of a generation that a torrent fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The image.
    Image,
    /// Its block map.
    Blocks,
}

/// The files of one generation of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The name of the base.
    pub name: String,
    /// The generation.
    pub generation: u64,
    format: Format,
    /// The base's directory on this machine.
    directory: PathBuf,
}

impl Files {
    /// The files of the base that a manifest describes.
    pub fn of(common: &Common, base: &Base) -> Files {
        Files::new(common, &base.name, base.generation, base.format)
    }

    fn new(common: &Common, name: &str, generation: u64, format: Format) -> Files {
        let directory = common.path(images::directory(name));
        Files {
            name: name.to_owned(),
            generation,
            format,
            directory,
        }
    }

    /// The files of an image, by its path in documents; `None` when the path is not an image of the
    /// store.
    pub fn from_path(common: &Common, path: &str) -> Option<Files> {
        match images::parse_path(path)? {
            (name, generation, Ending::Image(format)) => {
                Some(Files::new(common, name, generation, format))
            }
            _ => None,
        }
    }

    /// The newest generation of each base that has an image and a manifest in the store, by the
    /// names of the bases.
    pub fn newest(common: &Common) -> anyhow::Result<Vec<Files>> {
        let mut newest: BTreeMap<String, Files> = BTreeMap::new();
        for files in Files::all(common)? {
            match newest.get(&files.name) {
                Some(known) if known.generation > files.generation => {}
                _ => drop(newest.insert(files.name.clone(), files)),
            }
        }
        Ok(newest.into_values().collect())
    }

    /// Every generation that has an image and a manifest in the store.
    pub fn all(common: &Common) -> anyhow::Result<Vec<Files>> {
        let mut all = Vec::new();
        for base in entries(&common.path(BACKING))? {
            for file in entries(&base)? {
                let inside = file.strip_prefix(common.path(BACKING)).unwrap_or(&file);
                let path = Path::new(BACKING).join(inside);
                let files = path
                    .to_str()
                    .and_then(|path| Files::from_path(common, path));
                all.extend(files.filter(|files| files.sidecar(Ending::Manifest).is_file()));
            }
        }
        all.sort_by(|a, b| (&a.name, a.generation).cmp(&(&b.name, b.generation)));
        Ok(all)
    }

    /// The path of the image in documents, relative to the root.
    pub fn path(&self) -> String {
        images::path(&self.name, self.generation, Ending::Image(self.format))
    }

    /// A finished file by its ending.
    pub fn sidecar(&self, ending: Ending) -> PathBuf {
        self.directory.join(file_name(self.generation, ending))
    }

    /// The finished file of a part.
    pub fn finished(&self, part: Part) -> PathBuf {
        match part {
            Part::Image => self.sidecar(Ending::Image(self.format)),
            Part::Blocks => self.sidecar(Ending::Blocks),
        }
    }

    fn incoming(&self) -> PathBuf {
        self.directory.join(".incoming")
    }

    /// The directory where aria2 writes.
    fn nursery(&self) -> PathBuf {
        self.incoming().join(self.generation.to_string())
    }

    /// The file of a part that aria2 is writing.
    pub fn arriving(&self, part: Part) -> PathBuf {
        self.nursery().join(part.as_str())
    }

    /// The same file once root owns it.
    pub fn taken(&self, part: Part) -> PathBuf {
        self.incoming()
            .join(format!("{}.{}", self.generation, part.as_str()))
    }

    /// Whether a path is in the base's directory.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.directory)
    }

    /// Makes the directories, and moves back a file that an earlier call had taken over but not
    /// finished. Arriving data of other generations is removed: it is no longer wanted, and no
    /// other code would ever remove it.
    pub fn prepare(&self, identity: Identity) -> anyhow::Result<()> {
        atomic::create_directory(&self.directory, 0o755)?;
        let (incoming, nursery) = (self.incoming(), self.nursery());
        let failed = |error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("preparing {}", nursery.display()),
            )
        };
        // Whatever the caller's umask is, aria2's user must be able to enter.
        make_directory(&incoming, 0o755).map_err(failed)?;
        make_directory(&nursery, 0o700).map_err(failed)?;
        own(&nursery, identity).map_err(failed)?;
        let ours = [
            nursery.clone(),
            self.taken(Part::Image),
            self.taken(Part::Blocks),
        ];
        for other in entries(&incoming)?
            .into_iter()
            .filter(|path| !ours.contains(path))
        {
            let is_directory = fs::symlink_metadata(&other).map_err(failed)?.is_dir();
            if is_directory {
                fs::remove_dir_all(&other)
            } else {
                fs::remove_file(&other)
            }
            .map_err(failed)?;
        }
        for part in [Part::Image, Part::Blocks] {
            match fs::rename(self.taken(part), self.arriving(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            // aria2's control file. It would make aria2 refuse any other torrent, and seedctl
            // checks the data itself.
            for path in [self.arriving(part), self.finished(part)] {
                remove_if_there(&control_file(&path)).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Opens the file that aria2 will continue, new or from an earlier call, with its final length.
    /// It is sparse.
    pub fn open_arriving(
        &self,
        part: Part,
        length: u64,
        identity: Identity,
    ) -> anyhow::Result<File> {
        let path = self.arriving(part);
        let failed = |error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("opening {}", path.display()),
            )
        };
        let open = || -> io::Result<File> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            let metadata = file.metadata()?;
            // It lies in aria2's directory: anything but a regular file with one name is refused.
            if !metadata.is_file() || metadata.nlink() != 1 {
                return Err(io::Error::other("not a regular file"));
            }
            nix::unistd::fchown(&file, Some(identity.uid), Some(identity.gid))?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            if metadata.len() != length {
                file.set_len(length)?;
            }
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(file),
            // Tries once more without the obstacle.
            Err(error) if Exit::of_write(&error) == Exit::Io => {
                remove_if_there(&path).map_err(failed)?;
                open().map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Takes over a whole file that aria2 has closed: it becomes root's, read-only, and leaves
    /// aria2's directory.
    ///
    /// From then on only root can change it, so the result of a verification stays valid. Status 75
    /// when a process still has it open for writing.
    pub fn take(&self, part: Part) -> anyhow::Result<File> {
        let (from, to) = (self.arriving(part), self.taken(part));
        let failed = |error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("taking over {}", from.display()),
            )
        };
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&from);
        let file = open.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(failed(io::Error::other("not a regular file")));
        }
        nix::unistd::fchown(&file, Some(0.into()), Some(0.into()))
            .map_err(|errno| failed(errno.into()))?;
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(failed)?;
        lease::nobody_writes(&file).map_err(failed)?;
        fs::rename(&from, &to).map_err(failed)?;
        // The directory was aria2's between our open and the rename.
        let named = fs::symlink_metadata(&to).map_err(failed)?;
        if (named.dev(), named.ino()) != (metadata.dev(), metadata.ino()) {
            remove_if_there(&to).map_err(failed)?;
            return Err(failed(io::Error::other("it was replaced meanwhile")));
        }
        Ok(file)
    }

    /// Gives its final name to a file that was taken over.
    pub fn finish(&self, part: Part) -> anyhow::Result<()> {
        let (from, to) = (self.taken(part), self.finished(part));
        fs::rename(&from, &to).map_err(|error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("renaming to {}", to.display()),
            )
        })?;
        atomic::sync_directory(&self.directory)
    }

    /// Checks that a finished part exists with its length; otherwise aria2 would begin to fetch it.
    /// Status 66 when it does not exist, 65 when its length differs.
    pub fn require(&self, part: Part, length: u64) -> anyhow::Result<()> {
        let path = self.finished(part);
        let found = fs::metadata(&path);
        let found = found.map_err(|error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("looking at {}", path.display()),
            )
        })?;
        if found.is_file() && found.len() == length {
            return Ok(());
        }
        Err(Exit::Data.error(format_args!(
            "{}: {} bytes long, and should be {length}",
            path.display(),
            found.len()
        )))
    }

    /// Writes a small finished file.
    pub fn write_sidecar(&self, ending: Ending, bytes: &[u8]) -> anyhow::Result<()> {
        atomic::write(&self.sidecar(ending), 0o444, |file| file.write_all(bytes))
    }

    /// Removes every unfinished file of this generation.
    pub fn clear_incoming(&self) -> anyhow::Result<()> {
        let failed = |error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("clearing {}", self.incoming().display()),
            )
        };
        for part in [Part::Image, Part::Blocks] {
            remove_if_there(&self.taken(part)).map_err(failed)?;
        }
        // Left by a call that was killed while it wrote the map of the image; the next call fetches
        // it.
        remove_if_there(&self.directory.join(format!(
            ".{}.tmp",
            file_name(self.generation, Ending::Blocks)
        )))
        .map_err(failed)?;
        match fs::remove_dir_all(self.nursery()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let _ = fs::remove_dir(self.incoming()); // stays while it holds another generation
        Ok(())
    }

    /// The free space for aria2's user in the store's file system.
    pub fn room(&self) -> anyhow::Result<u64> {
        let room = nix::sys::statvfs::statvfs(&self.directory).exit(Exit::Io, || {
            format!("looking at {}", self.directory.display())
        });
        room.map(|room| room.blocks_available().saturating_mul(room.fragment_size()))
    }

    /// The old images in the base's directory that may share blocks with the new one, the newest
    /// first, each with its block map if it has one. Their content is not trusted.
    pub fn sources(&self) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
        let mut found = Vec::new();
        for path in entries(&self.directory)? {
            let of = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(parse_file_name);
            if let Some((generation, Ending::Image(_))) = of {
                found.push((
                    generation,
                    path.clone(),
                    self.directory.join(file_name(generation, Ending::Blocks)),
                ));
            }
        }
        found.sort_by(|(a, ..), (b, ..)| b.cmp(a));
        Ok(found
            .into_iter()
            .map(|(_, image, blocks)| (image, blocks))
            .collect())
    }
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Part::Image => "image",
            Part::Blocks => "blocks",
        }
    }
}

/// The entries of a directory; empty when it does not exist or is not a directory.
fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    });
    match entries {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        other => other.map_err(|error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", directory.display()),
            )
        }),
    }
}

/// aria2's control file, which records the pieces of a file.
fn control_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".aria2");
    name.into()
}

/// Whether aria2 has written a control file.
pub fn has_control_file(path: &Path) -> bool {
    control_file(path).exists()
}

/// Removes the control file that a foreign aria2 left beside a file.
pub fn remove_control_file(path: &Path) -> anyhow::Result<()> {
    let control = control_file(path);
    remove_if_there(&control).map_err(|error| {
        io_error(
            error,
            Exit::of_write,
            format_args!("removing {}", control.display()),
        )
    })
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !fs::symlink_metadata(path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn own(path: &Path, identity: Identity) -> io::Result<()> {
    Ok(nix::unistd::chown(
        path,
        Some(identity.uid),
        Some(identity.gid),
    )?)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The content of a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its digest.
    pub sha256: Digest,
    /// Its block map.
    pub map: Vec<u8>,
}

/// Reads a whole file; `None` when a signal ends the work. Calls `progress` with the bytes read so
/// far.
pub fn content(
    file: &mut File,
    signals: &Deferred,
    mut progress: impl FnMut(u64),
) -> io::Result<Option<Content>> {
    let (mut hasher, mut map) = (Sha256::new(), Vec::new());
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut done = 0;
    loop {
        chunk.clear();
        file.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(Some(Content {
                sha256: manifest::Hex(hasher.finalize().into()),
                map,
            }));
        }
        hasher.update(&chunk);
        map.extend(chunk.chunks(BLOCK_BYTES).flat_map(block_map::digest));
        done += chunk.len() as u64;
        progress(done);
        if signals.pending() {
            return Ok(None);
        }
    }
}

mod lease {
    //! The kernel knows whether a file is open for writing.

    #![allow(unsafe_code, reason = "nix has no word for leases")]

    use super::*;
    use std::os::fd::AsRawFd;

    /// A read lease is granted only while the file is not open for writing (fcntl(2)). `WouldBlock`
    /// when it is.
    pub fn nobody_writes(file: &File) -> io::Result<()> {
        for lease in [libc::F_RDLCK, libc::F_UNLCK] {
            // SAFETY: F_SETLEASE takes a number and no pointer; the descriptor is open as long as
            // `file` is.
            Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Arguments;
    use clap::Parser;

    fn common(root: &str) -> Common {
        Arguments::parse_from(["seedctl", "status", "--root", root]).common
    }

    #[test]
    fn a_path_of_an_image_leads_to_all_its_files() {
        let common = common("/m");
        let path = images::image_path("windows", 7);
        let files = Files::from_path(&common, &path).unwrap();
        assert_eq!(
            (files.name.as_str(), files.generation, files.path()),
            ("windows", 7, path)
        );
        let backing = common.path(BACKING);
        assert_eq!(files.finished(Part::Image), backing.join("windows/7.qcow2"));
        assert_eq!(
            files.finished(Part::Blocks),
            backing.join("windows/7.blocks")
        );
        assert_eq!(
            files.sidecar(Ending::BlocksTorrent),
            backing.join("windows/7.blocks.torrent")
        );
        assert_eq!(
            Files::from_path(&common, &images::path("windows", 7, Ending::Manifest)),
            None
        );
    }

    #[test]
    fn the_newest_image_is_the_first_source() {
        let root = tempfile::tempdir().unwrap();
        let common = common(root.path().to_str().unwrap());
        let files = Files::from_path(&common, &images::image_path("windows", 7)).unwrap();
        let directory = common.path(images::directory("windows"));
        fs::create_dir_all(&directory).unwrap();
        for name in [
            "3.qcow2",
            "10.raw",
            "7.qcow2",
            "7.torrent",
            "7.blocks",
            "x.qcow2",
            ".incoming",
            "7.qcow2.aria2",
        ] {
            fs::write(directory.join(name), "").unwrap();
        }
        let sources = files.sources().unwrap();
        let names: Vec<&str> = sources
            .iter()
            .map(|(image, _)| image.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["10.raw", "7.qcow2", "3.qcow2"]);
        assert_eq!(sources[0].1, directory.join("10.blocks"));
    }

    #[test]
    fn lease_sees_a_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let writer = File::create(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(
            lease::nobody_writes(&file).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(writer);
        lease::nobody_writes(&file).unwrap();
        File::options().write(true).open(&path).unwrap(); // the lease was released
    }
}
