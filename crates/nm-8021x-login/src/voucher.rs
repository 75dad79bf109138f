//! `guest-voucher`: accounts for visitors, for the desk of the campus's own RADIUS server.
//!
//! The server stays the only gate: a lab machine knows of a voucher no more than of any other
//! account, and the server refuses it when its time is over.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, tz::TimeZone};
use jsonpipe::{Answer, Document, Exit, ExitContext, atomic, io_error, timestamp};
use secrecy::zeroize::Zeroizing;

use crate::report::Vouchers;
use crate::request::GuestVoucher;

/// The section that it writes.
const SECTION: &str = "vouchers";

/// None of these is taken for another one in any font, or for a word.
const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// 887 million names: a desk does not see one again.
const NAME_LETTERS: usize = 6;

/// Four groups of four letters are 79 bits.
const PASSWORD_GROUPS: usize = 4;

/// More than one voucher takes in either file.
const ENTRY_BYTES: usize = 1024;

/// Makes the vouchers, and writes the slips before the entries: what is half done lets nobody in.
pub fn write(order: &GuestVoucher) -> anyhow::Result<Answer> {
    // The passwords are in our memory: no core holds them.
    nix::sys::prctl::set_dumpable(false)?;
    let realm = order.realm.to_lowercase();
    if !realms::is_realm(&realm) {
        return Err(Exit::Usage.error(format_args!("--realm {realm}: not a domain name")));
    }
    if is_one_file(&order.users, &order.slips) {
        return Err(Exit::Usage.error("--users and --slips: one file"));
    }
    let expires_at = SystemTime::now() + Duration::from_secs(u64::from(order.hours) * 3600);
    let slips = Target::of(&order.slips)?;
    let entries = Target::of(&order.users)?;
    let mut report = Vouchers {
        changed: false,
        expires_at: timestamp::rfc3339(expires_at),
        users: Vec::new(),
        realm,
    };
    if !order.dry_run {
        let vouchers = vouchers(order.count, &report.realm)?;
        slips.write(&slips_of(&vouchers, &report.realm, expires_at)?)?;
        entries
            .write(&entries_of(&vouchers, expires_at))
            .inspect_err(|_| slips.undo())?;
        report.changed = true;
        report.users = vouchers.into_iter().map(|voucher| voucher.user).collect();
    }
    let mut document = Document::default();
    document.set(SECTION, &report)?;
    Ok(Answer::yes(document).staying(report.changed))
}

/// An account.
struct Voucher {
    user: String,
    password: Zeroizing<String>,
}

fn vouchers(count: u16, realm: &str) -> anyhow::Result<Vec<Voucher>> {
    let made = File::open("/dev/urandom").and_then(|mut random| {
        let mut vouchers: Vec<Voucher> = Vec::new();
        while vouchers.len() < usize::from(count) {
            let user = format!("visitor-{}@{realm}", *letters(&mut random, NAME_LETTERS)?);
            if vouchers.iter().any(|voucher| voucher.user == user) {
                continue;
            }
            let mut password = Zeroizing::new(String::with_capacity(32));
            for group in 0..PASSWORD_GROUPS {
                if group > 0 {
                    password.push('-');
                }
                password.push_str(&letters(&mut random, 4)?);
            }
            vouchers.push(Voucher { user, password });
        }
        Ok(vouchers)
    });
    made.exit(Exit::Io, || "reading /dev/urandom")
}

