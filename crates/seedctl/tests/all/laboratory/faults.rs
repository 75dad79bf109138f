//! What may go wrong while an image arrives, each as it happens.

#![allow(clippy::print_stdout, reason = "figures")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::swarm::{ANNOUNCE, Swarm, Transferred, ended, of, origins};
use crate::offered::{NAME, Offered, TorrentFile, noise};

const MIB: usize = 1 << 20;
const A_MOMENT: Duration = Duration::from_millis(20);

/// Waits until a call says that it does something.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    // The limit is for a test that fails: it ends then, and says at what.
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        sleep(A_MOMENT);
    }
    panic!("never: {what}");
}

/// How much of the image aria2 has on a host; 0 when it does not have it yet.
fn present(swarm: &Swarm, host: &str, offered: &Offered) -> u64 {
    let status = swarm.status(host);
    let transfers = status["transfers"].as_array().unwrap().clone();
    let found = transfers
        .iter()
        .find(|transfer| transfer["infohash"] == offered.base.infohash.to_string());
    found
        .and_then(|transfer| transfer["present_bytes"].as_u64())
        .unwrap_or(0)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn a_tracker_that_is_late_or_away_for_a_while_only_costs_time() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1", "--lan", "20mbit"]);
    let offered = Offered::new(7, noise(12 * MIB, 21), ANNOUNCE);
    offered.store(&swarm.campus.path("server"), &swarm.key());
    let document = offered.document(&swarm.key());
    // The clients first, and the tracker when they said that it is not there.
    let mut getting = swarm.start("b1-h1", &["get"], &document);
    let mut told = BufReader::new(getting.stderr.take().unwrap());
    let mut line = String::new();
    while !line
        .contains("waiting for the tracker http://10.0.0.2:6969/announce: Connection refused")
    {
        line.clear();
        assert_ne!(
            told.read_line(&mut line).unwrap(),
            0,
            "it ended without a word about the tracker"
        );
    }
    getting.stderr = Some(told.into_inner());
    swarm.start_tracker();
    swarm.publish(&offered);
    // In the middle it goes, with all that it knew.
    wait_until("a part is there", || {
        present(&swarm, "b1-h1", &offered) > 2 * MIB as u64
    });
    swarm.kill_tracker();
    swarm.start_tracker();
    let ended = ended(getting);
    ended.transfer();
    swarm.assert_arrived("b1-h1", &offered);
}

#[test]
fn a_gateway_with_a_bad_cable_is_overtaken_by_its_building() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "3"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(16 * MIB, 37), ANNOUNCE);
    let document = swarm.publish(&offered);
    // A hundred-and-sixtieth of what the others have, both ways. It comes first, and has four minutes
    // of work: more than all that follows takes, on a machine that does other things as well.
    for (place, device) in [("b1-h1", "eth0"), ("b1", "p1")] {
        swarm.shell(
            place,
            &format!("tc qdisc replace dev {device} root tbf rate 500kbit burst 64kb latency 60ms"),
        );
    }
    let mut first = swarm.start("b1-h1", &["get"], &document);
    wait_until("a part is there", || {
        present(&swarm, "b1-h1", &offered) > MIB as u64 / 4
    });
    let others = ["b1-h2", "b1-h3"].map(|host| (host, swarm.start(host, &["get"], &document)));
    for (host, other) in others {
        ended(other).transfer();
        swarm.assert_arrived(host, &offered);
    }
    assert_eq!(
        first.try_wait().unwrap(),
        None,
        "they waited for the one with the bad cable"
    );
    wait_until("the tracker counts it", || {
        let metrics = swarm.shell("server", "curl -s http://127.0.0.1:6969/metrics");
        metrics.contains("seedctl_tracker_gateways_replaced_total{reason=\"slow\"} 1\n")
    });
    // It gets the rest from its building: aria2 keeps no connection to the server.
    wait_until("it is a host like the others", || {
        let image = of(&swarm.status("b1-h1"), offered.base.infohash);
        (&image["building"]["gateway"], &image["peers"]["server"]) == (&json!(false), &json!(0))
            && image["peers"]["building"].as_u64() > Some(0)
    });
    signal(&first, Signal::SIGTERM);
    first.wait().unwrap();
}

