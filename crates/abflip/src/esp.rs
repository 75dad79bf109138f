//! A slot's loader on the two EFI system partitions: the slot's own, hidden from the firmware, and
//! the visible one.
//!
//! The loader is a file in the slot's root that firmware can start directly: it contains the kernel
//! and a command line with the slot's PARTUUID. `abflip write` has verified it there. It is copied
//! to the slot's own partition, where the firmware finds it once the slot is active, and to the
//! visible one, for the one boot of the trial.
//!
//! All mounts are in a private mount namespace, which ends with this process.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, ExitContext, atomic, io_error};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::disk::{Access, Disk};
use crate::gpt::Place;
use crate::target;

/// The loader in a slot's root.
const LOADER: &str = "boot/labtools.efi";
/// The file that firmware starts from a partition without a boot entry (UEFI specification 2.10,
/// section 3.5.1.1).
const DEFAULT: &str = "EFI/BOOT/BOOTX64.EFI";
/// The file that the trial's entry starts.
const TRIAL: &str = "EFI/labtools/try.efi";
const MOUNTS: &str = "/run/labtools/trial";
/// The magic number of a firmware program.
const MAGIC: &[u8] = b"MZ";

/// Temporary names, which a power cut may leave behind.
const TEMPORARY: [&str; 2] = ["EFI/BOOT/BOOTX64.tmp", "EFI/labtools/try.tmp"];

/// The indexes of the slot's own partition and the visible one among the mounted.
const OWN: usize = 1;
const VISIBLE: usize = 2;

/// Useless files on an EFI system partition: the loader of a trial, when the slot is not the one
/// that boots.
fn leftovers(which: usize) -> Vec<&'static str> {
    let trial = (which == OWN).then_some(TRIAL);
    TEMPORARY.into_iter().chain(trial).collect()
}

fn reading(file: &str, error: io::Error) -> anyhow::Error {
    io_error(
        error,
        |_| Exit::Io,
        format_args!("reading {file} of an EFI system partition"),
    )
}

/// The mounted file systems of a trial.
#[derive(Debug)]
pub struct Mounted {
    /// In the order of mounting: the slot's root, its partition, the visible one.
    directories: Vec<PathBuf>,
    loader: File,
    loader_bytes: u64,
}

impl Mounted {
    /// Mounts the slot's root, its own system partition and the visible one, and checks that the
    /// loader exists and fits on both. Status 77 without root, 78 when the kernel or the slot is
    /// unsuitable, 73 when there is no room.
    pub fn open(
        common: &Common,
        disk: &Disk,
        [root, own, visible]: [Place; 3],
        access: Access,
    ) -> anyhow::Result<Mounted> {
        unshare_mounts()?;
        let directories = vec![
            mounted(common, disk, root, "root", Access::Read)?,
            mounted(common, disk, own, "own", access)?,
            mounted(common, disk, visible, "visible", Access::Read)?,
        ];
        let refuse = |why: &str| {
            Exit::Config.error(format_args!(
                "reading the slot's /{LOADER}: {why}; write another image"
            ))
        };
        let failed = |error| {
            io_error(
                error,
                |_| Exit::Config,
                format_args!("reading the slot's /{LOADER}"),
            )
        };
        let mut loader = open_in_root(&directories[0], LOADER).map_err(failed)?;
        let mut magic = [0; MAGIC.len()];
        loader.read_exact(&mut magic).map_err(failed)?;
        if magic != MAGIC {
            return Err(refuse("it is not a firmware program"));
        }
        let loader_bytes = loader.metadata().map_err(failed)?.len();
        let visible_path = directories[VISIBLE].clone();
        let found = Mounted {
            directories,
            loader,
            loader_bytes,
        };
        for (file, which) in [(DEFAULT, OWN), (TRIAL, VISIBLE)] {
            found.check_room(which, file)?;
        }
        // The visible partition starts the machine, so it is not written to needlessly.
        if access == Access::Write
            && !found
                .is_there(&visible_path.join(TRIAL))
                .map_err(|error| reading(TRIAL, error))?
        {
            unmount(&visible_path)?;
            mounted(common, disk, visible, "visible", access)?;
        }
        Ok(found)
    }

