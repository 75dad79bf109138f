//! QEMU's monitor: one JSON object per line, answers and events mixed.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

/// QEMU's longest answers here are a few hundred bytes; a longer line is not from a healthy QEMU.
const LINE_MAX_BYTES: usize = 64 << 10;

/// Our end of the connection.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
    received: Vec<u8>,
}

/// A message of QEMU.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message, before devices exist.
    Greeting,
    /// The answer to a command.
    Done,
    /// The answer to `query-status`: `running`, or another word.
    Status(String),
    /// The refusal of a command.
    Refused(String),
    /// An event.
    Event(Event),
}

/// The relevant events.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// QEMU is about to end, because of the guest or for another `reason`.
    Shutdown { by_guest: bool, reason: String },
    /// The disk could not be read or written. If there is no space left for it (QEMU's `enospc`),
    /// the guest stands still; any other error was passed to the guest, like one of a broken disk.
    DiskFailed { stopped: bool },
    /// The guest stands still; `query-status` gives the reason.
    Stopped,
    /// The guest went to sleep (ACPI S3).
    Asleep,
    /// It is awake again.
    Awake,
    /// The guest saved its memory to its disk and switches off (ACPI S4).
    Hibernates,
    /// The guest's system reported a crash.
    Crashed,
    /// Any other.
    Other,
}

impl Monitor {
    /// Both ends: ours, and the one for QEMU.
    pub fn pair() -> io::Result<(Monitor, UnixStream)> {
        let (stream, theirs) = UnixStream::pair()?;
        Ok((
            Monitor {
                stream,
                received: Vec::new(),
            },
            theirs,
        ))
    }

    /// Sends a command. A missing reader is noticed when reading.
    pub fn send(&mut self, command: &str) -> io::Result<()> {
        let line = format!("{}\n", json!({ "execute": command }));
        match self.stream.write_all(line.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Reads the available bytes, or waits for some; false when QEMU is gone.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(count > 0)
            }
            // QEMU ended before it had read all of our data.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next complete message.
    pub fn message(&mut self) -> io::Result<Option<Message>> {
        let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
            return if self.received.len() > LINE_MAX_BYTES {
                Err(no_qmp())
            } else {
                Ok(None)
            };
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        let line: Value = serde_json::from_slice(&line).map_err(|_| no_qmp())?;
        understand(&line).map(Some).ok_or_else(no_qmp)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn understand(line: &Value) -> Option<Message> {
    let text = |value: &Value| {
        value
            .as_str()
            .unwrap_or_default()
            .replace(jsonpipe::is_hidden, "?")
    };
    if line.get("QMP").is_some() {
        Some(Message::Greeting)
    } else if let Some(answer) = line.get("return") {
        Some(if answer["status"].is_string() {
            Message::Status(text(&answer["status"]))
        } else {
            Message::Done
        })
    } else if let Some(error) = line.get("error") {
        Some(Message::Refused(text(&error["desc"])))
    } else {
        let data = &line["data"];
        Some(Message::Event(match line.get("event")?.as_str()? {
            "SHUTDOWN" => Event::Shutdown {
                by_guest: data["guest"] == true,
                reason: text(&data["reason"]),
            },
            "BLOCK_IO_ERROR" => Event::DiskFailed {
                stopped: data["action"] == "stop",
            },
            "STOP" => Event::Stopped,
            "SUSPEND" => Event::Asleep,
            "WAKEUP" => Event::Awake,
            "SUSPEND_DISK" => Event::Hibernates,
            "GUEST_PANICKED" => Event::Crashed,
            _ => Event::Other,
        }))
    }
}

fn no_qmp() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "QEMU's monitor says something that is no QMP",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages in lines that arrive in two parts, split at each place in turn.
    fn messages(text: &str) -> io::Result<Vec<Message>> {
        let mut last = None;
        for split in 0..=text.len() {
            let (mut monitor, mut theirs) = Monitor::pair()?;
            let mut messages = Vec::new();
            for piece in [&text[..split], &text[split..]]
                .into_iter()
                .filter(|piece| !piece.is_empty())
            {
                theirs.write_all(piece.as_bytes())?;
                assert!(monitor.fill()?);
                while let Some(message) = monitor.message()? {
                    messages.push(message);
                }
            }
            assert!(last.is_none_or(|last| last == messages), "split at {split}");
            last = Some(messages);
        }
        Ok(last.unwrap_or_default())
    }

    #[test]
    fn lines_are_understood_however_they_arrive() {
        // The messages of QEMU 7.2 and 10.0.
        let shutdown = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
        let text = format!(
            "{{\"QMP\": {{}}}}\r\n{{\"return\": {{}}}}\r\n{{\"event\": \"RESUME\"}}\r\n{shutdown}\r\n{{\"error\": {{\"desc\": \"a\\nb\"}}}}\r\n"
        );
        let expected = [
            Message::Greeting,
            Message::Done,
            Message::Event(Event::Other),
            Message::Event(Event::Shutdown {
                by_guest: true,
                reason: "guest-shutdown".into(),
            }),
            Message::Refused("a?b".into()),
        ];
        assert_eq!(messages(&text).unwrap(), expected);
        for (action, stopped) in [("stop", true), ("report", false)] {
            let failed = format!(
                r#"{{"event": "BLOCK_IO_ERROR", "data": {{"action": "{action}", "operation": "write"}}}}"#
            );
            assert_eq!(
                messages(&format!("{failed}\n")).unwrap(),
                [Message::Event(Event::DiskFailed { stopped })]
            );
        }
        let status = r#"{"return": {"status": "io-error", "running": false}}"#;
        assert_eq!(
            messages(&format!("{status}\n")).unwrap(),
            [Message::Status("io-error".into())]
        );
    }

    #[test]
    fn other_text_than_qmp_is_an_error() {
        for text in ["\n", "x\n", "{}\n", "[]\n", "{\"event\":1}\n"] {
            assert!(messages(text).is_err(), "{text:?}");
        }
        let (mut monitor, mut theirs) = Monitor::pair().unwrap();
        theirs
            .write_all(&vec![b' '; LINE_MAX_BYTES + 4096])
            .unwrap();
        let endless = std::iter::repeat_with(|| monitor.fill().and_then(|_| monitor.message()))
            .find_map(Result::err);
        assert_eq!(endless.unwrap().kind(), io::ErrorKind::InvalidData);
    }
}
