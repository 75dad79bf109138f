//! The command line.

use jsonpipe::Common;

const EXAMPLES: &str = "\
Reads from the document on standard input:
  [volume]  path, format and ostype of the disk; backing_path and
            backing_format of the base that it grows on
  [login]   if it is there: authenticated, and links[0].interface, whose
            MAC address the guest gets
and writes [guest]: how the guest started and how it ended.

Examples:
  cowvol clone < login.json | vm-passthrough plan
        print QEMU's command line; nothing is started
  cowvol clone < login.json | vm-passthrough run
        boot the guest, wait until it ends, and report how it ended

Configuration (in /etc/labtools, see vm-passthrough(8)):
  vm-passthrough.ini  QEMU's user, program and addresses  [qemu]
  profiles.ini        a machine for each ostype           [profile.windows]
  models.ini          the devices to hand over            [model.OptiPlex 7010]

Exit status: 0 the guest shut down, 1 it died or the input says no,
65 bad document, 66 a disk or device is not there, 69 no QEMU or nft,
75 another guest runs, 77 not root, 78 wrong configuration";

/// Boot a user's guest and report how it ended
#[derive(Debug, clap::Parser)]
#[command(name = "vm-passthrough", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
    /// The flags that every tool has.
    #[command(flatten)]
    pub common: Common,
}

/// The subcommands.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Action {
    /// Print how the guest would start, and start nothing
    #[command(after_help = EXAMPLES)]
    Plan,
    /// Boot the guest, wait until it ends, and report how it ended
    #[command(after_help = EXAMPLES)]
    Run,
}

impl AsRef<Common> for Arguments {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}