    /// Copies the loader to both partitions, durably. Returns its digest in lower-case hex.
    pub fn install(self) -> anyhow::Result<String> {
        self.put(OWN, DEFAULT)?;
        self.put(VISIBLE, TRIAL)?;
        let sha256 = self.rewound().and_then(|()| sha256(&self.loader));
        let sha256 = sha256.exit(Exit::Io, || format!("reading the slot's /{LOADER}"))?;
        let Mounted {
            directories,
            loader,
            ..
        } = self;
        drop(loader); // which would otherwise keep its file system busy
        directories
            .into_iter()
            .rev()
            .try_for_each(|directory| unmount(&directory))?;
        Ok(sha256)
    }

    /// Whether the loader fits beside the old files, or in place of the useless ones.
    fn check_room(&self, which: usize, file: &str) -> anyhow::Result<()> {
        let directory = &self.directories[which];
        let failed = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", directory.display()),
            )
        };
        let bytes =
            |file: &str| fs::metadata(directory.join(file)).map_or(0, |metadata| metadata.len());
        let old = bytes(file) + leftovers(which).iter().map(|file| bytes(file)).sum::<u64>();
        let free = free_bytes(directory).map_err(failed)?;
        if self.loader_bytes <= free + old {
            return Ok(());
        }
        Err(Exit::CantCreate.error(format_args!(
            "copying the slot's loader to {file} of an EFI system partition: it has {} bytes, and {} are free there; make room",
            self.loader_bytes,
            free + old
        )))
    }

    fn put(&self, which: usize, file: &str) -> anyhow::Result<()> {
        let directory = &self.directories[which];
        let path = directory.join(file);
        let failed = |error| {
            io_error(
                error,
                Exit::of_write,
                format_args!("copying the slot's loader to {file}"),
            )
        };
        if self.is_there(&path).map_err(failed)? {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(failed)?;
        let temporary = path.with_extension("tmp");
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        leftovers(which)
            .iter()
            .try_for_each(|file| remove(&directory.join(file)))
            .map_err(failed)?;
        // The old one is removed if there is no room beside it: nothing starts it now.
        if self.loader_bytes > free_bytes(directory).map_err(failed)? {
            remove(&path).map_err(failed)?;
        }
        let copy = || {
            let mut copied = File::create(&temporary)?;
            self.rewound()?;
            io::copy(&mut &self.loader, &mut copied)?;
            copied.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(parent)?.sync_all()
        };
        copy().map_err(|error| {
            let _ = remove(&temporary); // the failure is reported; the next trial removes a leftover
            failed(error)
        })
    }

    /// Whether the file already is the loader.
    fn is_there(&self, path: &Path) -> io::Result<bool> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        if file.metadata()?.len() != self.loader_bytes {
            return Ok(false);
        }
        self.rewound()?;
        let (mut ours, mut theirs) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            let length = (&self.loader).read(&mut ours)?;
            if length == 0 {
                return Ok(true);
            }
            file.read_exact(&mut theirs[..length])?;
            if ours[..length] != theirs[..length] {
                return Ok(false);
            }
        }
    }

    fn rewound(&self) -> io::Result<()> {
        (&self.loader).rewind()
    }
}

/// The digest of the file that firmware starts from an EFI system partition, in lower-case hex;
/// `None` when it does not exist. Status 77 without root, 78 when the partition cannot be mounted.
pub fn default_loader(
    common: &Common,
    disk: &Disk,
    partition: Place,
) -> anyhow::Result<Option<String>> {
    unshare_mounts()?;
    let directory = mounted(common, disk, partition, "own", Access::Read)?;
    let found = match File::open(directory.join(DEFAULT)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        file => file.and_then(|file| sha256(&file)).map(Some),
    };
    let number = partition.number;
    let found = found.map_err(|error| {
        io_error(
            error,
            |_| Exit::Io,
            format_args!("reading {DEFAULT} of partition {number}"),
        )
    })?;
    unmount(&directory)?;
    Ok(found)
}

