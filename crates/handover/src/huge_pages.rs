//! Huge pages for the guest's memory: reserved before a guest, and given back after it. Pages that
//! the host has reserved itself, before or meanwhile, stay reserved.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonpipe::{Common, Exit, ExitContext};
use serde::{Deserialize, Serialize};

use crate::fragmentation;
use crate::sysfs::{self, Fault};

/// The mount point of the huge pages. Its page size is the guest's.
pub const MOUNT: &str = "/hugepages";

const SIZES: &str = "/sys/kernel/mm/hugepages";
const NUMBER: &str = "nr_hugepages";
const COMPACT: &str = "/proc/sys/vm/compact_memory";
/// The kernel compacts memory and moves other programs' pages meanwhile.
const LIMIT: Duration = Duration::from_secs(60);

/// The huge pages of a guest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HugePages {
    /// The size of a page.
    pub page_bytes: u64,
    /// The pages that the guest needs.
    pub asked: u64,
    /// The pages that were free or could be reserved.
    pub got: u64,
    /// The share of the free memory that was too fragmented for a page of this size, 0 to 1, before
    /// the reservation; absent where the kernel does not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragmentation_before: Option<f64>,
    /// The same after everything was given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragmentation_after: Option<f64>,
}

/// The pages that the guest needs beyond those that are free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reservation {
    page_bytes: u64,
    /// The reserved pages before.
    before: u64,
    /// The reserved pages with the guest's.
    with_guest: u64,
}

/// The need of a guest, compared with what is free.
#[derive(Debug)]
pub(crate) struct Need {
    pub pages: HugePages,
    /// Absent when enough pages are free.
    pub reservation: Option<Reservation>,
}

/// The size in bytes of the pages at [`MOUNT`]. Status 78 when no huge pages are mounted there.
pub(crate) fn page_bytes(common: &Common) -> anyhow::Result<u64> {
    meminfo::huge_page_bytes(common, Path::new(MOUNT)).exit(Exit::Config, || {
        format!(
            "{}: not a mounted hugetlbfs; mount one there, or set hugepages=false in the profile",
            common.path(MOUNT).display()
        )
    })
}

/// The pages for `bytes` of memory, where `reserve` bytes stay the host's. Nothing is changed. More
/// than the machine has is status 78, more than is available now 75.
pub(crate) fn need(
    common: &Common,
    page_bytes: u64,
    bytes: u64,
    reserve: u64,
) -> anyhow::Result<Need> {
    let count = |name| count(common, page_bytes, name);
    let asked = bytes.div_ceil(page_bytes.max(1));
    let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages")?);
    let missing = asked.saturating_sub(free);
    let pages = HugePages {
        page_bytes,
        asked,
        got: asked - missing,
        fragmentation_before: fragmentation::index(common, page_bytes),
        fragmentation_after: None,
    };
    if missing == 0 {
        return Ok(Need {
            pages,
            reservation: None,
        });
    }
    let needed = missing.saturating_mul(page_bytes).saturating_add(reserve);
    for (found, exit, has) in [
        (meminfo::total(common), Exit::Config, "this machine has"),
        (
            meminfo::available(common),
            Exit::TemporaryFailure,
            "available are",
        ),
    ] {
        let found = found
            .map_err(|reason| Exit::Io.error(format_args!("reserving huge pages: {reason}")))?;
        if found < needed {
            return Err(exit.error(format_args!(
                "reserving huge pages: {missing} of {} MiB and {} MiB for the host are needed, and {has} {} MiB; {}",
                page_bytes >> 20,
                reserve >> 20,
                found >> 20,
                match exit {
                    Exit::Config => "give the guest less, in profiles.ini or for this model in models.ini",
                    _ => "end other programs and try again",
                }
            )));
        }
    }
    Ok(Need {
        pages,
        reservation: Some(Reservation {
            page_bytes,
            before: reserved(common, page_bytes)?,
            // The kernel first reserves those that programs have beyond the reserved ones.
            with_guest: count(NUMBER)?.saturating_add(missing),
        }),
    })
}

impl Reservation {
    pub(crate) fn is_valid(&self) -> bool {
        self.page_bytes.is_power_of_two() && self.before <= self.with_guest
    }

    /// Reserves the pages. Where memory is too fragmented, it is compacted once; if that does not
    /// help, status 75.
    pub(crate) fn take(&self, common: &Common) -> anyhow::Result<()> {
        let set = || self.set(common, self.with_guest);
        let compact = || {
            sysfs::write(&common.path(COMPACT), "1", LIMIT)
                .map_err(|fault| failed(&fault, "compacting memory"))
        };
        self.reserve(common, set, compact)
    }

    /// The same with this way to set `nr_hugepages`, which returns what became of it, and to compact
    /// memory.
    fn reserve(
        &self,
        common: &Common,
        mut set: impl FnMut() -> anyhow::Result<u64>,
        compact: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let wanted = self.with_guest;
        let mut got = set()?;
        if got < wanted {
            compact()?;
            got = set()?;
        }
        if got >= wanted {
            return Ok(());
        }
        let index = fragmentation::index(common, self.page_bytes);
        Err(Exit::TemporaryFailure.error(format_args!(
            "reserving huge pages: the kernel found {} of {} of {} MiB, after compacting memory{}; memory is fragmented: restart the machine, or reserve them when it starts, with vm.nr_hugepages",
            got.saturating_sub(self.before),
            wanted - self.before,
            self.page_bytes >> 20,
            index.map_or_else(String::new, |index| format!(" (fragmentation {index:.3})")),
        )))
    }

