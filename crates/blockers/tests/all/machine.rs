//! A machine that is a directory: a lab PC with graphics, USB and audio, on which nothing is wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use blockers::{Finding, Findings, Guest, Kind, Wish};
use jsonpipe::Common;
use model::{Listed, Model};
use nix::unistd::geteuid;
use tempfile::TempDir;

pub const GRAPHICS: &str = "0000:00:02.0";
pub const USB: &str = "0000:00:14.0";
pub const AUDIO: &str = "0000:00:1b.0";

/// Its memory: 8 GB less what the firmware keeps.
pub const TOTAL_BYTES: u64 = 8_054_740 << 10;

pub struct Machine {
    root: TempDir,
    pub model: Option<Model>,
    pub memory_bytes: u64,
    pub reserve_bytes: u64,
    pub hugepages: bool,
    pub zfs: bool,
    pub kvm_fault: Option<&'static str>,
}

impl Machine {
    pub fn new() -> Machine {
        let machine = Machine {
            root: tempfile::tempdir().unwrap(),
            model: Some(Model {
                devices: vec![
                    listed(GRAPHICS, "8086:0152"),
                    listed(USB, "8086:1e31"),
                    listed(AUDIO, "8086:1e20"),
                ],
                ..Model::default()
            }),
            memory_bytes: 6682 << 20,
            reserve_bytes: 768 << 20,
            hugepages: false,
            zfs: false,
            kvm_fault: Some("no /dev/kvm"),
        };
        machine.pci(GRAPHICS, "8086:0152", "030000", Some("i915"), Some(1));
        machine.pci(USB, "8086:1e31", "0c0330", Some("xhci_hcd"), Some(3));
        machine.pci(AUDIO, "8086:1e20", "040300", Some("snd_hda_intel"), Some(5));
        machine.file("/sys/class/dmi/id/product_name", "OptiPlex 7010\n");
        machine.file("/sys/class/iommu/dmar0/intel-iommu/ecap", "f0101a\n");
        machine.file(
            "/proc/interrupts",
            "            CPU0\n   0:         35  IR-IO-APIC    2-edge      timer\n NMI:          0   Non-maskable interrupts\n",
        );
        machine.file("/proc/cmdline", "root=/dev/sda1 quiet intel_iommu=on\n");
        machine.file("/proc/sys/kernel/osrelease", "6.1.0-41-amd64\n");
        machine.modules("kernel/drivers/vfio/");
        machine.file(
            "/proc/meminfo",
            &format!(
                "MemTotal:        {} kB\nMemFree:  1 kB\n",
                TOTAL_BYTES >> 10
            ),
        );
        machine.file(
            "/proc/self/mountinfo",
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
        );
        machine
    }

    pub fn common(&self) -> Common {
        jsonpipe::testkit::common(self.root.path())
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.common().path(path)
    }

