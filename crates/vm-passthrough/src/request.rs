//! Input: the command line, and the sections `volume` and `login` of the document.
//!
//! Both are other tools' sections, and a person may write them with any key of those tools. So each
//! key is listed here, including unused ones: only other keys are unknown.

use std::net::IpAddr;
use std::path::PathBuf;

use jsonpipe::{Common, Exit};
use pci::PciAddress;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Boot a user's guest and report how it ended
#[derive(Debug, clap::Parser)]
#[command(
    name = "vm-passthrough",
    version,
    after_help = "\
Examples:
  vm-passthrough check
        print all that prevents the hand-over of this machine's devices
  cowvol clone < login.json | vm-passthrough plan
        print QEMU's command line, and start nothing
  cowvol clone < login.json | vm-passthrough run
        boot the guest, wait until it ends, and report how it ended
  vm-passthrough restore
        give back the devices after a run was killed

Each subcommand has its own --help.

Configuration (in /etc/labtools, see vm-passthrough(8)):
  vm-passthrough.ini  QEMU's user, program and addresses  [qemu], [host]
  profiles.ini        the guest of each ostype            [profile.windows]
  models.ini          the devices to hand over            [model.OptiPlex 7010]

Exit status: 0 done, 1 no; the --help of each subcommand has its own"
)]
pub struct Arguments {
    /// The subcommand.
    #[command(subcommand)]
    pub action: Action,
    /// The flags of every tool.
    #[command(flatten)]
    pub common: Common,
}

/// The subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Print how the guest would start, and start nothing
    #[command(after_help = format!("{INPUT}\
and writes [guest]: QEMU's command line, the devices and their IOMMU groups.
It needs no root.

Examples:
  cowvol clone < login.json | vm-passthrough plan
  vm-passthrough plan < disk.ini
        a disk described by hand: [volume] with path, format and ostype

Exit status: 0 printed, 1 the login was refused, 65 bad document, 66 a listed
device is not there, 69 QEMU is not there, 78 wrong configuration, or the
machine has too little memory"))]
    Plan,
    /// Boot the guest, wait until it ends, and report how it ended
    #[command(after_help = format!("{INPUT}\
and writes [guest]: how the guest started, how it ended, and whether the host
has everything back (handed_back).

Example:
  cowvol clone < login.json | vm-passthrough run

A signal shuts the guest down. If the run itself is killed, vm-passthrough
restore gives the devices back.

Exit status: 0 the guest shut down, 1 the login was refused, the guest died, or
the host does not have everything back, 65 bad document, 66 a disk is not there,
69 no QEMU or nft, 75 another guest runs, or too little memory now, 77 not root,
78 something prevents the hand-over (vm-passthrough check names it), or wrong
configuration"))]
    Run,
    /// Print everything that prevents the hand-over of the devices
    #[command(after_help = "\
Reads no document, and changes nothing. Writes [guest] with the lists blockers
and warnings; each entry has its cause (what) and the way out (way_out).
vm-passthrough-check(8) has all kinds.

Examples:
  vm-passthrough check
        one line for each blocker on standard error
  vm-passthrough check -v
        and for each warning
  vm-passthrough check 2>/dev/null | jq -r '.guest.blockers[].kind'

As root it also sees the open files of other users, and asks KVM and the IOMMU
groups.

Exit status: 0 no blocker, 1 a blocker, 74 a table of the kernel cannot be
read, 78 wrong configuration")]
    Check,
    /// Tell whether the next guest can start without a restart of the host
    #[command(after_help = "\
Reads no document, and changes nothing. Compares the fragmentation of the memory
with reboot_between_sessions in [host] of vm-passthrough.ini (never, fragmented
or always), and writes [guest] with both.

Example:
  vm-passthrough is-fresh || systemctl reboot

Exit status: 0 it can, 1 restart the host, 78 wrong configuration")]
    IsFresh,
    /// Write an entry of models.ini for this machine
    #[command(after_help = "\
