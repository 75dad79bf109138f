//! A set of realms: a directory of their files, which is replaced as a whole.
//!
//! The next set is made beside the present one and is durable before it takes its place by one
//! rename. Whatever fails until then leaves the present one as it is.

pub mod import;
pub mod publish;
mod report;
mod server;
pub mod update;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, atomic, io_error, sabotaged};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::unistd::syncfs;

use crate::find;

/// The manifest of the set, on the server and in a set that came from there.
pub const MANIFEST: &str = "realms.json";

/// Everybody may read who is trusted.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// The set that is being made.
#[derive(Debug)]
pub struct Next {
    place: Place,
    /// What there is now, if anything.
    present: Option<PathBuf>,
    /// Where it is made; gone once it is published.
    staging: PathBuf,
    /// On the directory that all of that is in.
    _lock: Flock<File>,
}

/// How a set takes its place.
#[derive(Debug)]
enum Place {
    /// By a symbolic link, which is replaced.
    Link(PathBuf),
    /// By its name, which it exchanges with the present one.
    Directory(PathBuf),
}

impl Next {
    /// Begins one for this machine, or `into` a directory. Status 75 while another one is being
    /// made, 66 when there is no directory for it.
    pub fn begin(common: &Common, into: Option<&Path>) -> anyhow::Result<Next> {
        let (place, path) = match into {
            None => {
                let link = common.path(find::INSTALLED);
                if let Some(parent) = link.parent() {
                    atomic::create_directory(parent, DIRECTORY_MODE)?;
                }
                (Place::Link(link.clone()), link)
            }
            Some(into) => {
                let path = whole(into)?;
                (Place::Directory(path.clone()), path)
            }
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Exit::Usage.error(format_args!("{}: no name", path.display())));
        };
        let lock = lock(parent)?;
        let present = match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => Some(found.map_err(|error| failed(error, "finding", &path))?),
        };
        if present.as_ref().is_some_and(|present| !present.is_dir()) {
            return Err(Exit::CantCreate.error(format_args!(
                "replacing {}: it is a file; name a directory of realms, or a new one",
                path.display()
            )));
        }
        // What a power cut left.
        let staging = parent.join(format!(".{}.new", name.to_string_lossy()));
        remove(&staging)?;
        if let Place::Link(link) = &place {
            remove_old(link)?;
        }
        fs::create_dir(&staging)
            .and_then(|()| fs::set_permissions(&staging, PermissionsExt::from_mode(DIRECTORY_MODE)))
            .map_err(|error| failed(error, "making directory", &staging))?;
        Ok(Next {
            place,
            present,
            staging,
            _lock: lock,
        })
    }

    /// Where it is made.
    pub fn directory(&self) -> &Path {
        &self.staging
    }

    /// The present set, if there is one.
    pub fn present(&self) -> Option<&Path> {
        self.present.as_deref()
    }

    /// Writes a file of it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.staging.join(name);
        fs::write(&path, bytes)
            .and_then(|()| fs::set_permissions(&path, PermissionsExt::from_mode(FILE_MODE)))
            .map_err(|error| failed(error, "writing", &path))
    }

    /// Takes a file that was written back.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.staging.join(name);
        fs::remove_file(&path).map_err(|error| failed(error, "removing", &path))
    }

    /// Carries a file of the present set over. False when it has none of that name.
    pub fn carry(&self, name: &str) -> anyhow::Result<bool> {
        let Some(present) = &self.present else {
            return Ok(false);
        };
        let (from, to) = (present.join(name), self.staging.join(name));
        // A file system may have no second names, and the kernel may refuse one of another user's
        // file.
        match fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error, "copying", &from)),
        }
    }

    /// Carries every file of the present set over that is not there yet, `except` those names.
    /// Status 78 when there is something else in it: that is no directory of realms.
    pub fn carry_rest(&self, except: &[String]) -> anyhow::Result<()> {
        let Some(present) = &self.present else {
            return Ok(());
        };
        let reading = |error| failed(error, "reading", present);
        for entry in fs::read_dir(present).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let name = entry.file_name();
            let to = self.staging.join(&name);
            if except.iter().any(|except| name == **except) || fs::symlink_metadata(&to).is_ok() {
                continue;
            }
            let kind = entry.file_type().map_err(reading)?;
            if kind.is_symlink() {
                fs::read_link(entry.path())
                    .and_then(|target| symlink(target, &to))
                    .map_err(|error| failed(error, "copying", &entry.path()))?;
            } else if kind.is_file() {
                self.carry(&name.to_string_lossy())?;
            } else {
                return Err(Exit::Config.error(format_args!(
                    "{}: not a file; a directory of realms has nothing else",
                    entry.path().display()
                )));
            }
        }
        Ok(())
    }

    /// Puts it into its place.
    pub fn publish(self) -> anyhow::Result<()> {
        File::open(&self.staging)
            .and_then(|directory| Ok(syncfs(directory)?))
            .map_err(|error| failed(error, "syncing", &self.staging))?;
        match &self.place {
            Place::Link(link) => self.publish_link(link),
            Place::Directory(directory) => self.publish_directory(directory),
        }
    }

    fn publish_link(&self, link: &Path) -> anyhow::Result<()> {
        if link.is_dir() && !link.is_symlink() {
            return Err(Exit::Config.error(format_args!(
                "{}: a directory, and not the symbolic link to one; move it away",
                link.display()
            )));
        }
        let parent = parent(link);
        let number = sets(link)?.last().map_or(0, |(number, _)| *number) + 1;
        let name = format!("{}-{number}", name(link));
        let named = parent.join(&name);
        let temporary = parent.join(format!(".{}.link", self::name(link)));
        let switch = || {
            if sabotaged("unlink-first") {
                let _ = fs::remove_file(link); // of the first set there is none
            }
            fs::rename(&self.staging, &named)?;
            File::open(parent)?.sync_all()?;
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(&name, &temporary)?;
            fs::rename(&temporary, link)
        };
        if let Err(error) = switch() {
            let _ = fs::remove_file(&temporary); // the first error is the one to report
            let _ = fs::remove_dir_all(&named);
            return Err(failed(error, "replacing", link));
        }
        atomic::sync_directory(parent)?;
        remove_old(link)
    }

    fn publish_directory(&self, directory: &Path) -> anyhow::Result<()> {
        let parent = parent(directory);
        let replacing = |error: io::Error| failed(error, "replacing", directory);
        let Some(present) = &self.present else {
            fs::rename(&self.staging, directory).map_err(replacing)?;
            return atomic::sync_directory(parent);
        };
        let like = fs::metadata(present).map_err(replacing)?;
        let made = fs::metadata(&self.staging).map_err(replacing)?;
        if (like.uid(), like.gid()) != (made.uid(), made.gid()) {
            chown(&self.staging, Some(like.uid()), Some(like.gid())).map_err(replacing)?;
        }
        fs::set_permissions(&self.staging, like.permissions()).map_err(replacing)?;
        let exchange = RenameFlags::RENAME_EXCHANGE;
        renameat2(AT_FDCWD, &self.staging, AT_FDCWD, directory, exchange)
            .map_err(|errno| replacing(errno.into()))?;
        atomic::sync_directory(parent)?;
        remove(&self.staging)
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.staging); // it is not there once it is published
    }
}

