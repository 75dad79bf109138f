//! Input: the command line, and the sections of the document.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use images::BACKING;
use jsonpipe::Common;
use manifest::Format;
use serde::Deserialize;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "mkimg-torrent",
    version,
    about = "Describe and sign an image, and make its torrents",
    after_help = "\
On the server, once, and then on every machine:
  mkimg-torrent create --key base.key < windows.ini > windows.json
  seedctl get < windows.json | cowvol install-base

See mkimg-torrent(8) for every field, and labtools(7) for the other tools."
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
    /// Write the files that install Windows without a person
    #[command(after_help = "\
Reads a document (JSON or INI) on standard input: the section image, as create
reads it, windows, and optionally services, tasks, apps, chocolatey, wpkg and
msi; build-guest-windows(8) has every field, and a complete example.

Writes autounattend.xml, labtools/oobe.xml and labtools/recipe.json to DIR,
readable for you alone, and the same document with the section windows, without
its product key.

Example: is this description right?
  mkimg-torrent answer-file --into . --dry-run < windows.ini")]
    AnswerFile(AnswerFile),
    /// Read an image once; write its manifest, block map and torrents
    #[command(after_help = format!("\
Reads a document (JSON or INI) on standard input:
  [image]
  name = windows              its name in paths
  title = Windows 10          its name for people
  ostype = windows            chooses the guest's profile
  generation = 7              counts up from 1 with every image of this name
  trackers = http://server.example:6969/announce
and optionally path, format (qcow2), default, models, created_at,
comment, source, piece_bytes; and installed programs, as [programs] NAME =
VERSION.

Writes GENERATION.blocks, .torrent, .blocks.torrent, .manifest and .sig to
{BACKING}/NAME, and the same document with the section image: all that a
machine needs. The torrents are private and name no web seed."))]
    Create(Create),
    /// Compare an image with its description, and list the wrong pieces
    #[command(after_help = format!("\
Reads a document (JSON) on standard input with the section image, as create
printed it, and believes it if a key in base-*.pub in /etc/labtools/keys signed
it. Without FILE, the image is {BACKING}/NAME/GENERATION.qcow2.

Writes the same document with the section verification; status 1 when something
is wrong: verification.faults says what, and wrong_pieces where.

Example: which pieces of the image are wrong on this machine
  mkimg-torrent verify < windows.json | jq .verification.wrong_pieces"))]
    Verify(Verify),
    /// Describe and sign the root of a host; write no file
    #[command(after_help = "\
Reads a document (JSON or INI) on standard input:
  [image]
  name = lab                  its name for people and logs
  version = 8                 counts up from 1 with every root
and perhaps kind (host, a file system for a slot, or zfs_host, a stream for a
pool), path, models, created_at.

Refuses what a machine would refuse: a file system that is not clean, that has
checksums over its UUID and label, or without a boot entry that says
root=PARTUUID= and a UUID of zeros. Writes the same document with the section
image, which has the manifest and its signature.

Example: publish-host does this, and compresses the image
  mkimg-torrent host --key host.key lab.img < lab.ini")]
    Host(Host),
    /// Verify the manifest of a host's root, for this machine
    #[command(after_help = "\
Does not read standard input. Believes the manifest if it is
of the kind that is asked for, signed by a key in host-*.pub, and for this
model of machine. Writes the section image; status 65 when it is none of these.

Example: which version is it?
  mkimg-torrent verify-host --manifest lab-8.manifest | jq .image.version")]
    VerifyHost(VerifyHost),
}

