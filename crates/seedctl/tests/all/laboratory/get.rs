//! `seedctl get` and what follows it, from a server over a tracker to hosts.
//!
//! `LABTOOLS_SABOTAGE=skip-digest`, in a debug build, takes any image for the one in the manifest:
//! then `image_with_another_digest_never_appears` must fail.

#![allow(clippy::print_stdout, reason = "figures")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use super::swarm::{ANNOUNCE, Swarm, Transferred, aria2_of, ended, of, origins};
use crate::offered::{NAME, Offered, noise};

const MIB: usize = 1 << 20;

#[test]
fn an_image_arrives_from_the_server_and_then_from_the_building() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "2"]);
    swarm.start_tracker();
    let mut image = noise(6 * MIB + 4711, 1);
    image[MIB..2 * MIB].fill(0);
    let offered = Offered::new(7, image, ANNOUNCE);
    let document = swarm.publish(&offered);

    let first = swarm.run("b1-h1", &["get"], &document);
    assert_eq!(first.stderr, "");
    let first = first.transfer();
    assert_eq!(
        (
            &first["state"],
            &first["changed"],
            &first["path"],
            &first["server_only"]
        ),
        (
            &json!("complete"),
            &json!(true),
            &json!("/qcow2/backing/windows/7.qcow2"),
            &json!(true)
        )
    );
    assert_eq!(first["sha256"], offered.base.sha256.to_string());
    assert_eq!(
        origins(&first),
        [0, offered.image.len() as u64 - MIB as u64, 0, MIB as u64]
    );
    swarm.assert_arrived("b1-h1", &offered);
    swarm.assert_seeds("b1-h1", &offered);

    // The server is away: all comes from the other host.
    swarm.run("server", &["stop", "--all"], "");
    let second = swarm.run("b1-h2", &["get"], &document).transfer();
    assert_eq!(
        origins(&second),
        [offered.image.len() as u64 - MIB as u64, 0, 0, MIB as u64]
    );
    assert_eq!(second["server_only"], false);
    swarm.assert_arrived("b1-h2", &offered);

    // Again: nothing changes but the lists of the process.
    let inode = fs::metadata(swarm.image("b1-h2", 7)).unwrap().ino();
    let again = swarm.run("b1-h2", &["get"], &document).transfer();
    assert_eq!(
        (&again["changed"], &again["building_bytes"]),
        (&json!(false), &second["building_bytes"])
    );
    assert_eq!(fs::metadata(swarm.image("b1-h2", 7)).unwrap().ino(), inode);
    swarm.assert_seeds("b1-h2", &offered);
}

#[test]
fn aria2_can_do_nothing_but_its_work_and_outlives_us() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(MIB, 2), ANNOUNCE);
    let document = swarm.publish(&offered);
    swarm.run("b1-h1", &["get"], &document).transfer();

    let process = aria2_of(&swarm, "b1-h1");
    let status = fs::read_to_string(process.join("status")).unwrap();
    let nobody = "65534\t65534\t65534\t65534";
    for line in [
        &format!("Uid:\t{nobody}"),
        &format!("Gid:\t{nobody}"),
        "Groups:\t",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
    ] {
        assert!(
            status
                .lines()
                .any(|found| found.trim_end() == line.trim_end()),
            "{line}: {status}"
        );
    }
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    // Its secret is in no place that others see.
    let secret = fs::read_to_string(swarm.path("b1-h1", "run/labtools/aria2.secret")).unwrap();
    assert_eq!(
        fs::metadata(swarm.path("b1-h1", "run/labtools/aria2.secret"))
            .unwrap()
            .mode()
            & 0o777,
        0o600
    );
    for file in ["cmdline", "environ"] {
        let text = fs::read(process.join(file)).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(&secret), "{file}");
    }
    assert_eq!(secret.len(), 32);
    // What it seeds it can only read: the finished image, by the name that it has now.
    let image = swarm.image("b1-h1", 7);
    let finished = fs::metadata(&image).unwrap().ino();
    let fds = fs::read_dir(process.join("fd"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let open: Vec<PathBuf> = fds
        .filter(|fd| fs::metadata(fd).is_ok_and(|m| m.ino() == finished))
        .collect();
    assert_eq!(open.len(), 1);
    let info =
        fs::read_to_string(process.join("fdinfo").join(open[0].file_name().unwrap())).unwrap();
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .unwrap()
        .trim();
    assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 0o3, 0, "{info}");
    // Its RPC listens on loopback only.
    let listening = swarm.shell("b1-h1", "ss -Htln");
    let rpc: Vec<&str> = listening
        .lines()
        .filter(|line| line.contains(":6800 "))
        .collect();
    assert!(
        !rpc.is_empty()
            && rpc
                .iter()
                .all(|line| line.contains("127.0.0.1:") || line.contains("[::1]:")),
        "{listening}"
    );
    // Much is said to nobody: the pipe that it spoke to is closed.
    swarm.kill_tracker();
    swarm.run(
        "b1-h1",
        &["stop"],
        &swarm.run("b1-h1", &["get"], &document).stdout,
    );
    assert!(swarm.run("b1-h1", &["seed"], &document).transfer()["changed"] == true);
    assert!(process.exists());
}