#[test]
fn a_tracker_that_refuses_a_host_or_an_image_is_told_at_once() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "2", "--rooms", "2"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(MIB, 38), ANNOUNCE);
    let document = swarm.publish(&offered);
    let transferred = swarm.run("b1-h2", &["get"], &document);
    transferred.transfer();
    // Somebody forgot the second room.
    let map = swarm.path("server", "etc/labtools/campus.ini");
    let text = fs::read_to_string(&map).unwrap();
    let sections: Vec<&str> = text
        .split_inclusive("\n\n")
        .filter(|section| !section.starts_with("[net.b1-r2]"))
        .collect();
    fs::write(&map, sections.concat()).unwrap();
    swarm.kill_tracker();
    swarm.start_tracker();
    let stranger = "asking the tracker http://10.0.0.2:6969/announce: this machine's address, 10.0.1.138, is not in campus.ini there; \
                    add its network on that server and restart the tracker\n";
    let refused = |host: &str, arguments: &[&str], document: &str, status: i32, words: &str| {
        let ended = swarm.run(host, arguments, document);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{ended:?}"
        );
        assert_eq!(ended.stderr, format!("seedctl: {words}"));
    };
    let seeded = swarm.run("b1-h2", &["seed"], &document);
    assert_eq!(
        (seeded.status, seeded.stderr),
        (0, format!("seedctl: offering windows 7: {stranger}"))
    );
    refused(
        "b1-h2",
        &["wait"],
        &transferred.stdout,
        78,
        &format!("waiting for the building: {stranger}"),
    );
    let status = of(&swarm.status("b1-h2"), offered.base.infohash);
    assert_eq!(status["warnings"], json!([stranger.trim_end()]));
    swarm.run("b1-h2", &["stop", "--all"], "");
    fs::remove_dir_all(swarm.path("b1-h2", "qcow2/backing")).unwrap();
    refused(
        "b1-h2",
        &["get"],
        &document,
        78,
        &format!("getting windows 7: {stranger}"),
    );
    // One that the server has and does not seed.
    let silent = Offered::new(9, noise(MIB, 40), ANNOUNCE);
    silent.store(&swarm.campus.path("server"), &swarm.key());
    let waited = swarm.run(
        "b1-h1",
        &["get", "--timeout", "1"],
        &silent.document(&swarm.key()),
    );
    let words = "nothing has arrived for 1 seconds; the tracker knows no server that has it: is it seeded there?\n";
    assert!(
        waited.status == 75 && waited.stderr.ends_with(words),
        "{waited:?}"
    );
    // An image that was published elsewhere.
    let elsewhere = Offered::new(8, noise(MIB, 39), ANNOUNCE).document(&swarm.key());
    let unknown = "getting windows 8: asking the tracker http://10.0.0.2:6969/announce: \
                   no signed manifest of this image is in the store there; publish it on that server\n";
    refused("b1-h1", &["get"], &elsewhere, 69, unknown);
}

#[test]
fn a_peer_that_serves_corrupt_pieces_does_no_harm() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "2"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(8 * MIB, 22), ANNOUNCE);
    let document = swarm.publish(&offered);
    // A stock aria2 that believes that what it has is whole, and has every second KiB wrong.
    let mut corrupt = offered.image.clone();
    corrupt.chunks_mut(2048).for_each(|chunk| chunk[0] ^= 0xff);
    fs::write(swarm.path("b1-h2", "qcow2/image"), corrupt).unwrap();
    fs::write(swarm.path("b1-h2", "qcow2/torrent"), &offered.torrent).unwrap();
    let liar = "exec aria2c --no-conf --dir=/qcow2 --bt-seed-unverified=true --check-integrity=false --seed-ratio=0 \
                --enable-dht=false --listen-port=6881 --show-console-readout=false --quiet /qcow2/torrent";
    let mut liar = swarm
        .campus
        .on("b1-h2", &["bash", "-c", liar])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the liar is a peer", || {
        let status = swarm.run("server", &["swarm"], "").stdout;
        status.contains("10.0.1.11")
    });
    let ended = swarm.run("b1-h1", &["get"], &document);
    liar.kill().unwrap();
    liar.wait().unwrap();
    origins(&ended.transfer());
    swarm.assert_arrived("b1-h1", &offered);
}

