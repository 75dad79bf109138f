//! A machine in a directory: an OptiPlex 7010 as Linux shows it.

pub mod smbios;
pub mod stepped;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use smbios::Tables;
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_invcollect");
pub const ID: &str = "8f14e45f-ceea-467f-a9d6-9c1b5d2a7e11";

/// What a run left.
#[derive(Debug)]
pub struct Ended {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The one document on standard output.
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON lines on standard output.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub struct Machine {
    directory: TempDir,
}

impl Machine {
    /// A kernel that has just started, and nothing else.
    pub fn empty() -> Machine {
        Machine { directory: tempfile::tempdir().unwrap() }
    }

    pub fn optiplex() -> Machine {
        let machine = Machine::empty();
        machine.firmware(&Tables::optiplex());
        machine.write("persistent/inventory/uuid", format!("{ID}\n"));
        machine.write("proc/sys/kernel/hostname", "b1-h7\n");
        machine.write("proc/sys/kernel/osrelease", "6.1.0-41-amd64\n");
        machine.boot("11111111-0000-4000-8000-000000000001", 3600);
        machine.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=PARTUUID=00000000-0000-4000-8000-00000000000A ro quiet\n");
        machine.write("proc/meminfo", "MemTotal:        8029532 kB\nMemFree:          512000 kB\nMemAvailable:    6000000 kB\n");
        let cpu = |n: u32| {
            format!(
                "processor\t: {n}\nmodel name\t: Intel(R) Core(TM) i7-3770 CPU @ 3.40GHz\nphysical id\t: 0\ncore id\t\t: {}\n\n",
                n % 4
            )
        };
        machine.write("proc/cpuinfo", (0..8).map(cpu).collect::<String>());
        machine.write(
            "proc/self/mountinfo",
            "22 27 0:21 / /proc rw - proc proc rw\n27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             30 27 8:3 / /qcow2 rw - ext4 /dev/sda3 rw\n",
        );
        machine.directory("qcow2");
        machine.write(
            "proc/net/route",
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
             eth0\t00000000\t0103000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\neth0\t0003000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n",
        );
        machine.write("proc/net/ipv6_route", "");
        machine
            .write("dev/kmsg", "6,300,1234567,-;rtc_cmos 00:05: setting system clock to 2026-11-23T08:00:00 UTC (1795420800)\n");
        machine.write("proc/vmstat", "nr_free_pages 1\noom_kill 0\n");
        machine.write("usr/lib/clock-epoch", "");
        let built = fs::File::options().write(true).open(machine.path("usr/lib/clock-epoch")).unwrap();
        built.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_790_000_000)).unwrap();
        machine.sata_disk("sda", "ata1/host0/target0:0:0/0:0:0:0", "WDC WD5000AAKX-7", "WD-WCC2EKP12345", 976_773_168);
        machine.write("smart.json", r#"{"sda":{"smart":null}}"#);
        machine.wired("eth0", "00:1b:21:0a:0b:0c", Some(1000));
        machine.netlink(r#"{"addresses":{"eth0":["10.0.3.7/24","2001:db8:3::7/64"]},"best_speeds":{"eth0":1000000000}}"#);
        machine.write("sys/class/hwmon/hwmon0/name", "coretemp\n");
        machine.write("sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n");
        machine.write("sys/class/hwmon/hwmon0/temp1_input", "47000\n");
        machine.write("sys/class/hwmon/hwmon0/temp1_crit", "105000\n");
        machine.intrusion(false);
        machine.pci("0000:00:02.0", "0x8086", "0x0152", "0x030000", Some("i915"));
        machine.pci("0000:00:1b.0", "0x8086", "0x1e20", "0x040300", Some("vfio-pci"));
        machine.write("etc/labtools/campus.ini", "[net.b1-101]\ncidr=10.0.3.0/24\ncampus=sa\nbuilding=b1\nroom=101\n");
        machine.write("etc/labtools/invcollect.ini", "[expected.OptiPlex 7010]\nmemory_mib=8192\n");
        machine.write("qcow2/backing/bases.ini", "[base.windows]\nname=Windows 10\nostype=windows\ngeneration=7\n");
        machine.write(
            "qcow2/backing/windows/7.manifest",
            r#"{"schema":1,"kind":"base","programs":[{"name":"GIMP","version":"2.10"},{"name":"R","version":"4.3"}]}"#,
        );
        machine.write(
            "var/lib/labtools/slots.json",
            r#"{"schema":1,"a":{"partuuid":"00000000-0000-4000-8000-00000000000a","version":12,"sha256":"ab"},"b":{"partuuid":"00000000-0000-4000-8000-00000000000b","version":11,"sha256":"cd"}}"#,
        );
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
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
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
        self.write("sys/firmware/dmi/tables/smbios_entry_point", tables.entry_point(0));
    }

    /// The switch in the case, as a chip of the board shows it.
    pub fn intrusion(&self, opened: bool) {
        self.write("sys/class/hwmon/hwmon1/name", "nct6775\n");
        self.write("sys/class/hwmon/hwmon1/intrusion0_alarm", if opened { "1\n" } else { "0\n" });
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
        self.write(&format!("{device}/vpd_pg80"), [&[0, 0x80, 0, page.len() as u8], page.as_bytes()].concat());
        self.write(&format!("{device}/block/{name}/size"), format!("{sectors}\n"));
        self.write(&format!("{device}/block/{name}/removable"), "0\n");
        self.write(&format!("{device}/block/{name}/queue/rotational"), "1\n");
        self.link(&format!("{device}/block/{name}/device"), "../../");
        self.link(&format!("sys/block/{name}"), &format!("../devices/pci0000:00/0000:00:1f.2/{place}/block/{name}"));
    }

    /// A wired interface; without a speed it has no link.
    pub fn wired(&self, name: &str, mac: &str, megabits: Option<u64>) {
        let directory = format!("sys/class/net/{name}");
        self.write(&format!("{directory}/type"), "1\n");
        self.write(&format!("{directory}/address"), format!("{mac}\n"));
        self.write(&format!("{directory}/device/vendor"), "0x8086\n");
        self.write(&format!("{directory}/statistics/rx_bytes"), "9007199254740993\n");
        self.write(&format!("{directory}/statistics/tx_bytes"), "2000\n");
        self.write(&format!("{directory}/statistics/rx_errors"), "0\n");
        self.speed(name, megabits);
    }

    pub fn speed(&self, name: &str, megabits: Option<u64>) {
        let directory = format!("sys/class/net/{name}");
        self.write(&format!("{directory}/carrier"), if megabits.is_some() { "1\n" } else { "0\n" });
        self.write(&format!("{directory}/speed"), megabits.map_or("-1\n".into(), |megabits| format!("{megabits}\n")));
        self.write(&format!("{directory}/duplex"), if megabits.is_some() { "full\n" } else { "unknown\n" });
    }

    pub fn wireless(&self, name: &str, mac: &str, carrier: bool) {
        let directory = format!("sys/class/net/{name}");
        self.write(&format!("{directory}/type"), "1\n");
        self.write(&format!("{directory}/address"), format!("{mac}\n"));
        self.write(&format!("{directory}/carrier"), if carrier { "1\n" } else { "0\n" });
        self.directory(&format!("{directory}/device"));
        self.directory(&format!("{directory}/phy80211"));
    }

    pub fn pci(&self, address: &str, vendor: &str, device: &str, class: &str, driver: Option<&str>) {
        let directory = format!("sys/bus/pci/devices/{address}");
        for (file, value) in [("vendor", vendor), ("device", device), ("class", class)] {
            self.write(&format!("{directory}/{file}"), format!("{value}\n"));
        }
        if let Some(driver) = driver {
            self.link(&format!("{directory}/driver"), &format!("../../drivers/{driver}"));
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--root").arg(self.root());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        Ended {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
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
        let missing = host["missing"].as_array().unwrap().iter().find(|missing| missing["key"] == key)?;
        Some(missing["reason"].as_str().unwrap().to_owned())
    }
}
