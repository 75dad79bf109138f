//! The check only reads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::machine::{AUDIO, Machine, USB};

#[test]
fn the_tree_is_the_same_after_the_check() {
    let mut machine = Machine::new();
    machine.hugepages = true;
    machine.zfs = true;
    machine.entry(USB, "block", "sdb", &[("dev", "8:16\n")]);
    machine.entry(USB, "net", "enx0", &[]);
    machine.node(AUDIO, "sound", "controlC0", "snd/controlC0", "1:5\n");
    machine.process(4711, "pulseaudio", "/dev/zero");
    machine.file("/run/labtools/guest.lock", "");
    machine.file("/dev/vfio/3", "");
    machine.file("/dev/kvm", "");
    let before = snapshot(&machine.path("/"));
    assert!(!machine.find().blockers.is_empty());
    assert_eq!(snapshot(&machine.path("/")), before);
}

/// Each path with its time of change, and its content or target.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut next = vec![root.to_owned()];
    while let Some(path) = next.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let content = if about.is_dir() {
            next.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            Vec::new()
        } else if about.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (about.ctime(), about.ctime_nsec(), content));
    }
    found
}