#[test]
fn a_building_is_waited_for_and_then_seeding_stops() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "2", "--lan", "40mbit"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(12 * MIB, 3), ANNOUNCE);
    let document = swarm.publish(&offered);
    let first = swarm.run("b1-h1", &["get"], &document).stdout;
    let second = swarm.start("b1-h2", &["get"], &document);
    // It has announced itself, and is not complete.
    while of(&swarm.status("b1-h1"), offered.base.infohash)["building"]["incomplete"] != 1 {
        thread::sleep(std::time::Duration::from_millis(50));
    }
    let hurried = swarm.run("b1-h1", &["wait", "--timeout", "0"], &first);
    assert_eq!(
        (hurried.status, hurried.stdout.as_str()),
        (75, ""),
        "{hurried:?}"
    );
    let waiting = swarm.start("b1-h1", &["wait"], &first);
    let second = ended(second);
    second.transfer();
    let waited = ended(waiting);
    assert_eq!(
        (waited.status, &waited.stdout),
        (0, &first),
        "the document is passed on as it came"
    );

    let status = swarm.status("b1-h1");
    let image = of(&status, offered.base.infohash);
    assert_eq!(
        (
            &image["building"]["complete"],
            &image["building"]["incomplete"]
        ),
        (&json!(2), &json!(0))
    );
    assert!(image["uploaded_bytes"].as_u64().unwrap() > 0, "{image}");
    assert_eq!(
        (&image["name"], &image["generation"], &image["what"]),
        (&json!(NAME), &json!(7), &json!("image"))
    );
    let ratio = swarm.run(
        "b1-h1",
        &["wait", "--ratio", "1000", "--timeout", "1"],
        &first,
    );
    assert_eq!(ratio.status, 75);

    let dry = swarm
        .run("b1-h1", &["stop", "--dry-run"], &first)
        .transfer();
    assert_eq!(
        (&dry["state"], &dry["changed"]),
        (&json!("stopped"), &json!(true))
    );
    swarm.assert_seeds("b1-h1", &offered);
    for changed in [true, false] {
        let stopped = swarm.run("b1-h1", &["stop"], &first).transfer();
        assert_eq!(
            (&stopped["state"], &stopped["changed"], &stopped["path"]),
            (
                &json!("stopped"),
                &json!(changed),
                &second.transfer()["path"]
            )
        );
        assert_eq!(swarm.status("b1-h1")["transfers"], json!([]));
    }
    // The tracker was told.
    assert_eq!(
        of(&swarm.status("b1-h2"), offered.base.infohash)["building"]["complete"],
        1
    );
    swarm.assert_arrived("b1-h1", &offered);

    // After a boot: from the store alone.
    swarm.run("b1-h1", &["stop", "--all"], "");
    let none = swarm.status("b1-h1");
    assert_eq!(
        (&none["transfers"], &none["missing"][0]["key"]),
        (&json!([]), &json!("aria2"))
    );
    for changed in [true, false] {
        let seeded = swarm.run("b1-h1", &["seed", "--all"], "");
        assert_eq!(
            (seeded.status, seeded.stderr.as_str()),
            (0, ""),
            "{seeded:?}"
        );
        let seeded: Value = serde_json::from_str(&seeded.stdout).unwrap();
        assert_eq!(seeded["transfers"]["changed"], changed);
    }
    swarm.assert_seeds("b1-h1", &offered);
}

