//! QEMU: its command line, its monitor, its messages, and whether it is fit for a guest.

mod argv;
pub mod firmware;
mod fitness;
mod kvm;
mod qmp;
mod slots;
mod version;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use blockers::Finding;
use confined::Identity;
use jsonpipe::Common;

use crate::virtualizer::{Control, Needs, Parts, Virtualizer};

pub use version::Version;

/// QEMU, of a version that is known where its options depend on it.
#[derive(Debug)]
pub struct Qemu {
    /// Its path.
    pub binary: PathBuf,
    /// Its version; needed where the integrated graphics is handed over.
    pub version: Option<Version>,
}

impl Virtualizer for Qemu {
    fn name(&self) -> &'static str {
        "QEMU"
    }

    fn obstacle(&self, identity: Option<Identity>, needs: Needs) -> Option<Finding> {
        fitness::obstacle(&self.binary, identity, needs)
    }

    fn try_kvm(&self, common: &Common, identity: &Identity) -> anyhow::Result<Result<(), String>> {
        kvm::try_kvm(common, &self.binary, identity)
    }

    fn command_line(&self, guest: &Parts<'_>) -> Vec<String> {
        argv::build(&self.binary, guest, self.version)
    }

    fn control(&self, stream: UnixStream) -> Box<dyn Control> {
        Box::new(qmp::Monitor::new(stream))
    }

    /// Without legacy mode, integrated graphics shows no picture; QEMU only reports that, and
    /// starts all the same.
    fn refusal<'a>(&self, messages: &'a str) -> Option<&'a str> {
        // hw/vfio/igd.c of 7.2, which has eight such messages; 10 fails by itself.
        const WORDS: [&str; 3] = [
            "legacy mode disabled",
            "cannot support legacy mode",
            "unsupported in legacy mode",
        ];
        messages
            .lines()
            .find(|line| WORDS.iter().any(|words| line.contains(words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_mode_that_is_disabled_is_a_refusal() {
        let qemu = Qemu {
            binary: "/nowhere/qemu".into(),
            version: None,
        };
        for message in [
            "IGD device 0000:00:02.0 has no ROM, legacy mode disabled",
            "IGD device 0000:00:02.0 does not support OpRegion access,legacy mode disabled",
            "IGD legacy mode disabled",
            "IGD device 0000:00:02.0 cannot support legacy mode due to existing devices at address 1f.0",
            "IGD device 0000:00:02.0 is unsupported in legacy mode, try SandyBridge or newer",
        ] {
            let messages = format!("one\nqemu-system-x86_64: {message}\ntwo\n");
            let found = qemu.refusal(&messages).unwrap();
            assert_eq!(found, format!("qemu-system-x86_64: {message}"));
        }
        // What QEMU 10 reports when all is well.
        let well =
            "IGD legacy mode enabled, use x-igd-legacy-mode=off to disable it if unwanted.\n";
        assert_eq!(qemu.refusal(well), None);
    }
}