/// Removes the sets beside a link, but for the present one and the one before.
fn remove_old(link: &Path) -> anyhow::Result<()> {
    let present = fs::read_link(link).ok();
    let mut sets = sets(link)?;
    if let Some(at) = sets
        .iter()
        .position(|(_, set)| set.file_name() == present.as_deref().map(Path::as_os_str))
    {
        sets.drain(at.saturating_sub(1)..=at);
    }
    sets.iter().try_for_each(|(_, set)| remove(set))
}

/// The sets beside a link, by number.
fn sets(link: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let parent = parent(link);
    let reading = |error| failed(error, "reading", parent);
    let prefix = format!("{}-", name(link));
    let mut sets = Vec::new();
    for entry in fs::read_dir(parent).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            sets.push((number, entry.path()));
        }
    }
    sets.sort();
    Ok(sets)
}

/// A directory by its whole path, which may end in one that is not there yet.
fn whole(path: &Path) -> anyhow::Result<PathBuf> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let found = match (fs::canonicalize(path), path.file_name()) {
        (Err(error), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            fs::canonicalize(parent).map(|parent| parent.join(name))
        }
        (found, _) => found,
    };
    found.map_err(|error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("finding {}", path.display()),
        )
    })
}

fn lock(directory: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::open(directory).map_err(|error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("opening {}", directory.display()),
        )
    })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        let why = match errno {
            nix::errno::Errno::EWOULDBLOCK => {
                "another import or update is under way; try again when it has ended".into()
            }
            errno => errno.to_string(),
        };
        Exit::TemporaryFailure.error(format_args!("locking {}: {why}", directory.display()))
    })
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(error, "removing", directory))
        }
        _ => Ok(()),
    }
}

fn failed(error: io::Error, doing: &str, path: &Path) -> anyhow::Error {
    io_error(
        error,
        Exit::of_write,
        format_args!("{doing} {}", path.display()),
    )
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