/// Whether the loader on a slot's EFI system partition is the one in its root. Status as for
/// [`default_loader`].
pub fn has_loader_of(
    common: &Common,
    disk: &Disk,
    root: Place,
    own: Place,
) -> anyhow::Result<bool> {
    let found = default_loader(common, disk, own)?;
    let directory = mounted(common, disk, root, "root", Access::Read)?;
    let wanted = open_in_root(&directory, LOADER).and_then(|file| sha256(&file));
    let wanted = wanted.map_err(|error| {
        io_error(
            error,
            |_| Exit::Config,
            format_args!("reading the slot's /{LOADER}"),
        )
    })?;
    unmount(&directory)?;
    Ok(found == Some(wanted))
}

/// Opens a regular file for reading in a root that is mounted elsewhere. Links are resolved as if
/// that root were `/`, so that they never lead into the running system.
fn open_in_root(root: &Path, path: &str) -> io::Result<File> {
    let root = File::open(root)?;
    // Opening something else, such as a FIFO, could block.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&root, path, how)?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// Makes later mounts visible to this process only.
fn unshare_mounts() -> anyhow::Result<()> {
    let private = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
    });
    private.map_err(|error| {
        io_error(
            error.into(),
            |_| Exit::NoPermission,
            "making a mount namespace: needs root",
        )
    })
}

/// Mounts a partition, `root` or an EFI system partition under another name, and returns the path.
fn mounted(
    common: &Common,
    disk: &Disk,
    place: Place,
    name: &str,
    access: Access,
) -> anyhow::Result<PathBuf> {
    // A root must stay unchanged, including its journal.
    let (kind, options) = if name == "root" {
        ("ext4", "noload")
    } else {
        ("vfat", "")
    };
    let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, access == Access::Read);
    let number = place.number;
    let (device, _) = target::partition(common, disk, place)?.exit(Exit::Config, || {
        let path = disk.path().display();
        format!(
            "finding partition {number} of {path}: the kernel knows none there; let it read the table again, see partprobe(8)"
        )
    })?;
    let directory = common.path(MOUNTS).join(name);
    atomic::create_directory(&directory, 0o700)?;
    let attempt = |flags| mount(Some(&device), &directory, Some(kind), flags, Some(options));
    let made = match attempt(flags) {
        // Another process has it mounted for writing, so vfat can only be mounted the same way.
        Err(Errno::EBUSY) if kind == "vfat" => attempt(flags - MsFlags::MS_RDONLY),
        made => made,
    };
    made.map_err(|error| {
        io_error(
            error.into(),
            |_| Exit::Config,
            format_args!("mounting {}, which should be {kind}", device.display()),
        )
    })?;
    Ok(directory)
}

fn unmount(directory: &Path) -> anyhow::Result<()> {
    umount(directory)
        .map_err(io::Error::from)
        .exit(Exit::Io, || format!("unmounting {}", directory.display()))
}

