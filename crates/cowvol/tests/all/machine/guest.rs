//! A program of QEMU that writes to a volume, as the QEMU of a guest does.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// qemu-io with an open image. It is killed when it is dropped.
pub struct Guest(Child);

const PROMPT: &[u8] = b"qemu-io> ";

impl Guest {
    /// Opens an image, in the cache mode of a guest's disk.
    pub fn open(image: &Path) -> Guest {
        let qemu = Command::new("qemu-io")
            .args(["-f", "qcow2", "-t", "writeback"])
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io, from qemu-utils, is needed by this test");
        let mut guest = Guest(qemu);
        assert_eq!(guest.answer(), "", "{}", image.display());
        guest
    }

    /// Does commands that print nothing when they succeed; returns when they are done.
    pub fn does(&mut self, commands: &[&str]) {
        for command in commands {
            // One at a time: of several lines it would do the first, and wait for more.
            writeln!(self.0.stdin.as_mut().unwrap(), "{command}").unwrap();
            assert_eq!(self.answer(), "", "{command}");
        }
    }

    /// What it prints until it asks for a command.
    fn answer(&mut self) -> String {
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(PROMPT) {
            self.0
                .stdout
                .as_mut()
                .unwrap()
                .read_exact(&mut byte)
                .expect("qemu-io goes on");
            answer.push(byte[0]);
        }
        answer.truncate(answer.len() - PROMPT.len());
        String::from_utf8(answer).unwrap()
    }

    /// Ends it, as a guest that shuts down.
    pub fn shuts_down(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have shut down
        let _ = self.0.wait();
    }
}
