//! The terminal of this process, byte by byte and without echo.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use anyhow::Context;
use jsonpipe::{Exit, ExitContext};
use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use crate::keys::{Edit, Key, Keys, Line};

/// The terminal that controls this process.
const PATH: &str = "/dev/tty";

/// Clears the screen, also what scrolled out of it.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// A terminal whose keys send no signals. It is as before when this is dropped.
pub struct Terminal {
    file: File,
    before: Termios,
    keys: Keys,
    read: Zeroizing<Vec<u8>>,
}

impl Terminal {
    /// Takes the terminal over; what was typed before is dropped. Status 66 without a terminal.
    pub fn open() -> anyhow::Result<Terminal> {
        let file = File::options().read(true).write(true).open(PATH);
        let file = file.exit(Exit::NoInput, || {
            format!("opening {PATH}: this process needs a terminal")
        })?;
        let before =
            tcgetattr(&file).exit(Exit::Io, || format!("reading the settings of {PATH}"))?;
        let mut settings = before.clone();
        settings.local_flags &= !(LocalFlags::ICANON
            | LocalFlags::ECHO
            | LocalFlags::ECHONL
            | LocalFlags::ISIG
            | LocalFlags::IEXTEN);
        // A Ctrl-S would stop the screen for good.
        settings.input_flags &= !(InputFlags::IXON | InputFlags::ISTRIP | InputFlags::PARMRK);
        settings.input_flags |= InputFlags::IGNBRK;
        settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&file, SetArg::TCSAFLUSH, &settings)
            .exit(Exit::Io, || format!("changing the settings of {PATH}"))?;
        Ok(Terminal {
            file,
            before,
            keys: Keys::default(),
            read: Zeroizing::default(),
        })
    }

    /// Writes a text.
    pub fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.file
            .write_all(text.as_bytes())
            .with_context(|| format!("writing to {PATH}"))
    }

    /// Clears the screen.
    pub fn clear(&mut self) -> anyhow::Result<()> {
        self.say(CLEAR)
    }

    /// Reads a line, and shows what is typed if it `is_shown`. `None` when the user begins anew.
    pub fn line(&mut self, is_shown: bool) -> anyhow::Result<Option<Line>> {
        let mut line = Line::default();
        loop {
            let edit = line.take(self.key()?);
            match edit {
                Edit::Added(c) if is_shown => self.say(c.encode_utf8(&mut [0; 4]))?,
                Edit::Removed(count) if is_shown => self.say(&"\x08 \x08".repeat(count))?,
                Edit::Done => {
                    self.say("\n")?;
                    return Ok(Some(line));
                }
                Edit::Again => return Ok(None),
                Edit::None | Edit::Added(_) | Edit::Removed(_) => {}
            }
        }
    }

    fn key(&mut self) -> anyhow::Result<Key> {
        loop {
            while let Some(byte) = self.read.pop() {
                if let Some(key) = self.keys.take(byte) {
                    return Ok(key);
                }
            }
            self.read_more()?;
        }
    }

    /// Waits for bytes; the first is then the last of `read`.
    fn read_more(&mut self) -> anyhow::Result<()> {
        let mut buffer = Zeroizing::new([0; 4096]);
        loop {
            match self.file.read(&mut *buffer) {
                Ok(0) => return Err(Exit::Io.error(format_args!("reading {PATH}: it hung up"))),
                Ok(length) => {
                    self.read.extend(buffer[..length].iter().rev());
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| format!("reading {PATH}")),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.file, SetArg::TCSAFLUSH, &self.before); // it has hung up
    }
}
