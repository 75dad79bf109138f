//! The back end of the machine of a test: qcow2 files, or ZFS volumes where a pool is given.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use cowvol::Token;

use super::disk::succeed;
use super::{Machine, faults, write_bases_ini};

/// The name of a pool on which each test makes its own datasets. `scripts/lab/test-zfs-volumes` sets it.
const POOL: &str = "COWVOL_TEST_POOL";

/// The room of the pool that no volume is promised, for the records of ZFS.
const HEADROOM_BYTES: u64 = 64 << 20;

/// The room that is left in a full pool: with less, ZFS refuses writes into reserved room.
const LEFT_BYTES: u64 = 16 << 20;

/// The prefix of properties in the tests, that of the thesis.
const PREFIX: &str = "br.ufscar";

/// The datasets of a test; they go with it.
#[derive(Debug)]
pub struct Pool(pub String);

impl Pool {
    /// A new one for the machine at `root`, if the tests run on ZFS.
    pub fn of(root: &Path) -> Option<Pool> {
        let pool = std::env::var(POOL).ok()?;
        let name = root.file_name().unwrap().to_str().unwrap();
        let pool = Pool(format!("{pool}/{}", name.trim_start_matches('.')));
        succeed("zfs", &["create", "-o", "mountpoint=none", &pool.0]);
        symlink("/dev", root.join("dev")).unwrap();
        Some(pool)
    }

    /// Its section of cowvol.ini.
    pub fn section(&self) -> String {
        format!("[zfs]\npool = {}\nprefix = {PREFIX}\n", self.0)
    }

    /// A base of so many MiB, with the content that the commands of qemu-io write.
    pub fn make_base(&self, name: &str, generation: u64, mib: u64, commands: &[&str]) {
        let dataset = format!("{}/base/{name}", self.0);
        let size = format!("{mib}M");
        succeed("zfs", &["create", "-s", "-V", &size, "-b", "8K", &dataset]);
        Disk {
            path: node_of(&dataset),
            format: "raw",
        }
        .io(commands);
        succeed("zfs", &["snapshot", &format!("{dataset}@{generation}")]);
        succeed("zfs", &["set", "readonly=on", &dataset]);
        let (title, ostype, default) = super::labels_of(name);
        for (label, value) in [("name", title), ("ostype", ostype), ("default", default)] {
            succeed(
                "zfs",
                &["set", &format!("{PREFIX}:{label}={value}"), &dataset],
            );
        }
    }

    /// Sets the properties that bases.ini gives a base.
    fn label(&self, name: &str, title: &str, ostype: &str, is_default: bool) {
        let dataset = format!("{}/base/{name}", self.0);
        for (label, value) in [
            ("name", title),
            ("ostype", ostype),
            ("default", if is_default { "true" } else { "false" }),
        ] {
            succeed(
                "zfs",
                &["set", &format!("{PREFIX}:{label}={value}"), &dataset],
            );
        }
    }

    /// Holds bytes, or all but the few that ZFS itself needs.
    pub fn take(&self, name: &str, bytes: Option<u64>) {
        let dataset = format!("{}/{name}", self.0);
        succeed("zfs", &["create", "-o", "mountpoint=none", &dataset]);
        let bytes = bytes.unwrap_or_else(|| self.available_bytes() - LEFT_BYTES);
        succeed("zfs", &["set", &format!("reservation={bytes}"), &dataset]);
    }

