//! Input: the command line and the sections of the document.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use images::{BACKING, bases};
use jsonpipe::Common;
use serde::{Deserialize, Serialize};

use crate::token::Token;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "cowvol",
    version,
    about = "Give each user a copy-on-write disk of a base",
    after_help = "\
A session, in which cowvol is the second stage:
  nm-8021x-login login | cowvol clone | vm-passthrough run

See cowvol(8) for every field, and labtools(7) for the other tools."
)]
pub struct Arguments {
    /// The flags of every tool.
    #[command(flatten)]
    pub common: Common,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

impl AsRef<Common> for Arguments {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the bases and the volumes on them
    #[command(after_help = format!("\
Does not read standard input. Writes the section catalog: the bases of
{}, each with the volumes made on it, and under
orphans the volumes whose base is not in bases.ini.

Example: the room that each volume takes on the disk
  cowvol list | jq -r '.catalog.bases[].volumes[] | [.token,.held_bytes]|@tsv'", bases::PATH))]
    List {
        /// Show only the volumes of the user with this full name
        #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        user: Option<String>,
    },
    /// Make the user's volume of a base, or find it
    #[command(after_help = "\
Reads a document (JSON or INI) on standard input:
  login.user           the user's full name, alice@uni-a.example
  login.authenticated  true; if false, the document is passed on (status 1)
  choice.base          which base; without it, the default of bases.ini
  choice.restore       yesterday or clean: restore the volume first
  choice.ephemeral     true: as with --ephemeral
The whole room that the disk can come to need is held for it. If it is not free,
volumes of others that nothing uses go, the least recently used first; if that
is not enough, nothing goes (status 73).
Writes the same document with the section volume: the path of the disk, its
base, whether it was created now, and what was evicted for it.

Example:
  printf '[login]\\nuser=alice@uni-a.example\\nauthenticated=true\\n' |
    cowvol clone --dry-run")]
    Clone {
        /// Make a volume for this session alone, as for an exam
        #[arg(long)]
        ephemeral: bool,
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Give back the room held for volumes, after a session
    #[command(after_help = "\
Does not read standard input. Every volume that no program has open gives back
the room that clone held for it; what is in it stays, and so does its last
login. An ephemeral volume goes. login-session runs it before and after each
session. Writes the section released.

Example: show what is held for sessions that have ended
  cowvol release --dry-run | jq .released.volumes")]
    Release {
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove the volumes of one user, who then starts afresh
    #[command(after_help = "\
Does not read standard input. The user's files on this machine go with the
volumes. If a program has one of them open, or its session has not ended,
nothing is removed (status 75). Writes the section discarded.

Example: for a user whose guest no longer starts
  cowvol discard --user alice@uni-a.example --base windows")]
    Discard(Discard),
    /// Give a user's volume an earlier content
    #[command(after_help = "\
Does not read standard input. With yesterday, the user's volume contains again
what it did before the first session of the day, when clone took its restore
point; with clean, what its base contains: the user's files on this machine go.
If a program has it open, or its session has not ended, nothing is done (status
75); without a restore point, it is status 66. Writes the section restored.

Example: for a user whose guest no longer starts
  cowvol restore --user alice@uni-a.example --base windows --to yesterday")]
    Restore(Restore),
    /// Write a user's volume as a stream, for another machine
    #[command(after_help = "\
Does not read standard input. The stream holds what the volume changes of its
base, a digest at its end, and the base's identity, with which import compares
the base of the other machine. It goes to a new file, a FIFO or /dev/fd/N. While
it is written, no program can open the volume. If one has it open, or a session
has it, nothing is written (status 75). Writes the section exported.

Example: straight to another machine
  cowvol export --user alice@uni-a.example --to /dev/fd/3 3> >(
    ssh pc-12 cowvol import --user alice@uni-a.example --from /dev/fd/0)")]
    Export(Export),
    /// Make a user's volume of a stream that export wrote
    #[command(after_help = "\
Does not read standard input, unless FILE is /dev/fd/0. The volume gets its
whole room first, as by clone, and its name last, when all of the stream is
there and its digest is right. The base has to be the one that the stream was
made on, in the same generation. A volume that the user has already stays,
unless --replace is given. Writes the section imported.

Example: read the whole stream, and print what would be done
  cowvol import --user alice@uni-a.example --from alice.volume --dry-run")]
    Import(Import),
    /// Switch over to a new generation of a base
    #[command(after_help = format!("\
Reads a document (JSON or INI) on standard input:
  image.manifest, image.signature  signed by mkimg-torrent, in Base64
  transfer.state                   complete; if not, the document is passed on
                                   (status 1)
  transfer.path                    {BACKING}/NAME/GENERATION.qcow2
The file there is compared with the manifest, every byte. Then bases.ini is
replaced, which is the switch-over, and unused generations are removed, as by
prune. Writes the same document with the section base.

Example:
  seedctl get < windows.json | cowvol install-base"))]
    InstallBase(InstallBase),
    /// Make the datasets for bases and volumes on ZFS, and check them
    #[command(after_help = "\
Does not read standard input. Needs the section [zfs] in cowvol.ini. Makes the
datasets POOL/base and POOL/user if they do not exist, and checks them and all
below: mount points, checksums, and that each base has its snapshot, is
read-only, and has the properties that bases.ini gives it. Prints the section
layout, which names each thing that is wrong, with the command that mends it
(status 1). It changes nothing that exists.

Example: show the commands
  cowvol layout | jq -r '.layout.wrong[] | \"\\(.dataset): \\(.reason)\"'")]
    Layout {
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Find what a power cut or a fault has left of bases and volumes
    #[command(after_help = "\
Does not read standard input, and changes nothing. Names each fault with the way
out: half-made files, empty directories, room that is held for no session,
volumes that are damaged or were made for another base, bases that are not
there, files of others. Writes the section checked; status 1 if there is any.

Example: the faults, a line each
  cowvol check | jq -r '.checked.faults[] | \"\\(.path): \\(.what)\"'")]
    Check,
    /// Mend what check finds, where no user's files are lost
    #[command(after_help = "\
Does not read standard input. Removes what is half made, and empty directories;
gives back room that is held for no session; holds the room of a session's
volume again. No volume goes. Writes the section repaired, which also names what
is left, with the way out (status 1).

Example: show what it would do
  cowvol repair --dry-run | jq .repaired")]
    Repair {
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove unused old generations, and idle volumes
    #[command(after_help = "\
Does not read standard input. Removes the generations below the current one of
every base in bases.ini, and the users' volumes that were made on them. While a
session or a guest runs on the machine, or a program has one of the files
locked, they stay. With idle_days in cowvol.ini, also removes the volumes that
no user came back to for that time. Writes the section pruned.

Example: show what would be removed
  cowvol prune --dry-run | jq .pruned.removed")]
    Prune {
        /// Print the intended changes, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// The flags of `install-base`.
#[derive(Clone, Copy, Debug, Args)]
pub struct InstallBase {
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Accept a generation below the current one
    #[arg(long)]
    pub allow_downgrade: bool,
}

/// The flags of `discard`.
#[derive(Clone, Debug, Args)]
pub struct Discard {
    /// Whose volumes.
    #[command(flatten)]
    pub whose: Whose,
    /// Only the volumes on this base
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A user, by name or as `cowvol check` and the event log name one.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// The user's full name, as in login.user
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// The user's token, where the name is not known
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    pub token: Option<Token>,
}

impl Whose {
    /// The user's token.
    pub fn token(&self) -> Option<Token> {
        let of_name = self.user.as_deref().map(Token::of);
        of_name.or_else(|| self.token.clone())
    }
}

fn token(text: &str) -> Result<Token, String> {
    Token::parse(text).ok_or_else(|| "a token has 38 of A-Z, a-z, 0-9, - and _".into())
}

/// The flags of `restore`.
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// The user's full name, as in login.user
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub user: String,
    /// The base; without it, the default of bases.ini
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// What the volume is to contain
    #[arg(long, value_name = "CONTENT")]
    pub to: RestoreTo,
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The flags of `export`.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// The user's full name, as in login.user
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub user: String,
    /// The base; without it, the default of bases.ini
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Write the stream to FILE: a new one, a FIFO or /dev/fd/N
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Print the size of the stream, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The flags of `import`.
#[derive(Clone, Debug, Args)]
pub struct Import {
    /// The user's full name; the stream has to be of this user
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub user: String,
    /// Read the stream from FILE, also a FIFO or /dev/fd/N
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Replace the volume that the user has, with the files in it
    #[arg(long)]
    pub replace: bool,
    /// Read all of it, print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// An earlier content of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreTo {
    /// That of its restore point
    Yesterday,
    /// That of its base
    Clean,
}

/// The section `image` of `mkimg-torrent`. Only its signed manifest is trusted.
#[derive(Debug, Deserialize)]
pub struct Image {
    /// The exact bytes of the manifest, in Base64.
    pub manifest: String,
    /// Their signature, 64 bytes in Base64.
    pub signature: String,
    /// The torrent of the image; unused here.
    pub torrent_file: Option<String>,
    /// The torrent of its block map; unused here.
    pub blocks_torrent_file: Option<String>,
    /// Whether that call made it.
    pub changed: Option<bool>,
}

/// The section `transfer`: the place where `seedctl` put the image. Its counters are not read.
#[derive(Debug, Deserialize)]
pub struct Transfer {
    /// `complete`, otherwise the image is not there.
    pub state: String,
    /// The path of the image, relative to the root; optional, because the manifest determines it.
    pub path: Option<String>,
    /// The infohash of its torrent; optional.
    pub infohash: Option<String>,
    /// Its digest; optional, since the file is checked in any case.
    pub sha256: Option<String>,
}

/// The section `login`: the user.
#[derive(Debug, Deserialize)]
pub struct Login {
    /// The full name with its realm, `alice@uni-a.example`; absent when the login was refused
    /// before the name was known.
    pub user: Option<String>,
    /// The realm, which the full name already contains.
    pub realm: Option<String>,
    /// Whether the user was authenticated.
    pub authenticated: bool,
}

/// The section `choice`: the user's choice.
#[derive(Debug, Default, Deserialize)]
pub struct Choice {
    /// The name of a base; absent for the default one.
    pub base: Option<String>,
    /// What the user's volume is to contain, if it is not what the last session left.
    pub restore: Option<RestoreTo>,
    /// Whether the session is to have a volume that ends with it.
    #[serde(default)]
    pub ephemeral: bool,
}
