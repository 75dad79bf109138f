//! The benchmark that runs inside a guest: its plan, for the rest takes days.

use std::process::Command;

#[test]
fn bench_guest_measures_the_grid_of_the_thesis() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/dev/bench-guest");
    let output = Command::new(script).arg("--plan").output().unwrap();
    assert!(output.status.success());
    let plan = String::from_utf8(output.stdout).unwrap();
    // The size of a set in KiB, rounds, runs, the file in MiB, the total in GiB, repetitions.
    let grid: Vec<&str> = plan.lines().skip(1).take(6).collect();
    assert_eq!(
        grid,
        [
            "128 128 320 16 5 10",
            "256 128 320 32 10 10",
            "512 128 320 64 20 10",
            "1024 128 320 128 40 10",
            "2048 128 320 256 80 10",
            "4096 128 320 512 160 10",
        ]
    );
    let lines = |option: &str| plan.lines().filter(|line| line.contains(option)).count();
    assert_eq!((lines("--rw=write"), lines("--rw=read")), (6, 6));
    assert_eq!(lines("--bs=4096k --size=524288k --loops=320"), 2);
    assert!(plan.contains("\nOptiPlex 9020 6163  6767  5420\n"));

    let refused = Command::new(script)
        .arg("--no-such-option")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
}
