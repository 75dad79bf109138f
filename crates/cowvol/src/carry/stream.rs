//! The stream that carries a volume; cowvol-stream(5) describes it for other programs. Numbers are
//! big-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 16 | `labtools volume` and a newline |
//! | 4 | the version of the format, 1 |
//! | 4 | the length of the header, at most 4096 |
//! | that many | the header: [`Header`] as JSON |
//! | 20 each | records: a kind of four letters, an offset of the disk and a length, of 8 bytes each |
//! | 32 | the SHA-256 of all before it |
//!
//! After a record of the kind `data` come that many bytes, at most 1 MiB; a `zero` is a part of the
//! disk that reads as zeros. Each begins at a multiple of 64 KiB and where the one before ended, or
//! later, and ends at a multiple of 64 KiB or with the disk. The record `done`, with two zeros, is
//! the last one; nothing follows the digest. So a stream that was cut is never taken for a whole one.

use std::io::{self, Read, Write};
use std::path::Path;

use jsonpipe::{Exit, io_error, sabotaged};
use manifest::is_name;
use qcow2::CLUSTER_BYTES;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Origin, Part, Visit};
use crate::token::Token;

const MAGIC: &[u8; 16] = b"labtools volume\n";
const VERSION: u32 = 1;
const HEADER_MAX_BYTES: u32 = 4096;
const DATA_MAX_BYTES: u64 = 1 << 20;
const RECORD_BYTES: usize = 20;

const DATA: [u8; 4] = *b"data";
const ZERO: [u8; 4] = *b"zero";
const DONE: [u8; 4] = *b"done";

/// What a stream says about itself. All of it is compared with the machine, and none of it is used as
/// a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Header {
    /// The version of this record, 1.
    pub schema: u64,
    /// The token of the volume's user.
    pub token: String,
    /// Its base.
    pub base: Origin,
}

impl Header {
    /// Of a user's volume on a base.
    pub fn new(token: &Token, base: Origin) -> Header {
        Header {
            schema: 1,
            token: token.to_string(),
            base,
        }
    }
}

/// The amount of what a stream carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The bytes of data.
    pub data_bytes: u64,
    /// The bytes of the disk that read as zeros.
    pub zero_bytes: u64,
    /// The length of the stream.
    pub stream_bytes: u64,
    /// The digest at its end.
    pub sha256: [u8; 32],
}

/// Why a stream is refused.
enum Fault {
    Io(io::Error),
    Content(String),
}

impl Fault {
    fn of(self, path: &Path) -> anyhow::Error {
        let reading = format!("reading {}", path.display());
        match self {
            Fault::Io(error) => io_error(error, Exit::of_read, reading),
            Fault::Content(message) => Exit::Data.error(format_args!("{reading}: {message}")),
        }
    }
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Content(message.into()))
}

/// Writes a stream.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    hash: Sha256,
    carried: Carried,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn new(to: W, header: &Header) -> io::Result<Writer<W>> {
        let mut writer = Writer {
            to,
            hash: Sha256::new(),
            carried: Carried::default(),
        };
        let header = serde_json::to_vec(header)?;
        writer.write(MAGIC)?;
        writer.write(&VERSION.to_be_bytes())?;
        writer.write(&(header.len() as u32).to_be_bytes())?;
        writer.write(&header)?;
        Ok(writer)
    }

    /// Adds a part of the disk.
    pub fn put(&mut self, offset: u64, content: Part<'_>) -> io::Result<()> {
        match content {
            Part::Zeros(bytes) => {
                self.carried.zero_bytes += bytes;
                self.record(ZERO, offset, bytes)
            }
            Part::Data(bytes) => {
                self.carried.data_bytes += bytes.len() as u64;
                let pieces = bytes.chunks(DATA_MAX_BYTES as usize);
                for (nth, piece) in pieces.enumerate() {
                    let offset = offset + nth as u64 * DATA_MAX_BYTES;
                    self.record(DATA, offset, piece.len() as u64)?;
                    self.write(piece)?;
                }
                Ok(())
            }
        }
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<Carried> {
        self.record(DONE, 0, 0)?;
        let sha256: [u8; 32] = self.hash.clone().finalize().into();
        self.write(&sha256)?;
        self.to.flush()?;
        Ok(Carried {
            sha256,
            ..self.carried
        })
    }

    fn record(&mut self, kind: [u8; 4], offset: u64, bytes: u64) -> io::Result<()> {
        let (offset, bytes) = (offset.to_be_bytes(), bytes.to_be_bytes());
        self.write(&[&kind[..], &offset, &bytes].concat())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.carried.stream_bytes += bytes.len() as u64;
        self.to.write_all(bytes)
    }
}