#[test]
fn a_full_disk_is_told_and_what_was_fetched_makes_room_again() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1", "--lan", "20mbit"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(20 * MIB, 23), ANNOUNCE);
    let document = swarm.publish(&offered);
    // Not even the image would fit.
    swarm.shell(
        "b1-h1",
        "mount -t tmpfs -o size=70m,mode=0755 small /qcow2 && mkdir -p /qcow2/backing && echo mine > /qcow2/disk",
    );
    let refused = swarm.run("b1-h1", &["get"], &document);
    assert_eq!(
        (refused.status, refused.stdout.as_str()),
        (73, ""),
        "{refused:?}"
    );
    assert!(
        refused
            .stderr
            .contains("making room for generation 7 of windows: it needs 21.0 MB"),
        "{refused:?}"
    );
    assert_eq!(
        swarm.shell("b1-h1", "find /qcow2 -type f; cat /qcow2/disk"),
        "/qcow2/disk\nmine\n"
    );
    assert_eq!(swarm.status("b1-h1")["transfers"], json!([]));
    // It would, and somebody else takes the room meanwhile.
    swarm.shell("b1-h1", "mount -o remount,size=100m /qcow2");
    let getting = swarm.start("b1-h1", &["get"], &document);
    wait_until("a part is there", || {
        present(&swarm, "b1-h1", &offered) > MIB as u64
    });
    swarm.shell("b1-h1", "head -c 95M /dev/zero > /qcow2/disk || true");
    let full = ended(getting);
    assert_eq!((full.status, full.stdout.as_str()), (73, ""), "{full:?}");
    assert_eq!(swarm.shell("b1-h1", "find /qcow2 -type f"), "/qcow2/disk\n");
    assert_eq!(swarm.status("b1-h1")["transfers"], json!([]));
    // And then there is room.
    swarm.shell(
        "b1-h1",
        "rm /qcow2/disk && mount -o remount,size=200m /qcow2",
    );
    let transfer = swarm.run("b1-h1", &["get"], &document).transfer();
    origins(&transfer);
    let digest = swarm.shell(
        "b1-h1",
        &format!("sha256sum < /qcow2/backing/{NAME}/7.qcow2"),
    );
    assert!(
        digest.starts_with(&offered.base.sha256.to_string()),
        "{digest}"
    );
}

#[test]
fn image_with_another_digest_never_appears() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1"]);
    swarm.start_tracker();
    // Signed, but wrong: the torrent is of another image than the digest.
    let mut wrong = Offered::new(7, noise(MIB, 24), ANNOUNCE);
    wrong.base.sha256 = Offered::new(7, noise(MIB, 25), ANNOUNCE).base.sha256;
    let document = swarm.publish(&wrong);
    let ended = swarm.run("b1-h1", &["get"], &document);
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (65, ""),
        "an image with another digest was taken: {ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("image.torrent_file: its data does not have the digest in the manifest"),
        "{ended:?}"
    );
    assert_eq!(swarm.shell("b1-h1", "find /qcow2 -type f"), "");
    assert_eq!(swarm.status("b1-h1")["transfers"], json!([]));
}