#[test]
fn a_new_image_takes_from_the_old_one_what_they_share() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "2"]);
    swarm.start_tracker();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // A disk of which every sixth MiB is not used; the next has 14 % changed, in places all over
    // it, and is converted anew: what was not used and now is moves everything behind it.
    let convert = |raw: &[u8], name: &str| {
        fs::write(path("raw"), raw).unwrap();
        let output = Command::new("qemu-img")
            .args(["convert", "-O", "qcow2", &path("raw"), &path(name)])
            .output()
            .expect("qemu-img");
        assert!(output.status.success(), "{output:?}");
        fs::read(path(name)).unwrap()
    };
    let mut raw = noise(48 * MIB, 4);
    (0..48)
        .step_by(6)
        .for_each(|mib| raw[mib * MIB..(mib + 1) * MIB].fill(0));
    let old = Offered::new(7, convert(&raw, "old"), ANNOUNCE);
    let changed = [5, 14, 23, 32, 41].map(|mib| mib * MIB..(mib + 1) * MIB);
    changed
        .into_iter()
        .enumerate()
        .for_each(|(seed, range)| raw[range].copy_from_slice(&noise(MIB, 100 + seed as u64)));
    raw[6 * MIB..6 * MIB + MIB / 2].copy_from_slice(&noise(MIB / 2, 200));
    let new = Offered::new(8, convert(&raw, "new"), ANNOUNCE);
    let document = swarm.publish(&new);

    old.store(&swarm.campus.path("b1-h1"), &swarm.key());
    let transfer = swarm.run("b1-h1", &["get"], &document).transfer();
    let [building, outside, reused, zero] = origins(&transfer);
    swarm.assert_arrived("b1-h1", &new);
    let size = new.image.len() as f64;
    let changed = 5.5 * MIB as f64 / size;
    let fetched = (building + outside) as f64 / size;
    println!(
        "an image of {:.1} MB, {:.0} % of it changed and the rest moved: {:.0} % fetched, {reused} bytes from the old one, {zero} zeros",
        size / 1e6,
        100.0 * changed,
        100.0 * fetched
    );
    assert!(fetched < changed + 0.06, "{transfer}");
    assert!(fetched >= changed - 0.01, "{transfer}");

    // The server says that the old image saves nothing.
    old.store(&swarm.campus.path("b1-h2"), &swarm.key());
    let mut document: Value = serde_json::from_str(&document).unwrap();
    document["image"]["delta"] =
        json!({"generation": 7, "shared_bytes": 1, "fetched_bytes": 2, "whole_bytes": 2});
    let transfer = swarm
        .run("b1-h2", &["get"], &document.to_string())
        .transfer();
    let [_, _, reused, _] = origins(&transfer);
    assert_eq!(reused, 0, "{transfer}");
    swarm.assert_arrived("b1-h2", &new);
}

#[test]
fn old_images_that_are_not_what_they_seem_cost_time_and_nothing_else() {
    // A building for each case: nobody gets anything from another.
    let mut swarm = Swarm::up(&["--buildings", "9", "--hosts", "1"]);
    swarm.start_tracker();
    let old = Offered::new(7, noise(2 * MIB, 5), ANNOUNCE);
    let mut image = old.image.clone();
    image.rotate_left(64 << 10);
    image.extend(noise(MIB, 6));
    let new = Offered::new(8, image, ANNOUNCE);
    let document = swarm.publish(&new);
    let half = old.image.len() as u64 / 2;
    type Damage = fn(&Path, &Offered);
    let cases: [(&str, Damage, u64); 9] = [
        ("whole", |_, _| {}, 2 * MIB as u64),
        ("missing", |path, _| fs::remove_file(path).unwrap(), 0),
        (
            "without its map",
            |path, _| fs::remove_file(path.with_extension("blocks")).unwrap(),
            2 * MIB as u64,
        ),
        (
            "longer",
            |path, old| fs::write(path, [old.image.clone(), noise(100_000, 7)].concat()).unwrap(),
            half,
        ),
        (
            "shorter",
            |path, old| fs::write(path, &old.image[..old.image.len() - 5]).unwrap(),
            half,
        ),
        (
            "corrupt",
            |path, old| {
                let mut image = old.image.clone();
                (0..10).for_each(|place| image[place * 200_000] ^= 1);
                fs::write(path, image).unwrap();
            },
            0,
        ),
        (
            "with the map of another",
            |path, _| {
                fs::write(
                    path.with_extension("blocks"),
                    Offered::new(1, noise(2 * MIB, 8), ANNOUNCE).map,
                )
                .unwrap();
            },
            2 * MIB as u64,
        ),
        (
            "with the new image's map",
            |path, old| {
                let mut map = old.map.clone();
                map.reverse();
                fs::write(path.with_extension("blocks"), map).unwrap();
            },
            2 * MIB as u64,
        ),
        (
            "with a map that nobody signed",
            |path, _| fs::remove_file(path.with_extension("sig")).unwrap(),
            2 * MIB as u64,
        ),
    ];
    let (swarm, old, new, document) = (&swarm, &old, &new, &document);
    thread::scope(|scope| {
        for (building, (case, damage, at_least)) in (1..).zip(cases) {
            scope.spawn(move || {
                let host = format!("b{building}-h1");
                old.store(&swarm.campus.path(&host), &swarm.key());
                // As root may: the files are read-only.
                damage(&swarm.image(&host, 7), old);
                let transfer = swarm.run(&host, &["get"], document).transfer();
                let [_, _, reused, _] = origins(&transfer);
                println!("{case}: {reused} of {} bytes reused", new.image.len());
                assert!(reused >= at_least, "{case}: {transfer}");
                swarm.assert_arrived(&host, new);
            });
        }
    });
}