/// Reads a stream, and believes nothing of it. Status 65 when it is not whole or not what it should
/// be, 74 when reading fails.
#[derive(Debug)]
pub struct Reader<'a, R> {
    from: R,
    /// Its name in errors.
    path: &'a Path,
    hash: Sha256,
    carried: Carried,
    disk_bytes: u64,
    /// The end of the part before, on the disk.
    done: u64,
    buffer: Vec<u8>,
}

impl<'a, R: Read> Reader<'a, R> {
    /// Reads the beginning.
    pub fn new(from: R, path: &'a Path) -> anyhow::Result<(Header, Reader<'a, R>)> {
        let mut reader = Reader {
            from,
            path,
            hash: Sha256::new(),
            carried: Carried::default(),
            disk_bytes: 0,
            done: 0,
            buffer: Vec::new(),
        };
        let header = reader.header().map_err(|fault| fault.of(path))?;
        reader.disk_bytes = header.base.virtual_bytes;
        Ok((header, reader))
    }

    /// Gives all parts of the disk to `visit`. Only a whole stream whose digest is right is not an
    /// error.
    pub fn for_each(mut self, visit: &mut Visit<'_>) -> anyhow::Result<Carried> {
        while let Some(part) = self.part().map_err(|fault| fault.of(self.path))? {
            let content = match part.is_data {
                true => Part::Data(&self.buffer),
                false => Part::Zeros(part.bytes),
            };
            visit(part.offset, content)?;
        }
        self.end().map_err(|fault| fault.of(self.path))
    }

    fn header(&mut self) -> Result<Header, Fault> {
        if self.array()? != *MAGIC {
            return wrong("it is not a stream of cowvol export");
        }
        let version = u32::from_be_bytes(self.array()?);
        if version != VERSION {
            return wrong(format!(
                "its version is {version}; this release knows {VERSION}"
            ));
        }
        let length = u32::from_be_bytes(self.array()?);
        if length > HEADER_MAX_BYTES {
            return wrong(format!("a header of {length} bytes"));
        }
        let mut header = vec![0; length as usize];
        self.read(&mut header)?;
        parse(&header)
    }

