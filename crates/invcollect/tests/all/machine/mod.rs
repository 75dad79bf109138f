//! A machine in a directory: an OptiPlex 7010 as Linux shows it.

pub mod smbios;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use jsonpipe::testkit::{Ended, copy};
use nix::libc::{self, c_long};
use serde_json::Value;
use smbios::Tables;
use tempfile::TempDir;

use crate::cases::case;

pub const BINARY: &str = env!("CARGO_BIN_EXE_invcollect");
pub const ID: &str = "8f14e45f-ceea-467f-a9d6-9c1b5d2a7e11";

pub struct Machine {
    directory: TempDir,
}

impl Machine {
    /// A kernel that has just started, and nothing else.
    pub fn empty() -> Machine {
        Machine {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The machine in testdata. Its firmware's tables are made, for tests make others; when its
    /// image was built is a file's time, which git does not keep.
    pub fn optiplex() -> Machine {
        let machine = Machine::empty();
        copy(&case("collect", "optiplex-7010").join("in"), machine.root());
        machine.firmware(&Tables::optiplex());
        let built = fs::File::options()
            .write(true)
            .open(machine.path("usr/lib/clock-epoch"))
            .unwrap();
        built
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_790_000_000))
            .unwrap();
        machine
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn directory(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Takes away what is there, a directory or a file.
    pub fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
    }

    /// Puts a pipe that nobody writes to in the place of a file: who opens it waits for ever.
    pub fn never_answers(&self, path: &str) {
        self.write(path, "");
        self.remove(path);
        nix::unistd::mkfifo(&self.path(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        symlink(target, self.path(path)).unwrap();
    }

    pub fn boot(&self, id: &str, uptime_seconds: u64) {
        self.write("proc/sys/kernel/random/boot_id", format!("{id}\n"));
        self.write("proc/uptime", format!("{uptime_seconds}.42 1.00\n"));
    }

    pub fn firmware(&self, tables: &Tables) {
        self.write("sys/firmware/dmi/tables/DMI", tables.table());
        self.write(
            "sys/firmware/dmi/tables/smbios_entry_point",
            tables.entry_point(0),
        );
    }

    /// The switch in the case, as a chip of the board shows it.
    pub fn intrusion(&self, opened: bool) {
        self.write("sys/class/hwmon/hwmon1/name", "nct6775\n");
        self.write(
            "sys/class/hwmon/hwmon1/intrusion0_alarm",
            if opened { "1\n" } else { "0\n" },
        );
    }

    /// What only the kernel could be asked.
    pub fn netlink(&self, answers: &str) {
        self.write("netlink.json", answers);
    }

    pub fn sata_disk(&self, name: &str, place: &str, model: &str, serial: &str, sectors: u64) {
        let device = format!("sys/devices/pci0000:00/0000:00:1f.2/{place}");
        self.write(&format!("{device}/model"), format!("{model}\n"));
        self.write(&format!("{device}/state"), "running\n");
        let page = format!("{serial:>20}"); // as ATA disks fill it
        self.write(
            &format!("{device}/vpd_pg80"),
            [&[0, 0x80, 0, page.len() as u8], page.as_bytes()].concat(),
        );
        self.write(
            &format!("{device}/block/{name}/size"),
            format!("{sectors}\n"),
        );
        self.write(&format!("{device}/block/{name}/removable"), "0\n");
        self.write(&format!("{device}/block/{name}/queue/rotational"), "1\n");
        self.link(&format!("{device}/block/{name}/device"), "../../");
        self.link(
            &format!("sys/block/{name}"),
            &format!("../devices/pci0000:00/0000:00:1f.2/{place}/block/{name}"),
        );
    }

    /// A wired interface; without a speed it has no link.
    pub fn wired(&self, name: &str, mac: &str, megabits: Option<u64>) {
        let directory = format!("sys/class/net/{name}");
        self.write(&format!("{directory}/type"), "1\n");
        self.write(&format!("{directory}/address"), format!("{mac}\n"));
        self.write(&format!("{directory}/device/vendor"), "0x8086\n");
        self.write(
            &format!("{directory}/statistics/rx_bytes"),
            "9007199254740993\n",
        );
        self.write(&format!("{directory}/statistics/tx_bytes"), "2000\n");
        self.write(&format!("{directory}/statistics/rx_errors"), "0\n");
        self.speed(name, megabits);
    }

    pub fn speed(&self, name: &str, megabits: Option<u64>) {
        let directory = format!("sys/class/net/{name}");
        self.write(
            &format!("{directory}/carrier"),
            if megabits.is_some() { "1\n" } else { "0\n" },
        );
        self.write(
            &format!("{directory}/speed"),
            megabits.map_or("-1\n".into(), |megabits| format!("{megabits}\n")),
        );
        self.write(
            &format!("{directory}/duplex"),
            if megabits.is_some() {
                "full\n"
            } else {
                "unknown\n"
            },
        );
    }

    pub fn wireless(&self, name: &str, mac: &str, carrier: bool) {
        let directory = format!("sys/class/net/{name}");
        self.write(&format!("{directory}/type"), "1\n");
        self.write(&format!("{directory}/address"), format!("{mac}\n"));
        self.write(
            &format!("{directory}/carrier"),
            if carrier { "1\n" } else { "0\n" },
        );
        self.directory(&format!("{directory}/device"));
        self.directory(&format!("{directory}/phy80211"));
    }

    pub fn pci(
        &self,
        address: &str,
        vendor: &str,
        device: &str,
        class: &str,
        driver: Option<&str>,
    ) {
        let directory = format!("sys/bus/pci/devices/{address}");
        for (file, value) in [("vendor", vendor), ("device", device), ("class", class)] {
            self.write(&format!("{directory}/{file}"), format!("{value}\n"));
        }
        if let Some(driver) = driver {
            self.link(
                &format!("{directory}/driver"),
                &format!("../../drivers/{driver}"),
            );
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--root").arg(self.root());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// The section `host`.
    pub fn host(&self) -> Value {
        let ended = self.run(&["collect"]);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
        ended.document()["host"].take()
    }

    /// Why a key of the section is absent.
    pub fn reason(&self, key: &str) -> Option<String> {
        let host = self.host();
        let missing = host["missing"]
            .as_array()
            .unwrap()
            .iter()
            .find(|missing| missing["key"] == key)?;
        Some(missing["reason"].as_str().unwrap().to_owned())
    }
}

/// The calls that change something on a disk; between two of them there is nothing to tell apart. A
/// file that is made is made by `openat`, of which most only read.
pub fn changes(call: c_long) -> bool {
    const CHANGING: [c_long; 12] = [
        libc::SYS_write,
        libc::SYS_fsync,
        libc::SYS_ftruncate,
        libc::SYS_rename,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_mkdir,
        libc::SYS_unlink,
        libc::SYS_fchmod,
        libc::SYS_chmod,
        libc::SYS_flock,
        libc::SYS_exit_group,
    ];
    CHANGING.contains(&call)
}
