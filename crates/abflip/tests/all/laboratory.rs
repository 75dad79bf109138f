//! On block devices: loop devices, with logical sectors of 512 and of 4096 bytes; with real
//! servers, and faults that only the kernel can make.

mod layout;
mod write;
mod write_faults;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::machine::{B, Machine, bios, program, uefi};

/// A loop device in the place of a machine's disk; gone with it.
struct Loop(String);

impl Loop {
    fn of(machine: &Machine) -> Loop {
        let image = machine.root().join("image");
        fs::rename(machine.disk(), &image).unwrap();
        let device = Loop::of_image(&image, machine.sector_bytes);
        symlink(&device.0, machine.disk()).unwrap();
        device
    }

    fn of_image(image: &Path, sector_bytes: u64) -> Loop {
        let sector = sector_bytes.to_string();
        let (ok, said) = program(
            "losetup",
            "mount",
            &["--find", "--show", "-b", &sector, image.to_str().unwrap()],
            "",
        );
        assert!(ok, "{said}");
        Loop(said.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        program("losetup", "mount", &["--detach", &self.0], "");
    }
}

#[test]
fn a_flip_of_a_block_device_is_what_everybody_reads() {
    for sector in [512, 4096] {
        for (partitions, bit) in [(bios(), 2), (uefi(), 1)] {
            let machine = Machine::with(sector, &partitions);
            // By UEFI it needs a loader on a real EFI system partition: lab/test-update. Here the
            // image of the disk is flipped.
            let before = machine.bytes();
            let flipped = (bit == 1).then(|| machine.slots(&["flip"]));
            let device = Loop::of(&machine);
            let slots = flipped.unwrap_or_else(|| machine.slots(&["flip"]));
            assert_eq!(
                (&slots["next"], &slots["booted"]),
                (&"b".into(), &"a".into()),
                "{slots}"
            );
            assert_eq!(machine.slots(&["status"])["table"]["sector_bytes"], sector);
            let (ok, said) = program("sgdisk", "gdisk", &["-v", &device.0], "");
            assert!(ok && said.contains("No problems found"), "{sector}: {said}");
            // What is read through the cache is the same, too.
            let attributes = |number: &str| {
                program(
                    "sgdisk",
                    "gdisk",
                    &["-A", &format!("{number}:get:{bit}"), &device.0],
                    "",
                )
                .1
            };
            let marked = if bit == 2 {
                ["1:2:0", "2:2:1"]
            } else {
                ["1:1:1", "2:1:0"]
            };
            assert_eq!(
                [attributes("1").trim(), attributes("2").trim()],
                marked,
                "{sector}"
            );
            let root = if bit == 2 { 2 } else { 4 };
            // libblkid, by which udev makes its links.
            let (_, told) = program(
                "partx",
                "util-linux",
                &["--pairs", "-o", "NR,UUID,NAME", &device.0],
                "",
            );
            assert!(
                told.contains(&format!("NR=\"{root}\" UUID=\"{B}\" NAME=\"rootB\"")),
                "{told}"
            );
            let after = fs::read(&device.0).unwrap();
            if bit == 1 {
                machine.run_from(4);
            }
            let back = machine.run(&["flip", "--active", "a"]);
            if bit == 2 {
                assert_eq!(back.section("slots")["next"], "a");
                assert!(fs::read(&device.0).unwrap() == before);
            } else {
                // What is recorded of a loader is not believed where it could be looked at.
                assert_eq!(back.status, 78, "{back:?}");
                assert!(back.stderr.contains("/sys/dev/block/"), "{back:?}");
                assert!(fs::read(&device.0).unwrap() == after);
                // Of what runs it is not asked, and a trial that runs is believed, which is said.
                machine.run_from(3);
                assert_eq!(machine.slots(&["flip", "--active", "a"])["next"], "a");
                machine.arm_by_uefi();
                machine.run_from(4);
                let ended = machine.run(&["commit"]);
                assert_eq!(
                    (ended.status, &ended.section("slots")["next"]),
                    (0, &"b".into()),
                    "{ended:?}"
                );
                assert!(
                    ended
                        .stderr
                        .contains("the loader of slot b cannot be read: "),
                    "{ended:?}"
                );
            }
            // It is nobody's image: where what runs is unknown, both slots must be free. The kernel
            // knows no partitions of this one.
            machine.run_from(9);
            let refused = machine.run(&["flip", "--disk", &device.0, "--active", "b"]);
            assert_eq!(refused.status, 78, "{refused:?}");
        }
    }
}