#[test]
fn images_of_any_length_arrive() {
    let piece = crate::offered::PIECE_BYTES;
    let images = [
        noise(1, 9),
        vec![0],
        vec![0; 3 * piece],
        noise(2 * piece, 10),
        noise(64 << 10, 11),
        noise(piece + 1, 12),
    ];
    let mut swarm = Swarm::up(&["--buildings", &images.len().to_string(), "--hosts", "1"]);
    swarm.start_tracker();
    let publish = |(generation, image): (u64, &Vec<u8>)| {
        let offered = Offered::new(generation, image.clone(), ANNOUNCE);
        let document = swarm.publish(&offered);
        (offered, document)
    };
    let first: Vec<_> = (1..).zip(&images).map(publish).collect();
    let second: Vec<_> = (7..).zip(&images).map(publish).collect();
    // Each on an empty disk, and then the next one beside it, each in its building.
    let swarm = &swarm;
    thread::scope(|scope| {
        for (place, first) in first.iter().enumerate() {
            let second = &second[(place + 1) % images.len()];
            scope.spawn(move || {
                let host = format!("b{}-h1", place + 1);
                for (offered, document) in [first, second] {
                    let transfer = swarm.run(&host, &["get"], document).transfer();
                    let [.., zero] = origins(&transfer);
                    if offered.image.iter().all(|byte| *byte == 0) {
                        let image =
                            fs::metadata(swarm.image(&host, offered.base.generation)).unwrap();
                        assert_eq!((zero, image.blocks()), (offered.image.len() as u64, 0));
                    }
                    swarm.assert_arrived(&host, offered);
                    swarm.assert_seeds(&host, offered);
                }
            });
        }
    });
}

#[test]
fn a_host_that_reaches_nobody_but_the_server_is_named() {
    let mut swarm = Swarm::up(&[
        "--buildings",
        "1",
        "--hosts",
        "1",
        "--wireless",
        "--wireless-link",
        "40mbit",
    ]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(2 * MIB, 13), ANNOUNCE);
    let document = swarm.publish(&offered);
    swarm.run("b1-h1", &["get"], &document).transfer();
    let transfer = swarm.run("wireless", &["get"], &document).transfer();
    assert_eq!(
        (&transfer["server_only"], &transfer["building_bytes"]),
        (&json!(true), &json!(0))
    );
    let status = of(&swarm.status("wireless"), offered.base.infohash);
    let warned = status["warnings"].to_string();
    assert!(
        status["gateway"] == true || warned.contains("it only ever reached servers"),
        "{status}"
    );
}

#[test]
fn a_gateway_keeps_to_the_budget_of_its_building() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1", "--lan", "40mbit"]);
    let settings = "[tracker]\ninterval_seconds=2\n[building.b1]\nuplink_bytes_per_second=700000\n";
    fs::write(swarm.path("server", "etc/labtools/seedctl.ini"), settings).unwrap();
    swarm.start_tracker();
    let offered = Offered::new(7, noise(30 * MIB, 14), ANNOUNCE);
    let document = swarm.publish(&offered);
    let getting = swarm.start("b1-h1", &["get"], &document);
    let gid = json!([offered.base.infohash.to_string()[..16]]);
    while !swarm.path("b1-h1", "run/labtools/aria2.secret").exists() {
        thread::sleep(std::time::Duration::from_millis(20));
    }
    let limit = |swarm: &Swarm| {
        swarm.aria2("b1-h1", "aria2.getOption", gid.clone())["max-download-limit"].clone()
    };
    while limit(&swarm) != "700000" {
        thread::sleep(std::time::Duration::from_millis(50));
    }
    // The budget is lifted: so is the limit, at once, without beginning anew.
    let before = swarm.aria2("b1-h1", "aria2.tellStatus", gid.clone())["completedLength"]
        .as_str()
        .unwrap()
        .parse::<u64>()
        .unwrap();
    fs::write(
        swarm.path("server", "etc/labtools/seedctl.ini"),
        "[tracker]\ninterval_seconds=2\n",
    )
    .unwrap();
    swarm.kill_tracker();
    swarm.start_tracker();
    while limit(&swarm) != "0" {
        thread::sleep(std::time::Duration::from_millis(50));
    }
    let after = swarm.aria2("b1-h1", "aria2.tellStatus", gid.clone())["completedLength"]
        .as_str()
        .unwrap()
        .parse::<u64>()
        .unwrap();
    assert!(after >= before, "{before} {after}");
    assert_eq!(ended(getting).transfer()["gateway"], true);
    swarm.assert_arrived("b1-h1", &offered);
}
