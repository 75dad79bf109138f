//! The version of QEMU, on which the options for integrated graphics depend.

use std::path::Path;
use std::time::Duration;

use confined::Identity;
use jsonpipe::Exit;

use crate::child;

/// QEMU answers in a fiftieth of a second; a slow disk takes longer.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// A version, such as 7.2. Versions compare by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// The oldest that was tested: that of Debian 12.
const OLDEST: Version = Version { major: 7, minor: 2 };

impl Version {
    /// The first that has the option `x-igd-legacy-mode`, and by itself gives the guest the stolen
    /// memory of the host (QEMU's docs/igd-assign.txt).
    pub const STOLEN_MEMORY_OF_THE_HOST: Version = Version {
        major: 10,
        minor: 0,
    };

    /// Asks the program, as the user that will run the guest. A missing program is status 69, an
    /// unknown or too old version 78.
    pub fn read(binary: &Path, identity: Option<Identity>) -> anyhow::Result<Version> {
        Version::of(binary, &ask(binary, identity)?)
    }

    /// The version in the answer of [`ask`]. Status 78 when it is unknown or too old.
    pub(super) fn of(binary: &Path, printed: &str) -> anyhow::Result<Version> {
        let Some(version) = Version::parse(printed) else {
            return Err(Exit::Config.error(format_args!(
                "reading the version of {}: -version does not print QEMU's; set qemu.binary in vm-passthrough.ini",
                binary.display()
            )));
        };
        if version < OLDEST {
            return Err(Exit::Config.error(format_args!(
                "{}: QEMU {}.{} is too old; install {}.{} or newer",
                binary.display(),
                version.major,
                version.minor,
                OLDEST.major,
                OLDEST.minor
            )));
        }
        Ok(version)
    }

    /// `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)`, and other lines.
    fn parse(printed: &str) -> Option<Version> {
        let version = printed.strip_prefix("QEMU emulator version ")?;
        let version = version.split_whitespace().next()?;
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        Some(Version {
            major: numbers.next()??,
            minor: numbers.next()??,
        })
    }
}

/// Asks the program for its version. Status 69 when it is missing, 78 when the user may not run it,
/// 75 when it does not answer.
pub(super) fn ask(binary: &Path, identity: Option<Identity>) -> anyhow::Result<String> {
    let argv = [binary.display().to_string(), "-version".into()];
    child::output(&argv, identity, LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_debian_are_read_and_ordered() {
        let parse =
            |version: &str| Version::parse(&format!("QEMU emulator version {version}\nCopyright"));
        let old = parse("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)").unwrap();
        let new = parse("10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)").unwrap();
        assert_eq!(
            (old, new),
            (
                Version { major: 7, minor: 2 },
                Version::STOLEN_MEMORY_OF_THE_HOST
            )
        );
        assert!(OLDEST <= old && old < new);
        for other in ["", "10", "x.2", "-7.2"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(Version::parse("qemu-img version 7.2.22"), None);
    }
}