/// So many letters, each as likely as any other.
fn letters(random: &mut impl Read, count: usize) -> io::Result<Zeroizing<String>> {
    let mut letters = Zeroizing::new(String::with_capacity(count));
    let mut byte = Zeroizing::new([0]);
    while letters.len() < count {
        random.read_exact(&mut *byte)?;
        // The last bytes would make some letters likelier.
        let limit = 256 / LETTERS.len() * LETTERS.len();
        if usize::from(byte[0]) < limit {
            letters.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Ok(letters)
}

/// For FreeRADIUS, users(5). It takes a date with a month's name for one of its own time zone, and a
/// number for seconds since 1970.
///
/// There is no `Simultaneous-Use`: a seat with cable and wireless is two sessions, and where a
/// switch authenticates a session again, the server counts it twice.
fn entries_of(vouchers: &[Voucher], expires_at: SystemTime) -> Zeroizing<String> {
    let seconds = seconds(expires_at);
    let until = timestamp::rfc3339(expires_at);
    let mut text = Zeroizing::new(String::with_capacity(vouchers.len() * ENTRY_BYTES));
    for Voucher { user, password } in vouchers {
        let password = password.as_str();
        // A String takes all.
        let _ = write!(
            text,
            "# until {until}\n{user} Cleartext-Password := \"{password}\", Expiration := \"{seconds}\"\n"
        );
    }
    text
}

/// For visitors, in the time zone of the desk, a page for each where form feeds are known.
fn slips_of(
    vouchers: &[Voucher],
    realm: &str,
    expires_at: SystemTime,
) -> anyhow::Result<Zeroizing<String>> {
    let until = Timestamp::from_second(i64::try_from(seconds(expires_at))?)?
        .to_zoned_datetime(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M %Z")
        .to_string();
    let mut text = Zeroizing::new(String::with_capacity(vouchers.len() * ENTRY_BYTES));
    for Voucher { user, password } in vouchers {
        let password = password.as_str();
        let _ = write!(
            text,
            "Visitor of {realm}\n\n  User name   {user}\n  Password    {password}\n  Good until  {until}\n\n{}\n\n",
            "- ".repeat(30).trim_end()
        );
    }
    Ok(text)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Whether two paths lead to one file, or to one that is not there yet.
fn is_one_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Err(_), Err(_)) => place(one) == place(other),
        _ => false,
    }
}

/// The directory as it really is, and the name in it.
fn place(path: &Path) -> (PathBuf, Option<&OsStr>) {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    (real, path.file_name())
}

/// Where one of the two texts goes.
enum Target<'a> {
    /// A file that is not there yet.
    New(&'a Path),
    /// A pipe, a device, or a descriptor that is open: written to as it is.
    Open(&'a Path, File),
}

impl Target<'_> {
    fn of(path: &Path) -> anyhow::Result<Target<'_>> {
        let about = match fs::metadata(path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Target::new(path),
            Err(error) => return Err(failed(path, error)),
        };
        let kind = about.file_type();
        let is_descriptor = ["/dev/fd", "/proc/self/fd"]
            .iter()
            .any(|directory| path.starts_with(directory));
        if !is_descriptor && !kind.is_fifo() && !kind.is_char_device() {
            return Err(Exit::CantCreate.error(format_args!(
                "writing {}: it is there already; name a new file",
                path.display()
            )));
        }
        let stdout =
            nix::sys::stat::fstat(io::stdout()).exit(Exit::Io, || "looking at standard output")?;
        if !kind.is_char_device() && (about.dev(), about.ino()) == (stdout.st_dev, stdout.st_ino) {
            return Err(Exit::Usage.error(format_args!(
                "{}: standard output is for the document",
                path.display()
            )));
        }
        // Appending: a descriptor that is open in a file is opened anew, at its beginning.
        let open = File::options().append(true).open(path);
        open.map(|file| Target::Open(path, file))
            .map_err(|error| failed(path, error))
    }

    /// A file that can be made: its directory is there.
    fn new(path: &Path) -> anyhow::Result<Target<'_>> {
        match path.parent() {
            Some(directory) if directory != Path::new("") && !directory.is_dir() => {
                Err(Exit::CantCreate.error(format_args!(
                    "writing {}: no directory {}; make it first",
                    path.display(),
                    directory.display()
                )))
            }
            _ => Ok(Target::New(path)),
        }
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        match self {
            Target::New(path) => atomic::write(path, 0o600, |file| file.write_all(text.as_bytes())),
            Target::Open(path, file) => {
                let mut file = file;
                let written = file.write_all(text.as_bytes()).and_then(|()| {
                    if file.metadata()?.is_file() {
                        file.sync_all()?;
                    }
                    Ok(())
                });
                written.map_err(|error| failed(path, error))
            }
        }
    }

    /// Takes a new file away. What went into a pipe is not there to be taken.
    fn undo(&self) {
        if let Target::New(path) = self {
            let _ = fs::remove_file(path); // a failure is reported by the write that failed
        }
    }
}

fn failed(path: &Path, error: io::Error) -> anyhow::Error {
    io_error(
        error,
        Exit::of_write,
        format_args!("writing {}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn letters_are_all_alike_and_none_is_left_out() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let text = letters(&mut every_byte.as_slice(), 8 * LETTERS.len()).unwrap();
        for letter in LETTERS {
            let letter = char::from(*letter);
            assert_eq!(text.chars().filter(|c| *c == letter).count(), 8, "{letter}");
        }
        assert!(letters(&mut every_byte.as_slice(), 8 * LETTERS.len() + 1).is_err());
    }

    #[test]
    fn vouchers_differ_in_name_and_password() {
        let vouchers = vouchers(1000, "uni-a.example").unwrap();
        let different = |texts: Vec<&str>| texts.into_iter().collect::<HashSet<_>>().len();
        assert_eq!(
            different(vouchers.iter().map(|v| v.user.as_str()).collect()),
            1000
        );
        assert_eq!(
            different(vouchers.iter().map(|v| v.password.as_str()).collect()),
            1000
        );
    }
}
