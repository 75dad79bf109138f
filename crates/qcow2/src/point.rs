//! The restore point of a volume: the only internal snapshot that an overlay of ours may have.
//!
//! Its record in the snapshot table is one of QEMU's format, in which three values vary. Anything
//! else there is refused. QEMU keeps the record as long as it only writes to the disk.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::format::{Header, table_fits};
use crate::need::need_bytes;

/// The name of the snapshot, and its id.
const NAME: &[u8] = b"yesterday";
const ID: &[u8] = b"1";

/// The extra data that QEMU knows, and the number after it, which is ours.
const EXTRA_BYTES: u32 = 24 + 8;
/// The instruction counter of a snapshot that has none.
const NO_ICOUNT: u64 = u64::MAX;

/// The length of the record.
pub const RECORD_BYTES: usize = 88;

/// A volume that has changed all of its disk each day holds twice its room, and free clusters between
/// others, which QEMU fills in part. Where they add up to more than this, there is no new restore
/// point; and no record can claim more.
const ROOM_MAX_FACTOR: u64 = 4;

/// A restore point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it was taken, in whole seconds.
    pub taken: SystemTime,
    /// The whole room that the volume can come to need as long as it has this restore point.
    pub room_bytes: u64,
    /// Where the L1 table of its content starts.
    pub(crate) l1_offset: u64,
}

impl Point {
    /// The most room that a volume with a restore point may need.
    pub(crate) fn room_max_bytes(virtual_bytes: u64) -> u64 {
        need_bytes(virtual_bytes).saturating_mul(ROOM_MAX_FACTOR)
    }

    /// The bytes that the L1 table of its content takes.
    pub(crate) fn l1(&self, header: &Header) -> Range<u64> {
        self.l1_offset..self.l1_offset + header.l1_entries * 8
    }

    /// The snapshot table of an image with this header. A time before 1970 or after 2106, which the
    /// format does not have, becomes the nearest.
    pub(crate) fn record(&self, header: &Header) -> Vec<u8> {
        let since_1970 = self.taken.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = u32::try_from(since_1970.as_secs()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend(self.l1_offset.to_be_bytes());
        record.extend((header.l1_entries as u32).to_be_bytes());
        record.extend((ID.len() as u16).to_be_bytes());
        record.extend((NAME.len() as u16).to_be_bytes());
        record.extend(seconds.to_be_bytes());
        record.extend([0; 4 + 8 + 4]); // nanoseconds, the guest's clock, no state of a running machine
        record.extend(EXTRA_BYTES.to_be_bytes());
        record.extend(0u64.to_be_bytes()); // no such state here either
        record.extend(header.virtual_bytes.to_be_bytes());
        record.extend(NO_ICOUNT.to_be_bytes());
        record.extend(self.room_bytes.to_be_bytes());
        record.extend(ID);
        record.extend(NAME);
        record.resize(RECORD_BYTES, 0);
        record
    }

    /// Reads what [`record`](Point::record) writes, and nothing else. The error describes the fault.
    pub(crate) fn parse(record: &[u8; RECORD_BYTES], header: &Header) -> Result<Point, String> {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&record[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        let seconds = number(16) >> 32;
        let point = Point {
            taken: UNIX_EPOCH + Duration::from_secs(seconds),
            room_bytes: number(64),
            l1_offset: number(0),
        };
        if point.record(header) != record {
            return Err("holds internal snapshots".into());
        }
        let (l1_bytes, cluster_bytes) = (header.l1_entries * 8, header.cluster_bytes());
        if !table_fits(point.l1_offset, l1_bytes, cluster_bytes, l1_bytes) {
            return Err(format!(
                "its restore point has an L1 table at {:#x}",
                point.l1_offset
            ));
        }
        let others = [header.l1(), header.reftable()];
        let own = point.l1(header);
        if others
            .iter()
            .any(|other| own.start < other.end && other.start < own.end)
        {
            return Err("the tables of its restore point overlap others".into());
        }
        if point.room_bytes > Point::room_max_bytes(header.virtual_bytes) {
            return Err(format!(
                "its restore point claims a room of {} bytes",
                point.room_bytes
            ));
        }
        Ok(point)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::blank_overlay;

    const MIB: u64 = 1 << 20;

    fn header() -> Header {
        Header::parse(&blank_overlay(64 * MIB, "b", b"").pieces[0].1).unwrap()
    }

    fn point() -> Point {
        Point {
            taken: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            room_bytes: 150 * MIB,
            l1_offset: 0x90000,
        }
    }

    fn record() -> [u8; RECORD_BYTES] {
        point().record(&header()).try_into().unwrap()
    }

    #[test]
    fn a_record_is_read_in_one_way_only() {
        assert_eq!(Point::parse(&record(), &header()), Ok(point()));
        for (at, byte, message) in [
            (7, 1, "its restore point has an L1 table at 0x90001"),
            (11, 2, "holds internal snapshots"), // an L1 table of another disk
            (20, 1, "holds internal snapshots"),
            (35, 1, "holds internal snapshots"), // the state of a machine
            (39, 24, "holds internal snapshots"),
            (
                64,
                1,
                "its restore point claims a room of 72057594195214336 bytes",
            ),
            (73, b'Y', "holds internal snapshots"),
            (87, 1, "holds internal snapshots"),
        ] {
            let mut bad = record();
            bad[at] = byte;
            let read = Point::parse(&bad, &header());
            assert_eq!(read, Err(message.to_owned()), "{at}");
        }
        let on_the_reftable = Point {
            l1_offset: 0x10000,
            ..point()
        };
        let bad = on_the_reftable.record(&header()).try_into().unwrap();
        assert_eq!(
            Point::parse(&bad, &header()).unwrap_err(),
            "the tables of its restore point overlap others"
        );
    }

    proptest! {
        #[test]
        fn any_change_is_refused_or_one_of_the_three_values(at in 0..RECORD_BYTES, byte in any::<u8>()) {
            let mut changed = record();
            changed[at] = byte;
            if let Ok(read) = Point::parse(&changed, &header()) {
                prop_assert!((0..8).contains(&at) || (16..20).contains(&at) || (64..72).contains(&at) || changed == record());
                prop_assert_eq!(read.record(&header()), changed);
            }
        }
    }
}
