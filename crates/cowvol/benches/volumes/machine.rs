//! A machine in a directory, which is a file system on a loop device, as the tests make one.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use cowvol::Token;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, umount2};
use nix::sys::statvfs::statvfs;
use qcow2::CLUSTER_BYTES;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{peak_kib, run};

const GIB: u64 = 1 << 30;

/// The users whose volumes are made to be measured; all others are in the crowd.
const USER: &str = "user@cowvol.example";
const PEER: &str = "user@qemu-img.example";

pub struct Machine {
    directory: TempDir,
}

impl Machine {
    /// On a new file system of so many GiB, with bases of these sizes in GiB, each named by it.
    pub fn new(kind: &str, gib: u64, bases: &[u64]) -> Machine {
        let disk = std::env::var_os("COWVOL_BENCH_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        let machine = Machine {
            directory: tempfile::tempdir_in(disk).expect("a temporary directory"),
        };
        let image = tempfile::NamedTempFile::new_in(machine.root().parent().expect("a parent"))
            .expect("a file");
        image.as_file().set_len(gib * GIB).expect("a length");
        // No thread of the kernel writes to the disk meanwhile.
        let options = if kind == "ext4" {
            "loop,noinit_itable"
        } else {
            "loop"
        };
        run(
            Command::new(format!("mkfs.{kind}"))
                .arg("-q")
                .arg(image.path()),
            "",
        );
        let mut mount = Command::new("mount");
        run(
            mount
                .args(["-o", options])
                .arg(image.path())
                .arg(machine.root()),
            "",
        );

        let config = machine.root().join("config");
        fs::create_dir(&config).expect("a directory");
        fs::write(config.join("cowvol.ini"), "[room]\nreserve=1\n").expect("cowvol.ini");
        let volatile = machine.root().join("run");
        fs::create_dir(&volatile).expect("a directory");
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "tmpfs"]).arg(volatile), "");

        let mut bases_ini = String::new();
        for gib in bases {
            let base = machine.root().join(format!("qcow2/backing/{gib}g/7.qcow2"));
            fs::create_dir_all(base.parent().expect("a parent")).expect("directories");
            let mut create = Command::new("qemu-img");
            create.args(["create", "-q", "-f", "qcow2"]).arg(&base);
            run(create.arg(format!("{gib}G")), "");
            let mut write = Command::new("qemu-io");
            run(write.args(["-c", "write -q 0 64M"]).arg(&base), "");
            bases_ini += &format!("[base.{gib}g]\nname=Base\nostype=linux\ngeneration=7\n");
        }
        fs::write(machine.root().join("qcow2/backing/bases.ini"), bases_ini).expect("bases.ini");
        machine
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Makes the volumes of a crowd on a base, as clone makes them, without their room.
    pub fn add_crowd(&self, crowd: u64, gib: u64) {
        self.clone(gib);
        let model = fs::read(volume(&self.home(USER), gib)).expect("a volume");
        self.discard();
        for user in 0..crowd {
            let directory = self.home(&format!("{user}@crowd.example"));
            fs::create_dir(&directory).expect("a directory");
            let copy = File::create(volume(&directory, gib)).expect("a file");
            // As sparse as the model: three of its clusters hold something.
            for (cluster, bytes) in model.chunks(CLUSTER_BYTES as usize).take(3).enumerate() {
                copy.write_all_at(&bytes[..4096], cluster as u64 * CLUSTER_BYTES)
                    .expect("a write");
            }
            copy.set_len(model.len() as u64).expect("a length");
        }
        nix::unistd::sync();
    }

    /// Makes volumes of 1 GiB, used before all others, and leaves just so much room that another
    /// volume of `room` bytes takes all of them.
    pub fn add_victims(&self, victims: u64, room: u64) {
        for user in 0..victims {
            let directory = self.home(&format!("{user}@victim.example"));
            fs::create_dir(&directory).expect("a directory");
            let file = File::create(volume(&directory, 1)).expect("a file");
            fallocate(&file, FallocateFlags::empty(), 0, GIB as i64).expect("room");
            let used = UNIX_EPOCH + Duration::from_secs(1_767_225_600); // 2026-01-01
            file.set_times(FileTimes::new().set_modified(used))
                .expect("a time");
        }
        self.wait_for_removals();
        let found = statvfs(self.root()).expect("room");
        let free = found.blocks_available() * found.fragment_size();
        let ballast = File::create(self.root().join("ballast")).expect("a file");
        let taken = free - (room - victims * GIB + GIB / 2);
        fallocate(&ballast, FallocateFlags::empty(), 0, taken as i64).expect("room");
        nix::unistd::sync();
    }

    pub fn remove_ballast(&self) {
        fs::remove_file(self.root().join("ballast")).expect("a removal");
    }

    /// xfs gives the room of what was removed back in the background; a freeze waits for that.
    fn wait_for_removals(&self) {
        for way in ["--freeze", "--unfreeze"] {
            run(Command::new("fsfreeze").arg(way).arg(self.root()), "");
        }
    }

    fn home(&self, user: &str) -> PathBuf {
        self.root()
            .join("qcow2/user")
            .join(Token::of(user).as_str())
    }

    fn cowvol(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cowvol"));
        command.args(arguments).arg("--root").arg(self.root());
        command
    }

    /// The section of the volume that the user gets.
    pub fn clone(&self, gib: u64) -> Value {
        let output = run(&mut self.cowvol(&["clone"]), &request(gib));
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        document["volume"].clone()
    }

    /// The same, configured to hold no room.
    pub fn clone_without_room(&self, gib: u64) {
        let config = self.root().join("config");
        let mut clone = self.cowvol(&["clone"]);
        run(clone.arg("--config").arg(config), &request(gib));
    }

    /// The session is over, and the volume stays.
    pub fn release(&self) {
        run(&mut self.cowvol(&["release"]), "");
    }

    /// The volume goes.
    pub fn discard(&self) {
        self.release();
        run(&mut self.cowvol(&["discard", "--user", USER]), "");
    }

    pub fn list(&self) {
        run(&mut self.cowvol(&["list"]), "");
    }

    /// What find(1) sees of the same files.
    pub fn find(&self) {
        let mut find = Command::new("find");
        find.arg(self.root().join("qcow2/user"));
        run(
            find.args(["-name", "*@*.qcow2", "-printf", "%p %b %T@\n"]),
            "",
        );
    }

    /// A volume that qemu-img makes, durable: it syncs no directory and makes none, so that is done
    /// here, without a process for it, as is the room that it is to have. Its name appears before it is
    /// whole.
    pub fn clone_with_qemu_img(&self, gib: u64, room: Option<u64>) {
        let directory = self.home(PEER);
        fs::create_dir(&directory).expect("a directory");
        run(&mut self.qemu_img(gib), "");
        let hold = |bytes| {
            let overlay = File::options().write(true).open(volume(&directory, gib));
            let keep_size = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(overlay.expect("a volume"), keep_size, 0, bytes as i64).expect("room");
        };
        room.into_iter().for_each(hold);
        let parent = directory.parent().expect("a parent");
        for durable in [&volume(&directory, gib), &directory, parent] {
            File::open(durable)
                .and_then(|file| file.sync_all())
                .expect("a sync");
        }
    }

    pub fn remove_qemu_imgs(&self) {
        fs::remove_dir_all(self.home(PEER)).expect("a removal");
    }

    fn qemu_img(&self, gib: u64) -> Command {
        let mut command = Command::new("qemu-img");
        command
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(format!("../../backing/{gib}g/7.qcow2"))
            .arg(volume(&self.home(PEER), gib));
        command
    }

    /// The peak memory of clone, of list, and of qemu-img, in KiB.
    pub fn peaks(&self, gib: u64) -> [i64; 3] {
        let login = self.root().join("login");
        fs::write(&login, request(gib)).expect("a request");
        let mut clone = self.cowvol(&["clone"]);
        clone.stdin(File::open(&login).expect("a request"));
        fs::create_dir(self.home(PEER)).expect("a directory");
        let peaks =
            [clone, self.cowvol(&["list"]), self.qemu_img(gib)].map(|mut of| peak_kib(&mut of));
        self.discard();
        self.remove_qemu_imgs();
        peaks
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        umount2(self.root(), MntFlags::MNT_DETACH).expect("it is mounted");
    }
}

fn volume(home: &Path, gib: u64) -> PathBuf {
    home.join(format!("{gib}g@7.qcow2"))
}

fn request(gib: u64) -> String {
    format!("[login]\nuser={USER}\nauthenticated=true\n[choice]\nbase={gib}g\n")
}
