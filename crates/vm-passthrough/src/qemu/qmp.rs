//! QEMU's monitor: one JSON object per line, answers and events mixed.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::virtualizer::{Control, Event, Message, Order, Shutdown, Status};

/// QEMU's longest answers here are a few hundred bytes; a longer line is not from a healthy QEMU.
const LINE_MAX_BYTES: usize = 64 << 10;

/// The limit of an order. The socket holds hundreds of them, so that a healthy QEMU makes none wait.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// Our end of the connection.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Monitor {
    pub fn new(stream: UnixStream) -> Monitor {
        Monitor {
            stream,
            received: Vec::new(),
        }
    }
}

impl Control for Monitor {
    fn send(&mut self, order: Order) -> io::Result<()> {
        let line = format!("{}\n", json!({ "execute": command(order) }));
        self.stream.set_write_timeout(Some(SEND_LIMIT))?;
        match self.stream.write_all(line.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            // A guest that has taken QEMU over must not keep us, and with us its devices.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "QEMU takes no more orders",
            )),
            written => written,
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
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

    fn message(&mut self) -> io::Result<Option<Message>> {
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

fn command(order: Order) -> &'static str {
    match order {
        Order::Greet => "qmp_capabilities",
        Order::Status => "query-status",
        Order::Run => "cont",
        Order::Wake => "system_wakeup",
        Order::PressPowerButton => "system_powerdown",
        Order::Quit => "quit",
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
            Message::Status(match text(&answer["status"]).as_str() {
                "io-error" => Status::NoRoom,
                "running" | "suspended" | "shutdown" => Status::Well,
                word => Status::Broken(word.to_owned()),
            })
        } else {
            Message::Done
        })
    } else if let Some(error) = line.get("error") {
        Some(Message::Refused(text(&error["desc"])))
    } else {
        let data = &line["data"];
        Some(Message::Event(match line.get("event")?.as_str()? {
            "SHUTDOWN" => Event::Shutdown(Shutdown {
                well: data["guest"] == true && data["reason"] != "guest-panic",
                by_guest: data["guest"] == true,
                reason: text(&data["reason"]),
            }),
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

    fn pair() -> io::Result<(Monitor, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Monitor::new(ours), theirs))
    }

    /// The messages in lines that arrive in two parts, split at each place in turn.
    fn messages(text: &str) -> io::Result<Vec<Message>> {
        let mut last = None;
        for split in 0..=text.len() {
            let (mut monitor, mut theirs) = pair()?;
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
            Message::Event(Event::Shutdown(Shutdown {
                well: true,
                by_guest: true,
                reason: "guest-shutdown".into(),
            })),
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
            [Message::Status(Status::NoRoom)]
        );
        let broken = r#"{"return": {"status": "internal-error", "running": false}}"#;
        assert_eq!(
            messages(&format!("{broken}\n")).unwrap(),
            [Message::Status(Status::Broken("internal-error".into()))]
        );
    }

    #[test]
    fn other_text_than_qmp_is_an_error() {
        for text in ["\n", "x\n", "{}\n", "[]\n", "{\"event\":1}\n"] {
            assert!(messages(text).is_err(), "{text:?}");
        }
        let (mut monitor, mut theirs) = pair().unwrap();
        theirs
            .write_all(&vec![b' '; LINE_MAX_BYTES + 4096])
            .unwrap();
        let endless = std::iter::repeat_with(|| monitor.fill().and_then(|_| monitor.message()))
            .find_map(Result::err);
        assert_eq!(endless.unwrap().kind(), io::ErrorKind::InvalidData);
    }
}
