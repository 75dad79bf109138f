//! The setup password: in a file of root's, and in the kernel only while settings are written.

use std::io;
use std::path::PathBuf;

use jsonpipe::{Exit, ExitContext, Pipe};
use zeroize::Zeroizing;

use crate::firmware::interface::write;
use crate::read::machine::Machine;

/// The file.
pub const FILE: &str = "/persistent/labtools/secrets/firmware";

/// The setup password of the lab's machines.
pub struct Password {
    text: Zeroizing<String>,
    /// That of the kernel's driver.
    directory: String,
}

impl Password {
    /// Reads it, and checks that the firmware can take it. `directory` is that of the kernel.
    /// Status 66 when there is no file, 78 when it is no file of root's alone or no such password.
    pub fn read(machine: &Machine, directory: &str) -> anyhow::Result<Password> {
        let path = machine.path(FILE);
        let wrong =
            |what: &str| Exit::Config.error(format_args!("reading {}: {what}", path.display()));
        let mut password = secret_file::read(&path)?;
        let length = password.trim_end_matches('\n').len();
        password.truncate(length);
        // think-lmi sends it to its firmware in a list that has commas and ends in a semicolon.
        let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b';');
        if password.is_empty() || !password.bytes().all(is_plain) {
            return Err(wrong(
                "expected a line of letters, digits and signs of ASCII, without blanks, commas and semicolons",
            ));
        }
        let bound = |name: &str| machine.number(format!("{directory}/{name}"));
        let length = length as u64;
        if bound("min_password_length").is_some_and(|least| length < least)
            || bound("max_password_length").is_some_and(|most| length > most)
        {
            return Err(wrong("this firmware takes no password of that length"));
        }
        Ok(Password {
            text: password,
            directory: directory.to_owned(),
        })
    }

    /// Sets it, where none is set yet.
    pub fn set(&self, machine: &Machine) -> io::Result<()> {
        let path = machine.path(format!("{}/new_password", self.directory));
        write(&path, self.text.as_bytes())
    }

    /// Hands it to the kernel, which sends it along with each change until this is dropped. Status
    /// 74 when the kernel does not take it.
    pub fn unlock<'a>(&self, machine: &Machine, pipe: &'a Pipe) -> anyhow::Result<Unlocked<'a>> {
        let file = machine.path(format!("{}/current_password", self.directory));
        let unlocked = Unlocked { file, pipe };
        write(&unlocked.file, self.text.as_bytes())
            .exit(Exit::Io, || format!("writing {}", unlocked.file.display()))?;
        Ok(unlocked)
    }
}

/// The time in which the kernel knows the password. Otherwise it would keep it until the machine
/// is switched off, and take any change from then on.
#[derive(Debug)]
pub struct Unlocked<'a> {
    file: PathBuf,
    pipe: &'a Pipe,
}

impl Drop for Unlocked<'_> {
    fn drop(&mut self) {
        // To think-lmi a line feed is a password that is too short; what it takes for none ends at
        // once. The others want the line feed.
        let cleared = write(&self.file, b"\n").or_else(|_| write(&self.file, b"\0"));
        if let Err(error) = cleared {
            self.pipe.warn(format_args!(
                "clearing {}: {error}; the kernel keeps the password until the next boot",
                self.file.display()
            ));
        }
    }
}