Reads no document. Writes a section of models.ini to a new file, for a
technician to review, and [guest]: the model, its devices and parked devices,
and what is missing. It needs no root.

Example:
  vm-passthrough probe --to new.ini
        compare it with a second machine of the model, then add it to
        /etc/labtools/models.ini

Exit status: 0 written, 73 the file exists or cannot be made, 74 the machine
cannot be read, 78 the firmware names no model, or models.ini cannot have it")]
    Probe {
        /// Write it to FILE, a new one
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Give back what a killed run took for its guest
    #[command(after_help = "\
Reads no document. Gives back the devices, the console and the huge pages by
the journal of the killed run, and writes [guest]: the drivers before and now
(returned), and what the host does not have back (left). Without a journal it
changes nothing, and names the devices that vfio-pci has for no known reason.
It can be called as often as you like.

Examples:
  vm-passthrough restore
  vm-passthrough restore 00:1b.0
        also give this device to the driver that the kernel chooses, after
        /run/labtools was deleted and the run killed

Exit status: 0 the host has everything, 1 something is left, 75 a guest runs,
78 the journal cannot be followed")]
    Restore {
        /// Also give this device to the driver that the kernel chooses
        #[arg(value_name = "DEVICE")]
        devices: Vec<PciAddress>,
    },
}

/// The input of a plan and of a run.
const INPUT: &str = "\
Reads from the document on standard input:
  [volume]  path, format and ostype of the disk; backing_path and
            backing_format of the base that it grows on
  [login]   if it is there: authenticated, and links[0].interface, whose
            MAC address the guest gets, and whose address names its room
";

impl AsRef<Common> for Arguments {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

/// A key of the section that is not read.
type Unread = Option<IgnoredAny>;

/// The disk to boot, as `cowvol clone` writes it.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "of another tool's section")]
pub struct Volume {
    /// The path of the disk: an image file, or a block device below /dev.
    pub path: String,
    /// Its format.
    pub format: Format,
    /// The operating system on it, which determines the profile.
    pub ostype: String,
    /// The base image of an overlay; absent for a standalone disk.
    #[serde(default)]
    pub backing_path: Option<String>,
    /// The format of the base image.
    #[serde(default)]
    pub backing_format: Option<Format>,
    user: Unread,
    token: Unread,
    base: Unread,
    generation: Unread,
    backend: Unread,
    virtual_bytes: Unread,
    room_bytes: Unread,
    reserved: Unread,
    held_bytes: Unread,
    evicted: Unread,
    replaced: Unread,
    ephemeral: Unread,
    restored: Unread,
    restore_point_at: Unread,
    missing: Unread,
    created: Unread,
    changed: Unread,
}

/// The format of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// QEMU's copy-on-write format.
    Qcow2,
    /// The raw bytes of the disk.
    Raw,
}