/// `mkimg-torrent answer-file`.
#[derive(Debug, Args)]
pub struct AnswerFile {
    /// Write the files to this directory
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Print the document, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `mkimg-torrent create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The image; without it image.path, or the one in the store
    pub file: Option<PathBuf>,
    /// Sign with this private key (ed25519, PEM, mode 0600)
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    pub key: Option<PathBuf>,
    /// Also write a Metalink to OUT; needs --url
    #[arg(long, value_name = "OUT", requires = "url")]
    pub metalink: Option<PathBuf>,
    /// The address of the torrent in the Metalink
    #[arg(long, value_name = "URL", requires = "metalink")]
    pub url: Option<String>,
    /// Print the intended changes, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Check the document and the key, before there is an image, and no more
    #[arg(long, conflicts_with_all = ["file", "metalink", "dry_run"])]
    pub check: bool,
}

/// `mkimg-torrent verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The image; without it, the one in the store
    pub file: Option<PathBuf>,
}

/// `mkimg-torrent host`.
#[derive(Debug, Args)]
pub struct Host {
    /// The image or stream; without it image.path
    pub file: Option<PathBuf>,
    /// Sign with this private key (ed25519, PEM, mode 0600)
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Check the document and the key, before there is an image, and no more
    #[arg(long, conflicts_with = "file")]
    pub check: bool,
}

/// `mkimg-torrent verify-host`.
#[derive(Debug, Args)]
pub struct VerifyHost {
    /// The manifest of the root
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Its signature; without it, that FILE ending in .sig
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// The kind of root: host or zfs_host
    #[arg(
        long,
        value_name = "KIND",
        default_value = "host",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub kind: HostKind,
}

/// The purpose of a host's root.
#[derive(Clone, Copy, Debug, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum HostKind {
    /// A slot of the machine's disk: a file system.
    #[default]
    Host,
    /// A pool: a stream of `zfs send`.
    ZfsHost,
}

/// The section `image`, as a person writes it for `host`.
#[derive(Debug, Deserialize)]
pub struct Root {
    /// Its name in logs.
    pub name: String,
    /// Counts up from 1 with every root.
    pub version: u64,
    /// Its purpose.
    #[serde(default)]
    pub kind: HostKind,
    /// The path of the file, relative to the root directory.
    pub path: Option<String>,
    /// The PC models that it is for, as in their firmware; empty for all.
    #[serde(default)]
    pub models: Vec<String>,
    /// The time the root was made, RFC 3339 in UTC; by default the file's modification time.
    pub created_at: Option<String>,
}

/// The section `image`, as a person writes it for `create`.
#[derive(Debug, Deserialize)]
pub struct Image {
    /// Its name in paths and documents.
    pub name: String,
    /// Its title: `Windows 10`.
    pub title: String,
    /// The kind of guest, which determines its profile: `windows`.
    pub ostype: String,
    /// Whether it is used when the user chooses none.
    #[serde(default)]
    pub default: bool,
    /// Counts up from 1 with every image of this name.
    pub generation: u64,
    /// The path of the image, relative to the root; absent when it is in its place in the store.
    pub path: Option<String>,
    /// The format of the file; a raw image is refused.
    #[serde(default = "qcow2")]
    pub format: Format,
    /// The PC models that it is for, as in their firmware; empty for all.
    #[serde(default)]
    pub models: Vec<String>,
    /// The time the image was made, RFC 3339 in UTC; by default the file's modification time.
    pub created_at: Option<String>,
    /// The announce URLs, the first choice first.
    pub trackers: Vec<String>,
    /// A comment line in the torrents.
    pub comment: Option<String>,
    /// A value that changes the infohash, so that two sources of the same image have separate
    /// swarms.
    pub source: Option<String>,
    /// The length of a piece of the image; by default it depends on the size.
    pub piece_bytes: Option<u64>,
}

fn qcow2() -> Format {
    Format::Qcow2
}

/// The section `programs`: the programs installed in the image, version by name.
pub type Programs = BTreeMap<String, String>;

/// The section `image`, as `create` wrote it. Not verified yet.
#[derive(Debug, Deserialize)]
pub struct Described {
    /// The manifest's exact bytes, Base64.
    pub manifest: String,
    /// Their signature, Base64.
    pub signature: String,
    /// The torrent of the image, Base64.
    pub torrent_file: String,
    /// The torrent of the block map, Base64.
    pub blocks_torrent_file: String,
}
