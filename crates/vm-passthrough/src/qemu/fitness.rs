//! Whether the QEMU of this machine can take over devices.

use std::path::Path;

use blockers::{Finding, Kind};
use confined::Identity;
use jsonpipe::Exit;

use super::version::{self, LIMIT, Version};
use crate::child;
use crate::virtualizer::Needs;

/// The device that stands for a device of the host.
const DEVICE: &str = "vfio-pci-nohotplug";
const INSTALL: &str = "install Debian's package qemu-system-x86, of Debian 12 or newer";

/// The obstacle, if QEMU is not there, is too old, or lacks a device or a property.
pub fn obstacle(binary: &Path, identity: Option<Identity>, needs: Needs) -> Option<Finding> {
    let printed = match version::ask(binary, identity) {
        Ok(printed) => printed,
        Err(error) => return Some(unfit(Kind::QemuMissing, &error)),
    };
    let version = match Version::of(binary, &printed) {
        Ok(version) => version,
        Err(error) => return Some(unfit(Kind::QemuOld, &error)),
    };
    let property = match needs {
        Needs::Nothing => return None,
        Needs::Devices => "host",
        Needs::Graphics if version >= Version::STOLEN_MEMORY_OF_THE_HOST => "x-igd-legacy-mode",
        Needs::Graphics => "x-igd-gms",
    };
    let argv = [
        binary.display().to_string(),
        "-device".into(),
        format!("{DEVICE},help"),
    ];
    // Without the device, QEMU has no help for it.
    let help = child::output(&argv, identity, LIMIT).unwrap_or_default();
    lacks(&help, property).then(|| {
        let Version { major, minor } = version;
        let what =
            format!("QEMU {major}.{minor} has no device {DEVICE} with the property {property}");
        Finding::new(Kind::QemuLacks, what, INSTALL).setting("qemu.binary")
    })
}

/// The obstacle that an error describes. One that the user may not run has its own way out.
fn unfit(kind: Kind, error: &anyhow::Error) -> Finding {
    let install = format!("{INSTALL}, or set qemu.binary in vm-passthrough.ini");
    let text = format!("{error:#}");
    let (what, own) = text.split_once("; ").unwrap_or((&text, &install));
    let is_denied = kind == Kind::QemuMissing && Exit::of(error) == Exit::Config;
    let way_out = if is_denied { own } else { &install };
    Finding::new(kind, what, way_out).setting("qemu.binary")
}

/// Whether a device's help, which has `  x-igd-gms=<uint32> - ...` on a line, lacks a property.
fn lacks(help: &str, property: &str) -> bool {
    !help
        .lines()
        .any(|line| line.trim_start().split('=').next() == Some(property))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HELP: &str = "vfio-pci-nohotplug options:\n  host=<str>             - Host PCI address\n  x-igd-gms=<uint32>     -  (default: 0)\n";

    /// A program that speaks like QEMU: no Debian has one without these devices.
    fn kind(version: &str, help: &str, needs: Needs) -> Option<Kind> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qemu");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = -version ] && printf '%s\\n' '{version}' || printf '%s' '{help}'\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Some(obstacle(&path, None, needs)?.kind)
    }

    #[test]
    fn qemu_of_this_machine_fits_all_needs() {
        let binary = Path::new("/usr/bin/qemu-system-x86_64");
        for needs in [Needs::Nothing, Needs::Devices, Needs::Graphics] {
            assert_eq!(obstacle(binary, None, needs), None);
        }
    }

    #[test]
    fn qemu_that_is_not_there_is_an_obstacle() {
        let found = obstacle(Path::new("/nowhere/qemu"), None, Needs::Nothing).unwrap();
        assert_eq!(found.kind, Kind::QemuMissing);
        assert!(found.what.ends_with("(os error 2)"), "one way out: {found}");
        assert_eq!(found.setting.as_deref(), Some("qemu.binary"));
    }

    #[test]
    fn qemu_that_its_user_may_not_run_is_an_obstacle() {
        let file = tempfile::NamedTempFile::new().unwrap(); // of mode 0600
        let found = obstacle(file.path(), None, Needs::Nothing).unwrap();
        assert_eq!(found.kind, Kind::QemuMissing);
        assert!(found.way_out.starts_with("let its user run it"), "{found}");
    }

    #[test]
    fn qemu_that_is_too_old_or_unknown_is_an_obstacle() {
        for version in ["QEMU emulator version 5.2.0 (Debian)", "qemu"] {
            assert_eq!(kind(version, HELP, Needs::Nothing), Some(Kind::QemuOld));
        }
    }

    #[test]
    fn qemu_needs_the_properties_of_its_version() {
        let (old, new) = (
            "QEMU emulator version 7.2.22",
            "QEMU emulator version 10.0.2",
        );
        for (version, help, needs, expected) in [
            (old, HELP, Needs::Graphics, None),
            (new, HELP, Needs::Graphics, Some(Kind::QemuLacks)),
            (new, HELP, Needs::Devices, None),
            (old, "", Needs::Devices, Some(Kind::QemuLacks)),
            (old, "", Needs::Nothing, None),
        ] {
            assert_eq!(kind(version, help, needs), expected, "{version} {needs:?}");
        }
    }
}