    /// Gives the pages back, but neither those that the host had before nor those that a program has
    /// reserved since.
    pub(crate) fn give_back(&self, common: &Common) -> anyhow::Result<()> {
        let now = reserved(common, self.page_bytes)?;
        let wanted = now.saturating_sub(self.added()).max(self.before);
        if now <= wanted {
            return Ok(());
        }
        let found = self.set(common, wanted)?;
        if found <= wanted {
            return Ok(());
        }
        Err(Exit::Io.error(format_args!(
            "giving huge pages back: {found} are reserved instead of {wanted}"
        )))
    }

    /// This reservation, which was not given back, and a `later` one. Its pages stay reserved if a
    /// hugetlbfs of another page size was mounted since.
    pub(crate) fn and(self, later: &Reservation) -> Reservation {
        if self.page_bytes != later.page_bytes {
            return later.clone();
        }
        Reservation {
            with_guest: self.with_guest.saturating_add(later.added()),
            ..self
        }
    }

    fn added(&self) -> u64 {
        self.with_guest - self.before
    }

    pub(crate) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Sets the reserved pages, and returns what the kernel made of it.
    fn set(&self, common: &Common, number: u64) -> anyhow::Result<u64> {
        let path = directory(common, self.page_bytes).join(NUMBER);
        sysfs::write(&path, &number.to_string(), LIMIT)
            .map_err(|fault| failed(&fault, format_args!("writing {}", path.display())))?;
        reserved(common, self.page_bytes)
    }
}

/// The reserved pages. `nr_hugepages` also counts those that are the kernel's again as soon as their
/// programs end; but a write to it sets the reserved ones.
fn reserved(common: &Common, page_bytes: u64) -> anyhow::Result<u64> {
    let surplus = count(common, page_bytes, "surplus_hugepages")?;
    Ok(count(common, page_bytes, NUMBER)?.saturating_sub(surplus))
}

fn count(common: &Common, page_bytes: u64, name: &str) -> anyhow::Result<u64> {
    let path = directory(common, page_bytes).join(name);
    let text = jsonpipe::read_text(&path)?;
    let parsed = text.trim().parse();
    parsed.exit(Exit::Io, || format!("reading {}", path.display()))
}

fn directory(common: &Common, page_bytes: u64) -> PathBuf {
    common
        .path(SIZES)
        .join(format!("hugepages-{}kB", page_bytes >> 10))
}

fn failed(fault: &Fault, object: impl std::fmt::Display) -> anyhow::Error {
    let exit = match fault {
        Fault::Hangs => Exit::TemporaryFailure,
        Fault::Refused(error) => Exit::of_change(error),
    };
    exit.error(format_args!("{object}: {fault}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GUEST: Reservation = Reservation {
        page_bytes: 2 << 20,
        before: 10,
        with_guest: 40,
    };

    /// A reservation, and how often memory was compacted. The kernel is a fake, whose memory is
    /// fragmented: it makes of `nr_hugepages` the next of `answers`.
    fn reserve(answers: &[u64]) -> (anyhow::Result<()>, u32) {
        let root = tempfile::tempdir().unwrap();
        let common = jsonpipe::testkit::common(root.path());
        fs::create_dir(root.path().join("proc")).unwrap();
        let half = "Node 0, zone Normal 1024 0 0 0 0 0 0 0 0 0 1\n";
        fs::write(root.path().join("proc/buddyinfo"), half).unwrap();
        let mut left = answers.iter();
        let mut compacted = 0;
        let result = GUEST.reserve(
            &common,
            || Ok(*left.next().expect("no more attempts")),
            || {
                compacted += 1;
                Ok(())
            },
        );
        assert_eq!(left.next(), None, "fewer attempts");
        (result, compacted)
    }

    #[test]
    fn a_reservation_of_any_size_is_added_to() {
        let most = Reservation {
            with_guest: u64::MAX,
            ..GUEST
        };
        assert_eq!(most.clone().and(&GUEST), most);
        assert_eq!(GUEST.and(&GUEST).with_guest, 70);
    }

    #[test]
    fn memory_that_is_not_fragmented_is_not_compacted() {
        let (result, compacted) = reserve(&[40]);
        result.unwrap();
        assert_eq!(compacted, 0);
    }

    #[test]
    fn fragmented_memory_is_compacted_once() {
        let (result, compacted) = reserve(&[25, 40]);
        result.unwrap();
        assert_eq!(compacted, 1);
    }

    #[test]
    fn memory_that_stays_fragmented_is_75_with_the_numbers() {
        let (result, compacted) = reserve(&[15, 25]);
        let error = result.unwrap_err();
        assert_eq!(Exit::of(&error), Exit::TemporaryFailure);
        let message = error.to_string();
        let start = "reserving huge pages: the kernel found 15 of 30 of 2 MiB, after compacting memory (fragmentation 0.500); memory is fragmented: restart";
        assert!(message.starts_with(start), "{message}");
        assert_eq!(compacted, 1);
    }
}