impl Format {
    /// The name of QEMU's driver for it.
    pub fn driver(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

impl Volume {
    /// The same, after checking that its keys fit together.
    pub fn checked(self) -> anyhow::Result<Volume> {
        let wrong =
            |key: &str, what: &str| Err(Exit::Data.error(format_args!("volume.{key}: {what}")));
        for (key, path) in [
            ("path", Some(&self.path)),
            ("backing_path", self.backing_path.as_ref()),
        ] {
            let Some(path) = path else { continue };
            if !path.starts_with('/') || path.contains(char::is_control) {
                return wrong(key, "not an absolute path");
            }
            // It would lead out of --root, and out of /dev.
            if path.split('/').any(|part| part == "..") {
                return wrong(key, "has .. in it; give the path without");
            }
        }
        match (&self.backing_path, self.backing_format, self.format) {
            (Some(_), None, _) => wrong("backing_format", "missing beside backing_path"),
            (None, Some(_), _) => wrong("backing_path", "missing beside backing_format"),
            (Some(_), _, Format::Raw) => wrong("backing_path", "a raw disk has no base"),
            _ => Ok(self),
        }
    }

    /// The base image and its layout.
    pub fn backing(&self) -> Option<(&str, Format)> {
        self.backing_path.as_deref().zip(self.backing_format)
    }

    /// Whether the disk is a block device. The path decides, so that a plan needs no device.
    pub fn is_device(&self) -> bool {
        self.path.starts_with("/dev/")
    }
}

/// The result of the login, as `nm-8021x-login` writes it.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "of another tool's section")]
pub struct Login {
    /// Without true no guest starts.
    pub authenticated: bool,
    /// The network connections, the guest's first.
    #[serde(default)]
    pub links: Vec<Link>,
    user: Unread,
    /// A key of the login's input; the password beside it is not accepted here.
    username: Unread,
    realm: Unread,
    method: Unread,
    session: Unread,
    reason: Unread,
    detail: Unread,
    started_at: Unread,
    ended_at: Unread,
    duration_seconds: Unread,
    changed: Unread,
    missing: Unread,
}

/// One network connection.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "of another tool's section")]
pub struct Link {
    /// The network interface, `eno1`.
    pub interface: String,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    kind: Unread,
    ssid: Unread,
    profile: Unread,
    authenticated: Unread,
    reason: Unread,
    detail: Unread,
    eap: Unread,
    server_subject: Unread,
    primary: Unread,
    unrestored: Unread,
    verdict_seconds: Unread,
}

impl Login {
    /// The interface whose MAC address the guest gets.
    pub(crate) fn interface(&self) -> Option<&str> {
        Some(&self.links.first()?.interface)
    }

    /// The addresses of that interface.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        self.links.first().map_or(&[], |link| &link.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonpipe::Document;

    fn volume(json: &str) -> Result<Volume, String> {
        let document = Document::parse(&format!(r#"{{"volume":{json}}}"#), "guest").unwrap();
        document
            .require::<Volume>("volume")
            .and_then(Volume::checked)
            .map_err(|error| {
                assert_eq!(Exit::of(&error), Exit::Data);
                format!("{error:#}")
            })
    }

    #[test]
    fn the_keys_of_a_volume_fit_together() {
        for (json, message) in [
            (
                r#"{"path":"v","format":"raw","ostype":"linux"}"#,
                "volume.path: not an absolute path",
            ),
            (
                r#"{"path":"/v\nw","format":"raw","ostype":"linux"}"#,
                "volume.path: not an absolute path",
            ),
            (
                r#"{"path":"/dev/../v","format":"raw","ostype":"linux"}"#,
                "volume.path: has .. in it; give the path without",
            ),
            (
                r#"{"path":"/v","format":"qcow2","ostype":"linux","backing_path":"/..","backing_format":"raw"}"#,
                "volume.backing_path: has .. in it; give the path without",
            ),
            (
                r#"{"path":"/v","format":"vmdk","ostype":"linux"}"#,
                "volume.format: expected one of qcow2, raw",
            ),
            (r#"{"path":"/v","format":"raw"}"#, "volume.ostype: missing"),
            (
                r#"{"path":"/v","format":"qcow2","ostype":"linux","backing_path":"/b"}"#,
                "volume.backing_format: missing beside backing_path",
            ),
            (
                r#"{"path":"/v","format":"qcow2","ostype":"linux","backing_format":"raw"}"#,
                "volume.backing_path: missing beside backing_format",
            ),
            (
                r#"{"path":"/v","format":"raw","ostype":"linux","backing_path":"/b","backing_format":"raw"}"#,
                "volume.backing_path: a raw disk has no base",
            ),
        ] {
            assert_eq!(volume(json).unwrap_err(), message);
        }
        let by_tool = r#"{"schema":1,"user":"a@b","path":"/v","format":"qcow2","ostype":"linux","backing_path":"/b","backing_format":"qcow2"}"#;
        assert_eq!(
            volume(by_tool).unwrap().backing(),
            Some(("/b", Format::Qcow2))
        );
    }
}
