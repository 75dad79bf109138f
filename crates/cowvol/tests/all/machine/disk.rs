//! A small disk for volumes, as a file system in a file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

use super::Machine;

impl Machine {
    /// Puts the volumes on a disk of so many MiB, with the file system `kind`, for this test alone:
    /// its thread leaves the others' mounts, and when it ends nothing is left of them.
    pub fn on_a_disk(kind: &str, mib: u64) -> Machine {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; this test needs root");
        succeed("mount", &["--make-rprivate", "/"]);
        let machine = Machine::new();
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
        machine
    }

    /// Takes all room but so many MiB.
    pub fn leave_room(&self, mib: u64) {
        let found = statvfs(&self.users()).unwrap();
        let free = found.blocks_available() * found.fragment_size();
        let taken = free.checked_sub(mib << 20).expect("a larger disk");
        take(&self.users().join("ballast"), taken);
    }

    /// Takes so many MiB more.
    pub fn take_room(&self, mib: u64) {
        take(&self.users().join("more"), mib << 20);
    }

    /// Writes until the disk for volumes is full; returns the file that holds all its room.
    pub fn fill_the_disk(&self) -> File {
        let mut filler = File::create(self.users().join("filler")).unwrap();
        for piece in [vec![1; 1 << 20], vec![1; 4096]] {
            while filler
                .write_all(&piece)
                .and_then(|()| filler.sync_data())
                .is_ok()
            {}
        }
        filler
    }
}

fn take(path: &Path, bytes: u64) {
    let ballast = File::create(path).unwrap();
    let bytes = i64::try_from(bytes).unwrap();
    fallocate(&ballast, FallocateFlags::empty(), 0, bytes).unwrap();
    ballast.sync_all().unwrap();
}

fn succeed(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}