    /// The names of all that the users have, sorted.
    pub fn left(&self) -> Vec<String> {
        let users = format!("{}/user", self.0);
        let all = succeed("zfs", &["list", "-Hro", "name", &users]);
        let below = format!("{users}/");
        let mut names: Vec<String> = all
            .lines()
            .filter_map(|name| name.strip_prefix(&below))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// The room that is free for volumes.
    pub fn free_bytes(&self) -> u64 {
        let free = self.available_bytes().checked_sub(HEADROOM_BYTES);
        free.expect("a larger pool")
    }

    fn available_bytes(&self) -> u64 {
        let users = format!("{}/user", self.0);
        get(&users, "available").parse().unwrap()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        succeed("zfs", &["destroy", "-r", &self.0]);
    }
}

/// A property, as ZFS prints it.
pub fn get(dataset: &str, property: &str) -> String {
    succeed("zfs", &["get", "-Hpo", "value", property, dataset])
        .trim()
        .to_owned()
}

/// The device of a volume, which the kernel makes with it; udev's link comes later.
pub fn node_of(dataset: &str) -> PathBuf {
    let nodes = fs::read_dir("/dev").unwrap().map(|entry| entry.unwrap());
    let nodes = nodes.filter(|node| node.file_name().as_encoded_bytes().starts_with(b"zd"));
    nodes
        .map(|node| node.path())
        .find(|node| {
            let named = Command::new("zvol_id").arg(node).output().unwrap();
            String::from_utf8_lossy(&named.stdout).trim() == dataset
        })
        .unwrap_or_else(|| panic!("{dataset} has no device"))
}

/// The disk of a volume.
#[derive(Clone, Debug)]
pub struct Disk {
    pub path: PathBuf,
    pub format: &'static str,
}

impl Disk {
    /// Runs commands of qemu-io on it, which must succeed.
    pub fn io(&self, commands: &[&str]) {
        super::qemu_io_as(self.format, &self.path, commands);
    }

    /// Opens it in QEMU, as a running guest does; it answers a command when it has the disk open.
    pub fn open(&self) -> Child {
        let mut qemu = Command::new("qemu-io")
            .args(["-f", self.format])
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io, from qemu-utils, is needed by this test");
        qemu.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        let mut answer = String::new();
        BufReader::new(qemu.stdout.as_mut().unwrap())
            .read_line(&mut answer)
            .unwrap();
        assert!(answer.contains("MiB"), "{answer}");
        qemu
    }

    /// What `qemu-img check` has against it; a raw disk has nothing to check.
    pub fn faults(&self) -> Option<String> {
        (self.format == "qcow2").then(|| faults(&self.path))?
    }
}

impl Machine {
    /// Two bases as ZFS volumes, the same as [`two_bases`](super::two_bases).
    pub fn two_bases_on(&self, pool: &Pool) {
        write_bases_ini(self.root(), super::BASES_INI);
        let content = ["write -q -P 0x55 0 3M", "write -q -P 0xaa 16M 1M"];
        pool.make_base("windows", 7, 32, &content);
        pool.make_base("linux", 3, 64, &[]);
        pool.label("windows", "Windows 10", "windows", true);
        pool.label("linux", "Debian 12", "linux", false);
    }

    /// Makes windows@8, of 48 MiB, the current generation.
    pub fn switches_to_windows_8(&self) {
        match &self.pool {
            Some(pool) => pool.make_base("windows:8", 8, 48, &[]),
            None => super::make_base(self.root(), "windows", 8, &["48M"]),
        }
        let text = self.bases_ini();
        let text = text.replace("generation = 7", "generation = 8");
        write_bases_ini(self.root(), &text);
    }

    /// The volumes of a user, each `BASE@GENERATION`, sorted.
    pub fn volumes_of(&self, user: &str) -> Vec<String> {
        let catalog = self.list()["catalog"].take();
        let bases = catalog["bases"].as_array().unwrap().iter();
        let volumes = bases.flat_map(|base| base["volumes"].as_array().unwrap());
        let of_user = volumes.filter(|volume| volume["token"] == Token::of(user).as_str());
        let mut names: Vec<String> = of_user
            .map(|volume| {
                format!(
                    "{}@{}",
                    volume["base"].as_str().unwrap(),
                    volume["generation"]
                )
            })
            .collect();
        names.sort();
        names
    }

    /// The disk that a section `volume` names.
    pub fn disk_of(&self, volume: &serde_json::Value) -> Disk {
        let path = volume["path"].as_str().unwrap().trim_start_matches('/');
        Disk {
            path: self.root().join(path),
            format: if volume["format"] == "raw" {
                "raw"
            } else {
                "qcow2"
            },
        }
    }