#[test]
fn a_wrong_map_that_is_signed_never_counts() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "2"]);
    swarm.start_tracker();
    let old = Offered::new(7, noise(2 * MIB, 26), ANNOUNCE);
    // The map and its torrent are of another image: filling goes wrong, and the pieces tell.
    let mut new = Offered::new(8, noise(2 * MIB, 27), ANNOUNCE);
    let torrent = TorrentFile::of(&old.map, ANNOUNCE);
    (new.map, new.blocks_torrent) = (old.map.clone(), torrent.bytes());
    (new.base.blocks_sha256, new.base.blocks_infohash) =
        (old.base.blocks_sha256, torrent.infohash());
    let document = swarm.publish(&new);
    old.store(&swarm.campus.path("b1-h1"), &swarm.key());
    // The second has nothing to fill from, and finds out only at the end.
    for host in ["b1-h1", "b1-h2"] {
        let transfer = swarm.run(host, &["get"], &document).transfer();
        let [building, outside, reused, _] = origins(&transfer);
        assert_eq!((building + outside, reused), (2 * MIB as u64, 0));
        swarm.assert_arrived(host, &new);
    }
}

#[test]
fn a_signal_ends_it_by_the_signal_and_the_next_call_goes_on() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1", "--lan", "6mbit"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(12 * MIB, 28), ANNOUNCE);
    let document = swarm.publish(&offered);
    let mut had = 0;
    for (ending, least) in [(Signal::SIGTERM, 2), (Signal::SIGKILL, 4)] {
        let getting = swarm.start("b1-h1", &["get"], &document);
        wait_until("a part is there", || {
            present(&swarm, "b1-h1", &offered) > least * MIB as u64
        });
        // At the same time there can be no other.
        let other = swarm.run("b1-h1", &["get"], &document);
        assert_eq!((other.status, other.stdout.as_str()), (75, ""), "{other:?}");
        assert!(
            other.stderr.contains("another seedctl get is running"),
            "{other:?}"
        );
        had = present(&swarm, "b1-h1", &offered);
        signal(&getting, ending);
        let output = getting.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(ending as i32));
        if ending == Signal::SIGTERM {
            assert_eq!(
                swarm.status("b1-h1")["transfers"]
                    .to_string()
                    .matches(&offered.base.infohash.to_string())
                    .count(),
                0
            );
        }
    }
    // The network is counted over all three; what came is not fetched again.
    let sent = |swarm: &Swarm| {
        swarm
            .shell("server", "cat /sys/class/net/eth0/statistics/tx_bytes")
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let before = sent(&swarm);
    let transfer = swarm.run("b1-h1", &["get"], &document).transfer();
    let fetched = sent(&swarm) - before;
    println!(
        "had {had} of {}, then fetched {fetched}",
        offered.image.len()
    );
    assert!(
        fetched < (offered.image.len() as u64 - had) * 11 / 10 + 2 * MIB as u64,
        "{fetched} after {had}"
    );
    let [building, outside, reused, _] = origins(&transfer);
    assert_eq!(
        (building, reused),
        (0, 0),
        "what an earlier call fetched is not reused: {transfer}"
    );
    assert_eq!(outside, offered.image.len() as u64);
    swarm.assert_arrived("b1-h1", &offered);
}

/// What changes the disk, but for what only leads up to a rename; with an old image, and on an
/// empty disk.
const STEPS: [(&str, bool); 7] = [
    ("rename", true),
    ("unlinkat", true),
    ("fchown", true),
    ("pwrite64", true),
    ("rename", false),
    ("unlinkat", false),
    ("fchown", false),
];

