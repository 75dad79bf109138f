//! Damaged and hostile images: each is refused with status 65 and a line, or gives a volume that
//! qemu-img finds nothing against.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::machine::{self, ALICE, Machine, base_path, faults, qemu_io};

/// Clones with an image in its present state; whether it was taken.
fn taken_or_refused(machine: &Machine, what: &str) -> bool {
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    let ended = machine.clone(ALICE, Some("windows"));
    match ended.status {
        0 => assert_eq!(faults(&overlay), None, "{what} was taken"),
        65 => assert_eq!(
            (ended.stdout.as_str(), ended.stderr.lines().count()),
            ("", 1),
            "{what}: {ended:?}"
        ),
        _ => panic!("{what}: {ended:?}"),
    }
    ended.status == 0
}

/// Every byte of a header, changed in a few ways, in the file at `path`; how many were taken and
/// how many refused.
fn mutate_header(path: &Path, bytes: usize, mut check: impl FnMut(&str) -> bool) -> (usize, usize) {
    let good = fs::read(path).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for at in 0..bytes {
        for change in [0x01, 0x02, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= change;
            fs::write(path, &bad).unwrap();
            match check(&format!("byte {at} with {change:#x} flipped")) {
                true => taken += 1,
                false => refused += 1,
            }
        }
    }
    (taken, refused)
}

#[test]
fn any_change_of_a_bases_header_is_refused_or_harmless() {
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let (taken, refused) = mutate_header(&base, 136, |what| {
        let _ = fs::remove_dir_all(machine.users());
        let taken = taken_or_refused(&machine, what);
        assert!(
            taken || machine.left().is_empty(),
            "{what}: {:?}",
            machine.left()
        );
        taken
    });
    assert!(
        taken > 50 && refused > 200,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn any_change_of_an_overlays_header_is_refused_or_harmless() {
    let machine = Machine::new();
    machine.volume(ALICE, Some("windows"));
    let overlay = machine.home(ALICE).join("windows@7.qcow2");
    qemu_io(
        &overlay,
        &["write -q -P 0x77 0 1M", "write -q -P 0x77 28M 1M"],
    );
    let header = fs::read(&overlay).unwrap()[..4096]
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap()
        + 1;
    let (taken, refused) = mutate_header(&overlay, header, |what| taken_or_refused(&machine, what));
    assert!(
        taken > 50 && refused > 500,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn a_base_cut_short_anywhere_is_refused() {
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let good = fs::read(&base).unwrap();
    let cluster = 65536;
    let last_cluster = (good.len() - 1) / cluster * cluster;
    let mut lengths = vec![0, 1, 71, 72, 103, 104, 111, 112, 500, 4095, 4096];
    lengths.extend(
        (1..=good.len() / cluster).flat_map(|n| [n * cluster - 1, n * cluster, n * cluster + 1]),
    );
    for length in lengths.into_iter().filter(|length| *length <= last_cluster) {
        fs::write(&base, &good[..length]).unwrap();
        let (status, error) = machine.refusal(ALICE, Some("windows"));
        assert_eq!(status, 65, "{length} of {}: {error}", good.len());
    }
    assert!(machine.left().is_empty());
}

#[test]
fn clone_survives_any_content() {
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let good = fs::read(&base).unwrap();
    let place = prop_oneof![
        0..112usize,           // the header
        0x10000..0x10010usize, // the refcount table
        0x20000..0x20100usize, // the refcount block
        0x30000..0x30010usize, // the L1 table
    ];
    let byte = prop_oneof![Just(0), Just(1), Just(0xff), any::<u8>()];
    let changes = proptest::collection::vec((place, byte), 1..8);
    let config = Config {
        cases: 300,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&changes, |changes| {
            let mut bad = good.clone();
            for (at, byte) in &changes {
                bad[*at] = *byte;
            }
            fs::write(&base, &bad).unwrap();
            let _ = fs::remove_dir_all(machine.users());
            taken_or_refused(&machine, &format!("{changes:x?}"));
            Ok(())
        })
        .unwrap();
}

#[test]
fn tables_as_large_as_a_header_can_claim_cost_no_memory() {
    // The largest tables that QEMU takes, in a file that is nearly all hole.
    let machine = Machine::new();
    let base = base_path(machine.root(), "windows", 7);
    let mut header = fs::read(&base).unwrap()[..65536].to_vec();
    header[36..40].copy_from_slice(&(4u32 << 20).to_be_bytes()); // 32 MiB of L1 entries
    header[40..48].copy_from_slice(&(16u64 << 20).to_be_bytes());
    header[56..60].copy_from_slice(&128u32.to_be_bytes()); // 8 MiB of refcount table
    let file = fs::File::create(&base).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &header, 0).unwrap();
    file.set_len(1 << 40).unwrap();
    let script = r#"ulimit -v 65536; exec "$COWVOL" clone --root "$ROOT""#;
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", script])
        .env("COWVOL", machine::CLONE.binary)
        .env("ROOT", machine.root());
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let request = machine::request(ALICE, Some("windows"));
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("its header lies in a cluster that is counted as free"),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(65));
}