    /// The datasets of a test that runs only on ZFS.
    pub fn pool(&self) -> &Pool {
        let pool = self.pool.as_ref();
        pool.expect("COWVOL_TEST_POOL names a pool; see scripts/lab/test-zfs-volumes")
    }

    /// The disk of a user's volume.
    pub fn disk(&self, user: &str, base: &str) -> Disk {
        match &self.pool {
            Some(_) => Disk {
                path: Path::new("/dev/zvol").join(self.dataset(user, base)),
                format: "raw",
            },
            None => Disk {
                path: self.overlay(user, base),
                format: "qcow2",
            },
        }
    }

    fn overlay(&self, user: &str, base: &str) -> PathBuf {
        let generation = super::generation_of(base);
        self.home(user).join(format!("{base}@{generation}.qcow2"))
    }

    fn dataset(&self, user: &str, base: &str) -> String {
        let token = Token::of(user);
        format!("{}/user/{}/{base}", self.pool().0, token.as_str())
    }

    /// Whether a user has a volume.
    pub fn has(&self, user: &str, base: &str) -> bool {
        match &self.pool {
            Some(_) => exists(&self.dataset(user, base)),
            None => self.overlay(user, base).exists(),
        }
    }

    /// Whether a user has a place for volumes.
    pub fn has_home(&self, user: &str) -> bool {
        match &self.pool {
            Some(pool) => exists(&format!("{}/user/{}", pool.0, Token::of(user).as_str())),
            None => self.home(user).exists(),
        }
    }

    /// The room that a volume takes, with its reservation.
    pub fn held_bytes(&self, user: &str, base: &str) -> u64 {
        match &self.pool {
            Some(_) => get(&self.dataset(user, base), "used").parse().unwrap(),
            None => fs::metadata(self.overlay(user, base)).unwrap().blocks() * 512,
        }
    }

    /// Sets the last login.
    pub fn set_last_login(&self, user: &str, base: &str, time: SystemTime) {
        if self.pool.is_some() {
            let time = humantime::format_rfc3339_nanos(time);
            let property = format!("{PREFIX}:lastlogin={time}");
            succeed("zfs", &["set", &property, &self.dataset(user, base)]);
        } else {
            let file = File::open(self.overlay(user, base)).unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        }
    }

    /// Sets the time of the restore point, if the volume has one.
    pub fn set_restore_point(&self, user: &str, base: &str, time: SystemTime) {
        if self.pool.is_some() {
            let snapshot = format!("{}@yesterday", self.dataset(user, base));
            if exists(&snapshot) {
                let time = humantime::format_rfc3339_nanos(time);
                let property = format!("{PREFIX}:taken={time}");
                succeed("zfs", &["set", &property, &snapshot]);
            }
            return;
        }
        let login = self.last_login(user, base);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .open(self.overlay(user, base))
            .unwrap();
        // In the snapshot table, which the header leads to.
        let mut table = [0; 8];
        file.read_exact_at(&mut table, 64).unwrap();
        let table = u64::from_be_bytes(table);
        if table != 0 {
            let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
            let seconds = u32::try_from(seconds).unwrap().to_be_bytes();
            file.write_all_at(&seconds, table + 16).unwrap();
            file.set_times(FileTimes::new().set_modified(login))
                .unwrap();
        }
    }

    /// The last login.
    pub fn last_login(&self, user: &str, base: &str) -> SystemTime {
        if self.pool.is_some() {
            let property = format!("{PREFIX}:lastlogin");
            let time = get(&self.dataset(user, base), &property);
            humantime::parse_rfc3339(&time).unwrap()
        } else {
            let metadata = fs::metadata(self.overlay(user, base)).unwrap();
            metadata.modified().unwrap()
        }
    }
}

fn exists(dataset: &str) -> bool {
    let listed = Command::new("zfs")
        .args(["list", dataset])
        .output()
        .unwrap();
    listed.status.success()
}
