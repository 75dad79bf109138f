//! What a program writes to an image, in order.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::replay::{Event, Log};

/// Runs a command under strace, with `input` on its standard input: the log of what it did to
/// `image`, and whether it succeeded.
pub fn record(command: &Command, input: &str, image: &Path) -> (Log, bool) {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let calls = "trace=open,openat,close,lseek,read,write,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync,syncfs,sync_file_range,\
                 fallocate,ftruncate,mmap,dup,dup2,dup3,fcntl";
    let mut traced = Command::new("strace");
    traced
        .args([
            "-f",
            "-qq",
            "-xx",
            "-s",
            "4194304",
            "-e",
            "signal=none",
            "-e",
            calls,
            "-o",
        ])
        .arg(trace.path());
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        value.map(|value| traced.env(name, value));
    }
    let mut child = traced
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is needed by this test");
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // who wants none reads none
    let output = child.wait_with_output().unwrap();
    let text = fs::read_to_string(trace.path()).unwrap();
    let log = parse(&text, image.to_str().unwrap());
    assert!(
        !log.events.is_empty(),
        "{command:?} wrote nothing to {}: {output:?}",
        image.display()
    );
    (log, output.status.success())
}

/// An image by which gptman's own calls are recorded, without a process.
#[derive(Debug)]
pub struct Recording {
    pub image: io::Cursor<Vec<u8>>,
    pub log: Log,
}

impl Recording {
    pub fn new(base: &[u8]) -> Recording {
        Recording {
            image: io::Cursor::new(base.to_vec()),
            log: Log::default(),
        }
    }
}

impl Read for Recording {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.image.read(buffer)
    }
}

impl Seek for Recording {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.image.seek(to)
    }
}

impl Write for Recording {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.events.push(Event::Write {
            offset: self.image.position(),
            bytes: bytes.to_vec(),
            durable: false,
        });
        self.image.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What strace says, by the descriptors that are open on the image. `-xx`: every string is `\xNN`.
fn parse(text: &str, image: &str) -> Log {
    let quoted: String = image.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    let mut positions: HashMap<u64, Open> = HashMap::new();
    let mut log = Log::default();
    // What a process began while another one was heard.
    let mut begun: HashMap<&str, &str> = HashMap::new();
    for line in text.lines() {
        // With -f a line begins with the process.
        let Some((process, call)) = line.split_once(' ') else {
            continue;
        };
        let mut call = call.trim_start().to_owned();
        if let Some(beginning) = line.strip_suffix("<unfinished ...>") {
            begun.insert(
                process,
                beginning
                    .split_once(' ')
                    .map_or("", |(_, call)| call.trim_start()),
            );
            continue;
        }
        if let Some((_, end)) = call
            .split_once(" resumed>")
            .filter(|_| call.starts_with("<... "))
        {
            call = begun.remove(process).unwrap_or_default().to_owned() + end;
        }
        let Some((name, rest)) = call.split_once('(') else {
            continue;
        };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            continue;
        };
        let arguments = arguments.trim_end().trim_end_matches(')');
        let result: i64 = result
            .split(' ')
            .next()
            .and_then(|result| result.parse().ok())
            .unwrap_or(0);
        if result < 0 {
            continue;
        }
        if name == "sync" {
            log.events.push(Event::Flush);
            continue;
        }
        if name.starts_with("open") {
            if arguments.contains(&quoted) {
                let durable = arguments.contains("O_SYNC") || arguments.contains("O_DSYNC");
                positions.insert(
                    result as u64,
                    Open {
                        position: 0,
                        durable,
                    },
                );
            }
            continue;
        }
        let descriptor = arguments
            .split(',')
            .next()
            .and_then(|first| first.trim().parse::<u64>().ok());
        let Some((descriptor, open)) =
            descriptor.and_then(|number| Some((number, positions.get_mut(&number)?)))
        else {
            continue;
        };
        match name {
            "close" => {
                positions.remove(&descriptor);
            }
            "lseek" => open.position = result as u64,
            "read" => open.position += result as u64,
            "write" => {
                let bytes = string(arguments)[..result as usize].to_vec();
                log.events.push(Event::Write {
                    offset: open.position,
                    bytes,
                    durable: open.durable,
                });
                open.position += result as u64;
            }
            "pwrite64" | "pwritev" | "pwritev2" => {
                let bytes = string(arguments)[..result as usize].to_vec();
                let after = arguments
                    .rsplit_once(if name == "pwrite64" { '"' } else { ']' })
                    .unwrap()
                    .1;
                let numbers: Vec<&str> = after
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .collect();
                // pwrite64(…, length, offset), pwritev(…, pieces, offset), pwritev2(…, pieces,
                // offset, flags)
                let offset = numbers[1].parse().unwrap();
                let durable =
                    open.durable || after.contains("RWF_DSYNC") || after.contains("RWF_SYNC");
                log.events.push(Event::Write {
                    offset,
                    bytes,
                    durable,
                });
            }
            "fsync" | "fdatasync" | "syncfs" | "sync_file_range" => log.events.push(Event::Flush),
            "mmap" | "fallocate" | "dup" | "dup2" | "dup3" | "fcntl"
                if changes_in_another_way(name, arguments) =>
            {
                panic!("this recorder does not know what {call} does to the image");
            }
            _ => {}
        }
    }
    log
}

/// A descriptor of the image.
struct Open {
    position: u64,
    durable: bool,
}

fn changes_in_another_way(name: &str, arguments: &str) -> bool {
    match name {
        "mmap" => arguments.contains("MAP_SHARED") && arguments.contains("PROT_WRITE"),
        "fcntl" => arguments.contains("F_DUPFD"),
        _ => true,
    }
}

/// The bytes of all strings of a call.
fn string(arguments: &str) -> Vec<u8> {
    assert!(!arguments.contains("\"..."), "strace cut a string off");
    let quoted = arguments.split('"').skip(1).step_by(2);
    let bytes = |text: &str| -> Vec<u8> {
        text.split("\\x")
            .skip(1)
            .map(|hex| u8::from_str_radix(hex, 16).unwrap())
            .collect()
    };
    quoted.flat_map(bytes).collect()
}