fn sha256(mut file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&piece[..length]),
        }
    }
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let free = statvfs(directory)?;
    Ok(free.blocks_available() * free.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Directories replace the file systems.
    #[test]
    fn leftovers_of_a_trial_make_room() {
        let work = tempfile::tempdir().unwrap();
        let directories: Vec<PathBuf> = ["root", "own", "visible"]
            .map(|name| work.path().join(name))
            .into();
        fs::create_dir(&directories[0]).unwrap();
        for directory in &directories[1..] {
            for (file, content) in [
                (DEFAULT, "MZ old"),
                (TRIAL, "MZ older"),
                (TEMPORARY[0], "M"),
                (TEMPORARY[1], "M"),
            ] {
                fs::create_dir_all(directory.join(file).parent().unwrap()).unwrap();
                fs::write(directory.join(file), content).unwrap();
            }
        }
        let loader = directories[0].join("loader");
        fs::write(&loader, "MZ new").unwrap();
        let found = Mounted {
            directories: directories.clone(),
            loader: File::open(&loader).unwrap(),
            loader_bytes: 6,
        };
        found.put(OWN, DEFAULT).unwrap();
        found.put(VISIBLE, TRIAL).unwrap();
        let read = |which: usize, file: &str| {
            fs::read_to_string(directories[which].join(file)).unwrap_or_default()
        };
        assert_eq!(
            (read(OWN, DEFAULT), read(OWN, TRIAL)),
            ("MZ new".into(), String::new())
        );
        // The loader that boots the machine stays.
        assert_eq!(
            (read(VISIBLE, DEFAULT), read(VISIBLE, TRIAL)),
            ("MZ old".into(), "MZ new".into())
        );
        for which in [OWN, VISIBLE] {
            assert_eq!(
                (read(which, TEMPORARY[0]), read(which, TEMPORARY[1])),
                (String::new(), String::new())
            );
        }
        assert!(found.is_there(&directories[VISIBLE].join(TRIAL)).unwrap());
    }

    /// Directories replace the file systems, and one replaces a file that cannot be overwritten.
    #[test]
    fn a_loader_that_cannot_be_put_leaves_nothing_behind() {
        let work = tempfile::tempdir().unwrap();
        let directories: Vec<PathBuf> = ["root", "own", "visible"]
            .map(|name| work.path().join(name))
            .into();
        fs::create_dir_all(directories[OWN].join(DEFAULT).join("in the way")).unwrap();
        let loader = work.path().join("loader");
        fs::write(&loader, "MZ new").unwrap();
        let found = Mounted {
            directories: directories.clone(),
            loader: File::open(&loader).unwrap(),
            loader_bytes: 6,
        };
        assert_eq!(Exit::of(&found.put(OWN, DEFAULT).unwrap_err()), Exit::Io);
        assert!(!directories[OWN].join(TEMPORARY[0]).exists());
    }

    #[test]
    fn a_link_does_not_lead_out_of_the_slot() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("boot")).unwrap();
        fs::write(
            outside.path().join("boot/labtools.efi"),
            "MZ of the machine that runs",
        )
        .unwrap();
        let outside = outside.path().to_str().unwrap();
        let read = |prepare: &dyn Fn(&Path)| {
            let root = tempfile::tempdir().unwrap();
            prepare(root.path());
            let mut text = String::new();
            open_in_root(root.path(), LOADER)
                .and_then(|mut file| file.read_to_string(&mut text))
                .map(|_| text)
        };
        let boot = |root: &Path| fs::create_dir(root.join("boot")).unwrap();
        let refused = |prepare: &dyn Fn(&Path)| read(prepare).unwrap_err().to_string();
        assert!(
            refused(&|root| symlink(format!("{outside}/boot"), root.join("boot")).unwrap())
                .contains("No such file")
        );
        for to in [
            format!("{outside}/boot/labtools.efi"),
            format!("../../../../../../../..{outside}/boot/labtools.efi"),
        ] {
            let linked = |root: &Path| {
                boot(root);
                symlink(&to, root.join(LOADER)).unwrap();
            };
            assert!(refused(&linked).contains("No such file"), "{to}");
        }
        let fifo = |root: &Path| {
            boot(root);
            nix::unistd::mkfifo(&root.join(LOADER), nix::sys::stat::Mode::S_IRWXU).unwrap();
        };
        assert_eq!(refused(&fifo), "it is not a regular file");
        assert_eq!(
            refused(&|root| fs::create_dir_all(root.join(LOADER)).unwrap()),
            "it is not a regular file"
        );
        // A link within the slot is as good as a file.
        let within = |root: &Path| {
            boot(root);
            fs::write(root.join("boot/labtools-8.efi"), "MZ of the slot").unwrap();
            symlink("/boot/labtools-8.efi", root.join(LOADER)).unwrap();
        };
        assert_eq!(read(&within).unwrap(), "MZ of the slot");
    }
}
