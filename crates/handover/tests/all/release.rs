//! Devices that vfio-pci has without a journal, and that a person names.

use std::fs;
use std::os::unix::fs::symlink;

use handover::{release, strays};
use jsonpipe::Exit;

use crate::tree::{DEVICE, Tree};

/// What a kill leaves at each change of [`release`]: on vfio-pci, then without a driver, then without
/// the override.
#[test]
fn a_device_is_released_whatever_a_killed_release_has_left() {
    let device = "00:1b.0".parse().unwrap();
    for (driver, overridden) in [
        (Some("vfio-pci"), "vfio-pci\n"),
        (None, "vfio-pci\n"),
        (None, "(null)\n"),
    ] {
        let tree = Tree::new();
        tree.write("sys/bus/pci/drivers_probe", "");
        tree.write("sys/bus/pci/drivers/vfio-pci/unbind", "");
        tree.write(&format!("{DEVICE}/driver_override"), overridden);
        tree.bind("vfio-pci");
        if driver.is_none() {
            fs::remove_file(tree.path(&format!("{DEVICE}/driver"))).unwrap();
        }
        let is_stray = strays(&tree.common, &[device]) == [device];
        assert_eq!(is_stray, overridden == "vfio-pci\n", "{driver:?}");
        let error = release(&tree.common, device).unwrap_err().to_string();
        if driver.is_some() {
            // No file of a tree does anything. The override stays, so that check still names it.
            assert!(
                error.starts_with("unbinding 0000:00:1b.0 from vfio-pci"),
                "{error}"
            );
            assert_eq!(tree.read(&format!("{DEVICE}/driver_override")), overridden);
            continue;
        }
        assert!(error.starts_with("probing 0000:00:1b.0"), "{error}");
        assert_eq!(tree.read(&format!("{DEVICE}/driver_override")), "\n");
        assert_eq!(tree.read("sys/bus/pci/drivers_probe"), "0000:00:1b.0\n");
    }
}

#[test]
fn a_device_that_an_administrator_set_otherwise_is_not_released() {
    let tree = Tree::new();
    let device = "00:1b.0".parse().unwrap();
    tree.write("sys/bus/pci/drivers_probe", "");
    assert_eq!(
        release(&tree.common, device).unwrap(),
        None,
        "the host has it"
    );
    fs::remove_file(tree.path(&format!("{DEVICE}/driver"))).unwrap();
    tree.write(&format!("{DEVICE}/driver_override"), "none\n");
    let error = release(&tree.common, device).unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Config);
    assert_eq!(strays(&tree.common, &[device]), []);
    tree.bind("vfio-pci");
    tree.write(&format!("{DEVICE}/driver_override"), "(null)\n");
    let error = release(&tree.common, device).unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Config);
    assert_eq!(tree.read("sys/bus/pci/drivers_probe"), "");
}

/// A fake: a process of a tree, which has the group open as the QEMU of another program has it.
#[test]
fn a_device_that_a_process_has_is_not_released() {
    let tree = Tree::new();
    tree.bind("vfio-pci");
    tree.write(&format!("{DEVICE}/driver_override"), "vfio-pci\n");
    tree.write("sys/bus/pci/drivers/vfio-pci/unbind", "");
    tree.write("proc/812/comm", "qemu\n");
    fs::create_dir_all(tree.path("proc/812/fd")).unwrap();
    symlink("/dev/vfio/7", tree.path("proc/812/fd/3")).unwrap();
    let error = release(&tree.common, "00:1b.0".parse().unwrap()).unwrap_err();
    assert_eq!(Exit::of(&error), Exit::TemporaryFailure);
    assert_eq!(
        error.to_string(),
        "releasing 0000:00:1b.0: process 812 (qemu) has /dev/vfio/7 open; end that"
    );
    assert_eq!(tree.read("sys/bus/pci/drivers/vfio-pci/unbind"), "");
}