    pub fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn link(&self, target: impl AsRef<Path>, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// The modules of VFIO as files, which the kernel's list names.
    pub fn modules(&self, directory: &str) {
        let base = "/lib/modules/6.1.0-41-amd64";
        self.file(
            &format!("{base}/modules.dep"),
            &format!(
                "{directory}vfio_iommu_type1.ko: {directory}vfio.ko\n{directory}pci/vfio-pci.ko.xz: {directory}vfio.ko\n{directory}vfio.ko:\n"
            ),
        );
        for file in ["vfio_iommu_type1.ko", "pci/vfio-pci.ko.xz", "vfio.ko"] {
            self.file(&format!("{base}/{directory}{file}"), "");
        }
    }

    /// A PCI device; in place of one at the same address.
    pub fn pci(
        &self,
        address: &str,
        id: &str,
        class: &str,
        driver: Option<&str>,
        group: Option<u32>,
    ) {
        let directory = place(address);
        let _ = fs::remove_dir_all(self.path(&directory));
        let (vendor, device) = id.split_once(':').unwrap();
        self.file(&format!("{directory}/vendor"), &format!("0x{vendor}\n"));
        self.file(&format!("{directory}/device"), &format!("0x{device}\n"));
        self.file(&format!("{directory}/class"), &format!("0x{class}\n"));
        if let Some(driver) = driver {
            self.link(
                format!("../../../bus/pci/drivers/{driver}"),
                &format!("{directory}/driver"),
            );
        }
        if let Some(group) = group {
            self.link(
                format!("../../../kernel/iommu_groups/{group}"),
                &format!("{directory}/iommu_group"),
            );
            let member = format!("/sys/kernel/iommu_groups/{group}/devices/{address}");
            if !self.path(&member).is_symlink() {
                self.link(format!("../../../../devices/pci0000:00/{address}"), &member);
            }
        }
        let entry = format!("/sys/bus/pci/devices/{address}");
        if !self.path(&entry).is_symlink() {
            self.link(format!("../../../devices/pci0000:00/{address}"), &entry);
        }
    }

    /// An entry of a class, in a directory below the one of a PCI device.
    pub fn entry(&self, address: &str, class: &str, name: &str, files: &[(&str, &str)]) {
        let directory = format!("{}/host0/{class}/{name}", place(address));
        fs::create_dir_all(self.path(&directory)).unwrap();
        for (file, text) in files {
            self.file(&format!("{directory}/{file}"), text);
        }
        self.link(
            format!("../../..{directory}"),
            &format!("/sys/class/{class}/{name}"),
        );
    }

    /// A node of a device, with its number.
    pub fn node(&self, address: &str, class: &str, name: &str, node: &str, number: &str) {
        let uevent = format!("MAJOR=1\nDEVNAME={node}\n");
        self.entry(
            address,
            class,
            name,
            &[("dev", number), ("uevent", &uevent)],
        );
    }

    /// A process with one open file. The tree has a table of processes of its own, because the
    /// kernel's has the real ones; its links lead to real nodes, whose numbers count.
    pub fn process(&self, pid: u32, command: &str, open: &str) {
        self.file(&format!("/proc/{pid}/comm"), &format!("{command}\n"));
        self.link(open, &format!("/proc/{pid}/fd/7"));
    }

    pub fn find(&self) -> Findings {
        let common = self.common();
        let name = model::of_machine(&common);
        let guest = Guest {
            profile: "windows",
            memory_bytes: self.memory_bytes,
            hugepages: self.hugepages.then_some(Path::new("/hugepages")),
            zfs: self.zfs,
        };
        let wish = Wish {
            name: name.as_deref().map_err(String::as_str),
            model: self.model.as_ref(),
            guests: &[guest],
            reserve_bytes: self.reserve_bytes,
            kvm: Some(self.kvm_fault.map_or(Ok(()), Err)),
            is_locked: false,
        };
        let mut findings = blockers::find(&common, &wish).unwrap();
        // Without root there is one warning more, in every case.
        if !geteuid().is_root() {
            findings
                .warnings
                .retain(|found| found.way_out != "run the check as root");
        }
        findings
    }

    /// The only obstacle.
    pub fn blocker(&self) -> Finding {
        let findings = self.find();
        let [blocker] = &findings.blockers[..] else {
            panic!("{findings:#?}");
        };
        blocker.clone()
    }

    /// The causes of all obstacles, in order.
    pub fn kinds(&self) -> Vec<Kind> {
        self.find()
            .blockers
            .iter()
            .map(|found| found.kind)
            .collect()
    }

    /// The causes of all warnings, in order.
    pub fn warnings(&self) -> Vec<Kind> {
        self.find()
            .warnings
            .iter()
            .map(|found| found.kind)
            .collect()
    }

    pub fn model(&mut self) -> &mut Model {
        self.model.as_mut().unwrap()
    }
}

pub fn place(address: &str) -> String {
    format!("/sys/devices/pci0000:00/{address}")
}

pub fn listed(address: &str, id: &str) -> Listed {
    format!("{address} {id}").parse().unwrap()
}
