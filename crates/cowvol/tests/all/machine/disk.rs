//! A small disk for volumes, as a file system in a file.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

use super::Machine;

/// A mount of this thread's. Its directory can be removed once this is dropped.
pub struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        // Some tests have a file on it open until they end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

impl Machine {
    /// Puts the volumes on a disk of so many MiB, with the file system `kind`, for this test alone:
    /// its thread leaves the others' mounts, and when it ends nothing is left of them.
    /// On ZFS it is the pool's disk.
    pub fn on_a_disk(kind: &str, mib: u64) -> Machine {
        let mut machine = Machine::new();
        if machine.pool.is_some() {
            return machine;
        }
        own_mounts();
        fs::create_dir(machine.users()).unwrap();
        let users = machine.users();
        let users = users.to_str().unwrap();
        if kind == "tmpfs" {
            succeed(
                "mount",
                &["-t", kind, "-o", &format!("size={mib}M"), kind, users],
            );
        } else {
            let image = machine.root().join("disk");
            File::create(&image).unwrap().set_len(mib << 20).unwrap();
            let image = image.to_str().unwrap();
            succeed(&format!("mkfs.{kind}"), &["-q", image]);
            succeed("mount", &["-o", "loop", image, users]);
        }
        machine.mount = Some(Mount(machine.users()));
        machine
    }

    /// Takes all room but so many MiB.
    pub fn leave_room(&self, mib: u64) {
        if let Some(pool) = &self.pool {
            let taken = pool.free_bytes().checked_sub(mib << 20);
            pool.take("ballast", Some(taken.expect("a larger disk")));
            return;
        }
        let found = statvfs(&self.users()).unwrap();
        let free = found.blocks_available() * found.fragment_size();
        let taken = free.checked_sub(mib << 20).expect("a larger disk");
        take(&self.users().join("ballast"), taken);
    }

    /// Takes all room but so many MiB, of which no two blocks are side by side.
    pub fn leave_room_in_pieces(&self, mib: u64) {
        const BLOCK: i64 = 4096;
        self.leave_room(2 * mib + 1);
        let pieces = self.users().join("pieces");
        take(&pieces, mib << 21);
        let pieces = File::options().write(true).open(pieces).unwrap();
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for nth in 0..(mib << 20) as i64 / BLOCK {
            fallocate(&pieces, hole, 2 * nth * BLOCK, BLOCK).unwrap();
        }
        pieces.sync_all().unwrap();
    }

    /// Takes so many KiB in place of what this took before.
    pub fn take_kib(&self, kib: u64) {
        take(&self.users().join("less"), kib << 10);
    }

    /// Takes so many MiB more.
    pub fn take_room(&self, mib: u64) {
        if let Some(pool) = &self.pool {
            pool.take("more", Some(mib << 20));
            return;
        }
        take(&self.users().join("more"), mib << 20);
    }

    /// Takes all room that the disk for volumes has; returns the file that holds it, if it is one.
    pub fn fill_the_disk(&self) -> Option<File> {
        if let Some(pool) = &self.pool {
            pool.take("filler", None);
            return None;
        }
        let mut filler = File::create(self.users().join("filler")).unwrap();
        for piece in [vec![1; 1 << 20], vec![1; 4096]] {
            while filler
                .write_all(&piece)
                .and_then(|()| filler.sync_data())
                .is_ok()
            {}
        }
        Some(filler)
    }
}

fn take(path: &Path, bytes: u64) {
    let ballast = File::create(path).unwrap();
    let bytes = i64::try_from(bytes).unwrap();
    fallocate(&ballast, FallocateFlags::empty(), 0, bytes).unwrap();
    ballast.sync_all().unwrap();
}

/// Leaves the mounts of other threads: what this one mounts is gone when it ends.
pub fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; this test needs root");
    succeed("mount", &["--make-rprivate", "/"]);
}

/// Sets a flag of a file or directory, such as `+i`, with which even root cannot change it.
pub fn chattr(flag: &str, path: &Path) {
    succeed("chattr", &[flag, path.to_str().unwrap()]);
}

/// Runs a program, which must succeed; its standard output.
pub fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}