#[test]
fn killed_before_any_step_the_next_call_succeeds_and_leaves_nothing_behind() {
    // A building for each: nobody gets anything from another.
    let mut swarm = Swarm::up(&["--buildings", &STEPS.len().to_string(), "--hosts", "1"]);
    swarm.start_tracker();
    let old = Offered::new(7, noise(MIB, 29), ANNOUNCE);
    let image = [
        noise(MIB / 2, 30),
        old.image[..MIB / 2].to_vec(),
        vec![0; MIB / 4],
    ]
    .concat();
    let offered = Offered::new(8, image, ANNOUNCE);
    let document = swarm.publish(&offered);
    let (swarm, old, offered, document) = (&swarm, &old, &offered, &document);
    let killed: u32 = thread::scope(|scope| {
        let runs = (1..).zip(STEPS).map(|(building, (call, with_old))| {
            let old = with_old.then_some(old);
            scope.spawn(move || {
                killed_before_each(
                    call,
                    swarm,
                    &format!("b{building}-h1"),
                    old,
                    offered,
                    document,
                )
            })
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    println!("killed before each of {killed} steps");
    assert!(killed > 25);
}

/// Kills `get` before each of these calls that it makes; how many there were.
fn killed_before_each(
    call: &str,
    swarm: &Swarm,
    host: &str,
    old: Option<&Offered>,
    offered: &Offered,
    document: &str,
) -> u32 {
    let store = swarm.path(host, "qcow2/backing");
    for step in 1.. {
        fs::remove_dir_all(&store).unwrap();
        fs::create_dir(&store).unwrap();
        if let Some(old) = old {
            old.store(&swarm.campus.path(host), &swarm.key());
        }
        let (trace, kill) = (
            format!("trace={call}"),
            format!("inject={call}:signal=SIGKILL:when={step}"),
        );
        let by = [
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &kill,
        ];
        let output = swarm
            .start_by(host, &by, &["get"], document)
            .wait_with_output()
            .unwrap();
        // Whatever was there, an image that has its name is whole.
        let finished = swarm.image(host, 8);
        assert!(
            !finished.exists() || fs::read(&finished).unwrap() == offered.image,
            "{call} {step}"
        );
        let next = swarm.run(host, &["get"], document);
        assert_eq!(next.status, 0, "{call} {step}: {next:?}");
        swarm.assert_arrived(host, offered);
        swarm.assert_seeds(host, offered);
        swarm.run(host, &["stop"], &next.stdout).transfer();
        if output.status.success() {
            return step - 1;
        }
        assert_eq!(output.status.signal(), Some(9), "{call} {step}: {output:?}");
    }
    unreachable!("a run makes a finite number of calls")
}

#[test]
fn aria2_that_does_not_know_the_secret_or_does_not_start_is_told() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(MIB, 31), ANNOUNCE);
    let document = swarm.publish(&offered);
    let set =
        |text: &str| fs::write(swarm.path("b1-h1", "etc/labtools/seedctl.ini"), text).unwrap();
    let refused = |status: i32, words: &str| {
        let ended = swarm.run("b1-h1", &["get"], &document);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{ended:?}"
        );
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert!(!Path::new(&swarm.image("b1-h1", 7)).exists());
    };
    set("[aria2]\nbinary=/usr/bin/no-aria2c\n");
    refused(
        69,
        "starting /usr/bin/no-aria2c; it is in Debian's package aria2",
    );
    set("[aria2]\nuser=root\n");
    refused(78, "aria2.user: refusing to run as root");
    set("[aria2]\nuser=no-such-user\n");
    refused(78, "aria2.user: no user no-such-user");
    set("");
    // Somebody else has the port.
    let mut other = swarm.campus.on(
        "b1-h1",
        &[
            "bash",
            "-c",
            "exec aria2c --no-conf --enable-rpc --rpc-listen-port=6800 --quiet",
        ],
    );
    let mut other = other.stdin(Stdio::null()).spawn().unwrap();
    wait_until("it listens", || {
        swarm.shell("b1-h1", "ss -Htln").contains(":6800 ")
    });
    refused(69, "Address already in use");
    other.kill().unwrap();
    other.wait().unwrap();
    // Ours runs, and its secret is lost.
    swarm.run("b1-h1", &["get"], &document).transfer();
    fs::remove_dir_all(swarm.path("b1-h1", "qcow2/backing")).unwrap();
    let secret = swarm.path("b1-h1", "run/labtools/aria2.secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    refused(78, "it rejects the secret in /run/labtools/aria2.secret");
    fs::remove_file(&secret).unwrap();
    refused(78, "aria2.secret");
}

#[test]
fn a_host_that_knows_nobody_yet_goes_on_announcing_itself() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1"]);
    // Not less than the ten seconds after which aria2 without a peer falls silent by itself.
    fs::write(
        swarm.path("server", "etc/labtools/seedctl.ini"),
        "[tracker]\ninterval_seconds=11\n",
    )
    .unwrap();
    swarm.start_tracker();
    let offered = Offered::new(7, noise(MIB, 33), ANNOUNCE);
    offered.store(&swarm.campus.path("server"), &swarm.key());
    let document = offered.document(&swarm.key());
    let getting = swarm.start("b1-h1", &["get", "-v"], &document);
    // Nobody seeds before it has announced itself twice.
    wait_until("it announces itself again", || {
        let said: serde_json::Value =
            serde_json::from_str(&swarm.run("server", &["swarm"], "").stdout).unwrap();
        let swarms = said["swarm"]["swarms"].as_array().unwrap().clone();
        let mut hosts = swarms
            .iter()
            .filter_map(|swarm| swarm.pointer("/buildings/0/hosts/0"));
        hosts.any(|host| host["first_seen_at"] != host["last_seen_at"])
    });
    swarm.publish(&offered);
    let ended = ended(getting);
    assert!(
        !ended.stderr.contains("adding the torrent"),
        "{}",
        ended.stderr
    );
    ended.transfer();
    swarm.assert_arrived("b1-h1", &offered);
}

#[test]
fn a_new_generation_ends_what_is_left_of_the_others() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1"]);
    swarm.start_tracker();
    let old = Offered::new(7, noise(MIB, 34), ANNOUNCE);
    let new = Offered::new(8, noise(MIB, 35), ANNOUNCE);
    let document = swarm.publish(&old);
    swarm.run("b1-h1", &["get"], &document).transfer();
    swarm.assert_seeds("b1-h1", &old);
    // It is pruned, and of another one only a part ever came.
    let image = swarm.image("b1-h1", 7);
    fs::remove_file(&image).unwrap();
    let incoming = image.with_file_name(".incoming");
    fs::create_dir_all(incoming.join("6")).unwrap();
    for left in ["6/image", "5.image"] {
        fs::write(incoming.join(left), "a part").unwrap();
    }
    let document = swarm.publish(&new);
    swarm.run("b1-h1", &["get"], &document).transfer();
    swarm.assert_arrived("b1-h1", &new);
    swarm.assert_seeds("b1-h1", &new);
    assert_eq!(
        swarm.status("b1-h1")["transfers"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn a_file_of_which_nothing_is_right_is_not_seeded() {
    let mut swarm = Swarm::up(&["--buildings", "1", "--hosts", "1"]);
    swarm.start_tracker();
    let offered = Offered::new(7, noise(MIB, 36), ANNOUNCE);
    let mut wrong = Offered::new(7, noise(MIB, 36), ANNOUNCE);
    wrong.map.fill(7);
    wrong.store(&swarm.campus.path("b1-h1"), &swarm.key());
    let ended = swarm.run("b1-h1", &["seed"], &offered.document(&swarm.key()));
    assert_eq!((ended.status, ended.stdout.as_str()), (65, ""), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("7.blocks: it is not whole; seedctl get repairs it"),
        "{ended:?}"
    );
    // The map is right, the image is not: nothing of it is offered then.
    let mut wrong = Offered::new(7, noise(MIB, 36), ANNOUNCE);
    wrong.image.fill(7);
    wrong.store(&swarm.campus.path("b1-h1"), &swarm.key());
    let ended = swarm.run("b1-h1", &["seed"], &offered.document(&swarm.key()));
    assert_eq!((ended.status, ended.stdout.as_str()), (65, ""), "{ended:?}");
    assert_eq!(swarm.status("b1-h1")["transfers"], json!([]));
}
