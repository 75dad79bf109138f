//! Restore points, as QEMU finds them: what each contains, that all clusters are counted as they are
//! used, and that the disk can be written whole afterwards within the room that is promised.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qcow2::{Content, Follow, Image, Rewrite, blank_overlay, need_bytes};
use tempfile::TempDir;

const DISK_BYTES: u64 = 700 << 20; // two L2 tables

/// A base, and an overlay on it.
struct Volume {
    directory: TempDir,
}

impl Volume {
    fn new() -> Volume {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base.qcow2");
        let size = DISK_BYTES.to_string();
        succeed(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", text(&base), &size],
        );
        qemu_io(&base, &["write -q -P 0xbb 0 20M"]);
        let volume = Volume { directory };
        let layout = blank_overlay(DISK_BYTES, "base.qcow2", b"{}");
        let file = File::create(volume.path()).unwrap();
        for (offset, bytes) in &layout.pieces {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file.set_len(layout.length).unwrap();
        volume
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("volume.qcow2")
    }

    fn image(&self) -> Image {
        Image::open(&self.path(), Follow::Nothing).unwrap()
    }

    /// Makes a change; the room that is promised afterwards.
    fn rewrite(&self, content: Content, point: Option<SystemTime>) -> u64 {
        let image = self.image();
        let rewrite = Rewrite::plan(&image, content, point).unwrap();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(self.path()).unwrap();
        rewrite.run(&file).unwrap();
        self.check();
        let now = self.image();
        assert_eq!(now.point.map(|point| point.taken), point);
        assert!(
            now.point
                .is_none_or(|point| point.room_bytes == rewrite.room_bytes())
        );
        rewrite.room_bytes()
    }

    fn check(&self) {
        succeed("qemu-img", &["check", "-f", "qcow2", text(&self.path())]);
    }

    fn io(&self, commands: &[&str]) {
        qemu_io(&self.path(), commands);
    }

    fn length(&self) -> u64 {
        fs::metadata(self.path()).unwrap().len()
    }

    /// The restore point as a volume, by qemu-img.
    fn point(&self) -> PathBuf {
        let copy = self.directory.path().join("copy.qcow2");
        let (from, to) = (self.path(), copy.clone());
        succeed(
            "qemu-img",
            &[
                "convert",
                "-l",
                "snapshot.name=yesterday",
                "-O",
                "qcow2",
                text(&from),
                text(&to),
            ],
        );
        copy
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let is_right = output.status.success() && !said.contains("failed");
    assert!(is_right, "{program} {arguments:?}: {said}{output:?}");
    said.into_owned()
}

fn qemu_io(image: &Path, commands: &[&str]) {
    let mut arguments = vec!["-f", "qcow2"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.push(text(image));
    succeed("qemu-io", &arguments);
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_volume_goes_back_to_its_restore_point_as_often_as_asked() {
    let volume = Volume::new();
    volume.io(&[
        "write -q -P 1 0 8M",
        "write -q -P 2 600M 4M",
        "write -q -z 610M 1M",
    ]);
    volume.rewrite(Content::Present, Some(at(1_800_000_000)));
    let listed = succeed("qemu-img", &["snapshot", "-l", text(&volume.path())]);
    assert!(listed.contains("yesterday"), "{listed}");
    for pattern in [3, 4] {
        volume.io(&[
            "read -q -P 1 0 8M",
            "read -q -P 0xbb 8M 12M",
            "read -q -P 2 600M 4M",
            "read -q -P 0 610M 1M",
            &format!("write -q -P {pattern} 1M 100k"),
            &format!("write -q -P {pattern} 300M 1M"),
            &format!("write -q -P {pattern} 602M 12M"),
        ]);
        volume.check();
        qemu_io(
            &volume.point(),
            &[
                "read -q -P 1 0 8M",
                "read -q -P 0 300M 1M",
                "read -q -P 2 600M 4M",
            ],
        );
        volume.rewrite(Content::Point, Some(at(1_800_000_000 + pattern)));
    }
    volume.io(&[
        "read -q -P 1 0 8M",
        "read -q -P 0 300M 1M",
        "read -q -P 2 600M 4M",
    ]);
}

#[test]
fn a_new_restore_point_replaces_the_one_before() {
    let volume = Volume::new();
    for day in 1..20 {
        let (at_day, place) = (at(day * 86400), day % 5);
        volume.io(&[
            &format!("write -q -P {day} {place}M 1M"),
            &format!("write -q -P {day} {}M 64k", 30 * day),
        ]);
        volume.rewrite(Content::Present, Some(at_day));
        volume.io(&["write -q -P 0xff 0 6M"]);
        qemu_io(&volume.point(), &[&format!("read -q -P {day} {place}M 1M")]);
        volume.io(&["read -q -P 0xff 0 6M"]);
    }
    // What the restore points before held is used again.
    assert!(volume.length() < 30 << 20, "{}", volume.length());
}

#[test]
fn without_its_restore_point_it_has_its_clusters_for_itself() {
    let volume = Volume::new();
    volume.io(&["write -q -P 1 0 8M"]);
    volume.rewrite(Content::Present, Some(at(1)));
    volume.io(&["write -q -P 2 0 8M"]);
    let with_both = volume.length();
    assert!(with_both > 16 << 20);
    let room_bytes = volume.rewrite(Content::Present, None);
    volume.io(&["read -q -P 2 0 8M", "write -q -P 3 0 8M"]);
    assert!(
        volume.length() <= with_both + (1 << 20),
        "it is written where it is"
    );
    assert!(
        room_bytes < need_bytes(DISK_BYTES) + (9 << 20),
        "{room_bytes}"
    );
    // And the other way: back, and without it.
    volume.rewrite(Content::Present, Some(at(1)));
    volume.io(&["write -q -P 4 0 8M"]);
    volume.rewrite(Content::Point, None);
    volume.io(&["read -q -P 3 0 8M"]);
}

#[test]
fn an_empty_volume_has_a_restore_point() {
    let volume = Volume::new();
    volume.rewrite(Content::Present, Some(at(1)));
    volume.io(&["write -q -P 1 0 8M"]);
    volume.rewrite(Content::Point, Some(at(1)));
    volume.io(&["read -q -P 0xbb 0 20M"]);
}

#[test]
fn the_whole_disk_can_be_written_within_the_room_promised() {
    let volume = Volume::new();
    let whole = format!("write -q -P 1 0 {DISK_BYTES}");
    for (number, request) in [1u64 << 20, 65536, 3 << 18].into_iter().enumerate() {
        let writes: Vec<String> = (0..DISK_BYTES / 8)
            .step_by(usize::try_from(request).unwrap())
            .map(|offset| {
                format!(
                    "write -q -P {number} {} {request}",
                    (offset * 7) % (DISK_BYTES / 8) / 512 * 512
                )
            })
            .collect();
        volume.io(&writes.iter().map(String::as_str).collect::<Vec<_>>());
        volume.rewrite(Content::Present, Some(at(number as u64)));
    }
    let room_bytes = volume.image().point.unwrap().room_bytes;
    volume.io(&[&whole]);
    volume.check();
    assert!(
        volume.length() <= room_bytes,
        "{} of {room_bytes}",
        volume.length()
    );
    assert!(
        volume.length() > room_bytes - room_bytes / 10,
        "the promise is not twice what is needed"
    );
}

#[test]
fn damaged_tables_get_no_restore_point() {
    let volume = Volume::new();
    volume.io(&["write -q -P 1 0 8M"]);
    let good = fs::read(volume.path()).unwrap();
    let l1 = 0x30000;
    let l2 = usize::try_from(u64::from_be_bytes(good[l1..l1 + 8].try_into().unwrap()) & !(1 << 63))
        .unwrap();
    for (change, message) in [
        (vec![(l2 + 7, 2)], "which QEMU writes in no volume"),
        (vec![(l2, 0xc0)], "which QEMU writes in no volume"),
        (vec![(l2 + 1, 0x7f)], "not a cluster in the file"),
        (vec![(l2 + 6, 0x02)], "not a cluster in the file"),
        (
            (0..8)
                .map(|byte| (l2 + 8 + byte, good[l2 + byte]))
                .collect(),
            "two tables point to",
        ),
        (
            vec![(l2 + 5, 3), (l2 + 4, 0)],
            "two tables point to 0x30000",
        ),
    ] {
        let mut bad = good.clone();
        for (at, byte) in change {
            bad[at] = byte;
        }
        fs::write(volume.path(), &bad).unwrap();
        let image = volume.image();
        let error = Rewrite::plan(&image, Content::Present, Some(at(1))).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error:#}");
    }
    fs::write(volume.path(), &good).unwrap();
    let image = volume.image();
    assert!(
        Rewrite::plan(&image, Content::Point, None).is_err(),
        "it has none"
    );
}

/// As many data clusters as the tables have entries, which are more than the disk has.
#[test]
fn tables_that_lead_to_more_than_the_disk_has_are_counted() {
    let volume = Volume::new();
    volume.io(&["write -q -P 1 0 64k", "write -q -P 1 600M 64k"]);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(volume.path()).unwrap();
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let (l1, mut place) = (number(40), volume.length().next_multiple_of(1 << 16));
    for entry in 0..2 {
        let table = number(l1 + entry * 8) & !(1 << 63);
        for at in 0..1 << 13 {
            let entry = (place | 1 << 63).to_be_bytes();
            file.write_all_at(&entry, table + at * 8).unwrap();
            place += 1 << 16;
        }
    }
    file.set_len(place).unwrap();
    let image = volume.image();
    let rewrite = Rewrite::plan(&image, Content::Present, None).unwrap();
    assert!(rewrite.room_bytes() >= place);
}