    /// The next part, its data in the buffer; `None` at the end.
    fn part(&mut self) -> Result<Option<Record>, Fault> {
        let record: [u8; RECORD_BYTES] = self.array()?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&record[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        let (offset, bytes) = (number(4), number(12));
        let is_data = record[..4] == DATA;
        if record[..4] == DONE && (offset, bytes) == (0, 0) {
            return Ok(None);
        }
        if !is_data && record[..4] != ZERO {
            return wrong("an unknown record");
        }
        let end = offset.checked_add(bytes);
        let Some(end) = end.filter(|end| *end <= self.disk_bytes) else {
            return wrong(format!(
                "{bytes} bytes at {offset}, beyond the disk of {}",
                self.disk_bytes
            ));
        };
        let is_whole = offset.is_multiple_of(CLUSTER_BYTES)
            && (end.is_multiple_of(CLUSTER_BYTES) || end == self.disk_bytes);
        if bytes == 0 || (is_data && bytes > DATA_MAX_BYTES) || !is_whole {
            return wrong(format!("{bytes} bytes at {offset}"));
        }
        if offset < self.done {
            return wrong(format!(
                "{bytes} bytes at {offset}, before the end of those before them, {}",
                self.done
            ));
        }
        self.done = end;
        if is_data {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(bytes as usize, 0);
            self.read(&mut buffer)?;
            self.buffer = buffer;
            self.carried.data_bytes += bytes;
        } else {
            self.carried.zero_bytes += bytes;
        }
        Ok(Some(Record {
            offset,
            bytes,
            is_data,
        }))
    }

    fn end(&mut self) -> Result<Carried, Fault> {
        let expected: [u8; 32] = self.hash.clone().finalize().into();
        if self.array()? != expected && !sabotaged("believe-stream") {
            return wrong("its SHA-256 is not that of its content; it was damaged on its way");
        }
        // One more read finds the end; a FIFO's writer has to close it.
        loop {
            match self.from.read(&mut [0]) {
                Ok(0) => break,
                Ok(_) => return wrong("it goes on after its end"),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
        Ok(Carried {
            sha256: expected,
            ..self.carried
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        self.read(&mut array)?;
        Ok(array)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.from
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Fault::Content(format!(
                    "it was cut off after {} bytes or later",
                    self.carried.stream_bytes
                )),
                _ => Fault::Io(error),
            })?;
        self.hash.update(&*bytes);
        self.carried.stream_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// A part of the disk in a stream.
struct Record {
    offset: u64,
    bytes: u64,
    is_data: bool,
}

fn parse(header: &[u8]) -> Result<Header, Fault> {
    #[derive(Deserialize)]
    struct Version {
        schema: u64,
    }
    let unreadable = |_| Fault::Content("its header cannot be read".into());
    let Version { schema } = serde_json::from_slice(header).map_err(unreadable)?;
    if schema != 1 {
        return wrong("its header is not one that this release knows");
    }
    let header: Header = serde_json::from_slice(header).map_err(unreadable)?;
    // Both are printed, once they are what they should be.
    if Token::parse(&header.token).is_none() || !is_name(&header.base.name) {
        return wrong("its header has no name of a user or a base");
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const DISK: u64 = 3 * MIB + 512;

    fn header() -> Header {
        Header::new(
            &Token::of("alice@uni-a.example"),
            Origin {
                name: "windows".into(),
                generation: 7,
                virtual_bytes: DISK,
                file_bytes: 1 << 20,
                tables_sha256: "aa".into(),
                sha256: None,
            },
        )
    }

    /// Parts of a disk: offset, and data or zeros.
    type Parts = Vec<(u64, Result<Vec<u8>, u64>)>;

    fn written(parts: &Parts) -> (Vec<u8>, Carried) {
        let mut stream = Vec::new();
        let mut writer = Writer::new(&mut stream, &header()).unwrap();
        for (offset, content) in parts {
            let content = match content {
                Ok(bytes) => Part::Data(bytes),
                Err(bytes) => Part::Zeros(*bytes),
            };
            writer.put(*offset, content).unwrap();
        }
        let carried = writer.finish().unwrap();
        (stream, carried)
    }

    fn read(stream: &[u8]) -> Result<(Parts, Carried), String> {
        let mut parts = Vec::new();
        let (found, reader) =
            Reader::new(stream, Path::new("x")).map_err(|error| format!("{error:#}"))?;
        assert_eq!(found, header());
        let carried = reader.for_each(&mut |offset, content| {
            parts.push((
                offset,
                match content {
                    Part::Data(bytes) => Ok(bytes.to_vec()),
                    Part::Zeros(bytes) => Err(bytes),
                },
            ));
            Ok(())
        });
        match carried {
            Ok(carried) => Ok((parts, carried)),
            Err(error) => {
                let exit = Exit::of(&error);
                assert_eq!(exit, Exit::Data, "{error:#}");
                Err(format!("{error:#}"))
            }
        }
    }

    fn some_parts() -> Parts {
        vec![
            (0, Ok(vec![7; 1 << 16])),
            (1 << 17, Err(1 << 16)),
            (3 * MIB, Ok(vec![9; 512])),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let (stream, carried) = written(&some_parts());
        assert_eq!(read(&stream), Ok((some_parts(), carried)));
        assert_eq!(carried.stream_bytes, stream.len() as u64);
        assert_eq!(
            (carried.data_bytes, carried.zero_bytes),
            ((1 << 16) + 512, 1 << 16)
        );
        assert!(stream.ends_with(&carried.sha256));
        let empty = written(&Vec::new());
        assert_eq!(read(&empty.0), Ok((Vec::new(), empty.1)));
    }

    #[test]
    fn long_data_travels_in_pieces() {
        let data: Vec<u8> = (0..2 * MIB + 512).map(|at| (at / 4096) as u8).collect();
        let (stream, _) = written(&vec![(MIB, Ok(data.clone()))]);
        let (parts, carried) = read(&stream).unwrap();
        let offsets: Vec<u64> = parts.iter().map(|part| part.0).collect();
        assert_eq!(offsets, [MIB, 2 * MIB, 3 * MIB]);
        let again: Vec<u8> = parts.into_iter().flat_map(|part| part.1.unwrap()).collect();
        assert!(again == data && carried.data_bytes == data.len() as u64);
    }

    /// Parts whose stream is short: the end of the disk.
    fn few_parts() -> Parts {
        vec![(1 << 17, Err(1 << 16)), (3 * MIB, Ok(vec![9; 512]))]
    }

    #[test]
    fn a_stream_that_is_cut_or_goes_on_is_refused() {
        let (stream, _) = written(&few_parts());
        for length in 0..stream.len() {
            let error = match read(&stream[..length]) {
                Err(error) => error,
                Ok(_) => panic!("{length} bytes are taken for a whole stream"),
            };
            assert!(error.contains("it was cut off after"), "{length}: {error}");
        }
        let longer = [&stream[..], b"x"].concat();
        assert!(read(&longer).unwrap_err().contains("after its end"));
        assert!(read(&stream.repeat(2)).is_err());
    }

    #[test]
    fn a_bit_that_is_flipped_is_noticed() {
        let (stream, _) = written(&few_parts());
        for byte in 0..stream.len() {
            for bit in 0..8 {
                let mut stream = stream.clone();
                stream[byte] ^= 1 << bit;
                let read = Reader::new(&stream[..], Path::new("x"))
                    .and_then(|(found, reader)| Ok((found, reader.for_each(&mut |_, _| Ok(()))?)));
                assert!(read.is_err(), "bit {bit} of byte {byte}");
            }
        }
    }

    /// A stream whose digest is right, with any records.
    fn sealed(header: &[u8], records: &[u8]) -> Vec<u8> {
        let length = (header.len() as u32).to_be_bytes();
        let mut stream = [&MAGIC[..], &VERSION.to_be_bytes(), &length, header, records].concat();
        let digest = Sha256::digest(&stream);
        stream.extend(digest);
        stream
    }

    fn record(kind: &[u8; 4], offset: u64, bytes: u64) -> Vec<u8> {
        [&kind[..], &offset.to_be_bytes(), &bytes.to_be_bytes()].concat()
    }

    #[test]
    fn records_that_no_export_writes_are_refused() {
        let header = serde_json::to_vec(&header()).unwrap();
        let done = record(b"done", 0, 0);
        let zero = |offset, bytes| record(b"zero", offset, bytes);
        assert!(read(&sealed(&header, &done)).is_ok());
        for (records, message) in [
            (zero(0, u64::MAX), "beyond the disk"),
            (zero(u64::MAX, u64::MAX), "beyond the disk"),
            (zero(u64::MAX - 0xffff, 1 << 16), "beyond the disk"),
            (zero(0, DISK + 512), "beyond the disk"),
            (zero(4 * MIB, 1 << 16), "beyond the disk"),
            (zero(0, 0), "0 bytes at 0"),
            (zero(512, 1 << 16), "65536 bytes at 512"),
            (zero(0, 512), "512 bytes at 0"),
            (record(b"data", 0, MIB + (1 << 16)), "1114112 bytes at 0"),
            (record(b"data", 0, u64::MAX), "beyond the disk"),
            (
                [zero(0, 1 << 16), zero(0, 1 << 16)].concat(),
                "before the end of those",
            ),
            (
                [zero(1 << 17, 1 << 16), zero(0, 1 << 16)].concat(),
                "before the end of those",
            ),
            (record(b"DATA", 0, 0), "an unknown record"),
            (record(b"done", 0, 1), "an unknown record"),
            (record(b"done", 1, 0), "an unknown record"),
        ] {
            let stream = sealed(&header, &[records, done.clone()].concat());
            let error = read(&stream).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn headers_that_no_export_writes_are_refused() {
        let good = serde_json::to_string(&header()).unwrap();
        let done = record(b"done", 0, 0);
        let refused = |header: &[u8]| match Reader::new(&sealed(header, &done)[..], Path::new("x"))
        {
            Err(error) => format!("{error:#}"),
            Ok((header, _)) => panic!("{header:?}"),
        };
        for header in [
            String::new(),
            "{}".into(),
            "null".into(),
            format!("{good}x"),
            good.replace("\"generation\":7", "\"generation\":-7"),
            good.replace("\"generation\":7", "\"generation\":7,\"generation\":8"),
        ] {
            assert!(
                refused(header.as_bytes()).contains("cannot be read"),
                "{header}"
            );
        }
        let newer = good.replace("\"schema\":1", "\"schema\":2");
        assert!(refused(newer.as_bytes()).contains("not one that this release knows"));
        for header in [
            good.replace("windows", "../windows"),
            good.replace("windows", ""),
            good.replace(Token::of("alice@uni-a.example").as_str(), "../../etc"),
        ] {
            assert!(refused(header.as_bytes()).contains("no name"), "{header}");
        }
        let long = format!("{good}{}", " ".repeat(5000));
        assert!(refused(long.as_bytes()).contains("a header of"));
        let (mut stream, _) = written(&Vec::new());
        stream[19] = 2;
        let error = Reader::new(&stream[..], Path::new("x")).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "reading x: its version is 2; this release knows 1"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(records in proptest::collection::vec(any::<u8>(), 0..300)) {
            let header = serde_json::to_vec(&header()).unwrap();
            let stream = sealed(&header, &records);
            let (_, reader) = Reader::new(&stream[..], Path::new("x")).unwrap();
            let _ = reader.for_each(&mut |_, _| Ok(()));
            let _ = Reader::new(&records[..], Path::new("x"));
        }

        #[test]
        fn any_parts_come_back(lengths in proptest::collection::vec((0u64..4, 1u64..4, any::<bool>()), 0..12)) {
            let mut at = 0;
            let mut parts = Parts::new();
            for (gap, blocks, is_data) in lengths {
                at += gap << 16;
                if at >= DISK {
                    break;
                }
                let bytes = (blocks << 16).min(DISK - at);
                let data = || (0..bytes).map(|byte| (byte + at) as u8).collect();
                parts.push((at, if is_data { Ok(data()) } else { Err(bytes) }));
                at += bytes;
            }
            let (stream, carried) = written(&parts);
            prop_assert_eq!(read(&stream), Ok((parts, carried)));
        }
    }
}
