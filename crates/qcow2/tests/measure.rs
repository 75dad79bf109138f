//! The room of a full overlay, compared with that of the installed qemu-img.

use std::process::Command;

use qcow2::full_bytes;

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

#[test]
fn the_room_of_a_full_overlay_is_that_of_qemu_img_measure() {
    // Around every step of the tables: a cluster, an L2 table, a refcount block, the second
    // clusters of the L1 table.
    let steps = [1 << 16, 512 << 20, 2 * GIB, 4 * TIB]
        .into_iter()
        .flat_map(|step: u64| [step - 512, step, step + 512]);
    let odd = (1..30).map(|nth: u64| (nth * nth * nth * 201_326_611).next_multiple_of(512));
    let labs = [
        512,
        1 << 20,
        16 << 20,
        64 << 20,
        40 * GIB,
        80 * GIB,
        81 * GIB,
        TIB,
        5 * TIB,
    ];
    for bytes in steps.chain(odd).chain(labs) {
        let output = Command::new("qemu-img")
            .args(["measure", "-O", "qcow2", "--size", &bytes.to_string()])
            .output()
            .expect("qemu-img, from the package qemu-utils, is needed by this test");
        let measured = String::from_utf8(output.stdout).unwrap();
        let full = format!("fully allocated size: {}", full_bytes(bytes));
        assert!(
            measured.lines().any(|line| line == full),
            "{bytes}: {full}; {measured}"
        );
    }
}
