use super::*;
use jsonpipe::Document;
use proptest::prelude::*;

const GB: u64 = 1_000_000_000;
const SHIPPED: &str = include_str!("../../../../../scripts/host/etc/layout.ini");

fn wanted(ini: &str) -> Wanted {
    let document = Document::parse(ini, crate::layout::document::SECTION).unwrap();
    Wanted::read(&document).unwrap()
}

fn disk(rotating: bool, size_bytes: u64) -> Candidate {
    Candidate {
        size_bytes,
        rotating,
    }
}

const SSD: bool = false;
const HDD: bool = true;

/// The candidate and the partitions, by number, of each disk that is used.
fn chosen(
    wanted: &Wanted,
    firmware: Firmware,
    disks: &[Candidate],
) -> Vec<(usize, Vec<&'static str>)> {
    let chosen = choose(wanted, &Parts::of(wanted, firmware), disks).unwrap();
    let names = |chosen: &Chosen| {
        chosen
            .places
            .iter()
            .map(|place| place.part.name())
            .collect()
    };
    chosen
        .iter()
        .map(|chosen| (chosen.candidate, names(chosen)))
        .collect()
}

#[test]
fn an_ssd_and_an_hdd_are_as_in_figure_24() {
    let wanted = wanted(SHIPPED);
    let disks = [disk(HDD, 1000 * GB), disk(SSD, 240 * GB)];
    let system = vec!["root_a", "root_b", "persistent", "log", "backing"];
    assert_eq!(
        chosen(&wanted, Firmware::Bios, &disks),
        [(1, system), (0, vec!["user"])]
    );
    // Both are full: what is not fixed takes the rest.
    let parts = Parts::of(&wanted, Firmware::Bios);
    for (chosen, size) in choose(&wanted, &parts, &disks)
        .unwrap()
        .iter()
        .zip([240, 1000])
    {
        let last = chosen.places.last().unwrap();
        let left = size * GB - last.start_bytes - last.size_bytes;
        assert!((MIB..2 * MIB).contains(&left), "{left}");
    }
}

#[test]
fn one_disk_has_everything() {
    let wanted = wanted(SHIPPED);
    let parts = ["root_a", "root_b", "persistent", "log", "backing", "user"];
    for rotating in [SSD, HDD] {
        let disks = [disk(rotating, 500 * GB)];
        assert_eq!(
            chosen(&wanted, Firmware::Bios, &disks),
            [(0, parts.to_vec())]
        );
    }
    let placed = place(&wanted, &Parts::of(&wanted, Firmware::Bios).all(), 500 * GB).unwrap();
    assert_eq!(placed[4].size_bytes, placed[5].size_bytes, "an equal share");
}

#[test]
fn by_uefi_the_marks_share_a_sector_with_the_roots() {
    let wanted = wanted(SHIPPED);
    let chosen = chosen(&wanted, Firmware::Uefi, &[disk(SSD, 500 * GB)]);
    assert_eq!(chosen[0].1[..4], ["root_a", "root_b", "esp_a", "esp_b"]);
}

#[test]
fn a_pool_takes_one_disk() {
    let wanted = wanted(&SHIPPED.replace("# store = zfs", "store = zfs"));
    let disks = [disk(HDD, 1000 * GB), disk(SSD, 240 * GB)];
    assert_eq!(
        chosen(&wanted, Firmware::Bios, &disks),
        [(1, vec!["root_a", "root_b", "persistent", "log", "pool"])]
    );
}

/// The names of devices are never known here.
#[test]
fn size_and_rotation_choose_the_disks() {
    let wanted = wanted(SHIPPED);
    for (disks, system, user) in [
        // The smaller SSD that is large enough, and the largest of the others.
        (
            vec![disk(SSD, 500 * GB), disk(SSD, 240 * GB), disk(SSD, 16 * GB)],
            1,
            Some(0),
        ),
        (
            vec![
                disk(SSD, 240 * GB),
                disk(HDD, 500 * GB),
                disk(HDD, 1000 * GB),
            ],
            0,
            Some(2),
        ),
        // An SSD that is too small for the roots is not used at all.
        (vec![disk(SSD, 60 * GB), disk(HDD, 1000 * GB)], 1, None),
        (vec![disk(HDD, 1000 * GB), disk(HDD, 500 * GB)], 1, Some(0)),
        // The first port, where all else is equal.
        (vec![disk(SSD, 240 * GB), disk(SSD, 240 * GB)], 0, Some(1)),
        // A second disk that is too small for users.
        (vec![disk(SSD, 240 * GB), disk(HDD, 32 * GB)], 0, None),
    ] {
        let chosen = chosen(&wanted, Firmware::Bios, &disks);
        assert_eq!(chosen[0].0, system, "{disks:?}");
        assert_eq!(chosen.get(1).map(|(user, _)| *user), user, "{disks:?}");
    }
}

#[test]
fn a_disk_that_is_too_small_lacks_bytes() {
    let wanted = wanted(SHIPPED);
    let parts = Parts::of(&wanted, Firmware::Bios);
    // The sizes of layout.ini, and a MiB for each copy of the table.
    let needed = ((2 * 4 + 8 + 40 + 40) << 30) + (256 << 20) + 2 * MIB;
    let lacks = |sizes: &[u64]| {
        let disks: Vec<_> = sizes.iter().map(|&size| disk(SSD, size)).collect();
        choose(&wanted, &parts, &disks).map(drop)
    };
    assert_eq!(lacks(&[needed]), Ok(()));
    assert_eq!(lacks(&[needed - 1]), Err(vec![1]));
    assert_eq!(lacks(&[needed - 512, 0]), Err(vec![512, needed]));
}

proptest! {
    #[test]
    fn partitions_are_aligned_and_apart(size_bytes in 0u64..1 << 50, is_uefi: bool) {
        let wanted = wanted(SHIPPED);
        let firmware = if is_uefi { Firmware::Uefi } else { Firmware::Bios };
        let parts = Parts::of(&wanted, firmware).all();
        if let Ok(places) = place(&wanted, &parts, size_bytes) {
            let mut free = MIB;
            for place in places {
                prop_assert_eq!(place.start_bytes, free);
                prop_assert!(place.start_bytes.is_multiple_of(MIB) && place.size_bytes.is_multiple_of(MIB));
                prop_assert!(place.size_bytes >= wanted.of(place.part).unwrap().length.min_bytes());
                free += place.size_bytes;
            }
            prop_assert!(free + MIB <= size_bytes);
        }
    }
}
