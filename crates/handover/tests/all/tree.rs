//! A machine in a directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use jsonpipe::Common;
use tempfile::TempDir;

pub const DEVICE: &str = "sys/bus/pci/devices/0000:00:1b.0";

pub struct Tree {
    root: TempDir,
    pub common: Common,
}

impl Tree {
    /// A machine with an audio device in group 7, bound to snd_hda_intel.
    pub fn new() -> Tree {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree {
            common: jsonpipe::testkit::common(root.path()),
            root,
        };
        tree.write("proc/sys/kernel/random/boot_id", "this-boot\n");
        tree.write("sys/bus/pci/drivers/snd_hda_intel/bind", "");
        tree.write("sys/bus/pci/drivers/vfio-pci/bind", "");
        tree.write("sys/module/vfio_iommu_type1/refcnt", "0\n");
        for (name, value) in [
            ("vendor", "0x8086\n"),
            ("device", "0x1e20\n"),
            ("class", "0x040300\n"),
            ("driver_override", "(null)\n"),
        ] {
            tree.write(&format!("{DEVICE}/{name}"), value);
        }
        tree.bind("snd_hda_intel");
        symlink(
            "../../../../kernel/iommu_groups/7",
            tree.path(&format!("{DEVICE}/iommu_group")),
        )
        .unwrap();
        tree
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// As the kernel does after a write to `bind`.
    pub fn bind(&self, driver: &str) {
        let link = self.path(&format!("{DEVICE}/driver"));
        let _ = fs::remove_file(&link);
        symlink(format!("../../drivers/{driver}"), link).unwrap();
    }

    pub fn journal(&self, text: &str) {
        self.write("run/labtools/guest.journal", text);
    }

    pub fn has_journal(&self) -> bool {
        self.path("run/labtools/guest.journal").exists()
    }
}
