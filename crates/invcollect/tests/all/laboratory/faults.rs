//! Whatever goes wrong, nothing is lost, and nothing arrives twice.
//!
//! `LABTOOLS_SABOTAGE=delete-first`, in a debug build, takes a report out of the spool before it is
//! sent: then `a_collector_that_is_down_for_hours_gets_all_of_it_in_order` must fail.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use envelope::{Header, Key, Kind};
use jsonpipe::testkit::Ended;
use jsonpipe::testkit::stepped::killed_before;
use serde_json::json;

use super::collector::{Collector, H1, Host, assert_waits, messages};
use crate::machine;

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn a_collector_that_is_down_for_hours_gets_all_of_it_in_order() {
    let collector = Collector::up();
    let host = collector.host(H1);
    collector.mode("down");
    for hour in 0..5 {
        host.tell(&hour.to_string());
        assert_waits(&host.push(&[]), "Connection refused");
        // It is not even tried again.
        let ended = host.push(&[]);
        assert_waits(&ended, "Connection refused");
        assert!(ended.section("push")["retry_at"].is_string(), "{ended:?}");
        let retry: serde_json::Value = serde_json::from_slice(
            &fs::read(host.path("var/lib/labtools/spool/retry.json")).unwrap(),
        )
        .unwrap();
        assert_eq!(retry["failures"], hour + 1);
        host.later(-4 * 3600);
    }
    assert_eq!(host.waiting().len(), 5 + 10, "a report is gone");
    collector.mode("good");
    let ended = host.push(&[]);
    assert_eq!(
        (ended.status, &ended.section("push")["sent_reports"]),
        (0, &16.into()),
        "{ended:?}"
    );
    collector.assert_complete(H1, &numbers(0..5));
    // The oldest first. nginx writes its log after it has answered, and ends only then.
    collector.mode("down");
    let log = fs::read_to_string(collector.path("log/nginx.access.log")).unwrap();
    let order: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split(&format!("/reports/{H1}/")).nth(1)?.get(..12))
        .collect();
    assert!(order.is_sorted() && order.len() == 16, "{order:?}");
    assert_eq!(host.spool(""), ["rejected", "sent"]);
}

#[test]
fn a_lost_acknowledgement_is_made_good() {
    let collector = Collector::up();
    let host = collector.host(H1);
    collector.mode("lost");
    host.tell("0");
    assert_waits(&host.push(&[]), "");
    assert_eq!(
        collector.received("reports", H1).len(),
        1,
        "the collector has the first"
    );
    assert_waits(&host.push(&["--now"]), "");
    collector.mode("good");
    host.push_all();
    collector.assert_complete(H1, &numbers(0..1));
}

#[test]
fn push_trusts_only_the_collector() {
    let collector = Collector::up();
    let host = collector.host(H1);
    host.tell("0");
    for (mode, words) in [
        ("wrongca", "UnknownIssuer"),
        ("wrongname", "not valid for name"),
        ("redirect", "302"),
    ] {
        collector.mode(mode);
        assert_waits(&host.push(&["--now"]), words);
    }
    assert_eq!(
        fs::read_to_string(collector.path("log/elsewhere.log")).unwrap(),
        "",
        "the redirection was followed"
    );
    // A proxy that the environment names is not asked.
    collector.mode("good");
    let mut command = host.command(&["push", "--now"]);
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env(name, "http://127.0.0.1:9");
    }
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.status, 0, "{ended:?}");
    collector.assert_complete(H1, &numbers(0..1));
}

#[test]
fn a_server_that_drips_does_not_hold_it() {
    let collector = Collector::up();
    let host = collector.host(H1);
    collector.mode("drip");
    assert_waits(&host.push(&[]), "timeout");
    collector.mode("good");
    host.push_all();
    collector.assert_complete(H1, &[]);
}

#[test]
fn the_status_decides_what_becomes_of_a_report() {
    let collector = Collector::up();
    let host = collector.host(H1);
    for status in [200, 201, 204, 409] {
        collector.mode(&format!("status {status}"));
        let ended = host.push(&["--now"]);
        assert_eq!(
            (ended.status, &ended.section("push")["sent_reports"]),
            (0, &1.into()),
            "{ended:?}"
        );
    }
    for status in [400, 401, 403, 404, 413, 422] {
        collector.mode(&format!("status {status}"));
        let ended = host.push(&["--now"]);
        assert_eq!(
            (ended.status, &ended.section("push")["rejected_reports"]),
            (1, &1.into()),
            "{ended:?}"
        );
        assert!(
            ended
                .stderr
                .contains(&format!("the collector says {status}")),
            "{ended:?}"
        );
    }
    assert_eq!((host.spool("rejected").len(), host.waiting().len()), (6, 0));
    for (waiting, status) in (1..).zip([300, 408, 429, 500, 502, 503]) {
        collector.mode(&format!("status {status}"));
        assert_waits(
            &host.push(&["--now"]),
            &format!("the collector says {status}"),
        );
        // It asked for two minutes, and gets them.
        let asked = fs::read_to_string(host.path("var/lib/labtools/spool/retry.json")).unwrap();
        assert!(
            asked.contains(r#""wait_seconds":120,"asked":true"#),
            "{asked}"
        );
        assert_eq!(host.waiting().len(), waiting);
        fs::remove_file(host.path("var/lib/labtools/spool/retry.json")).unwrap();
    }
    // --now goes over its own wait, but not over one that the collector asked for.
    assert_waits(&host.push(&["--now"]), "503");
    collector.mode("good");
    assert_waits(&host.push(&["--now"]), "503");
    host.later(-4 * 3600);
    host.push_all();
    let received = collector.received("reports", H1);
    assert_eq!(
        received.len(),
        6 + 8 + 1,
        "all but the four that the collector said it had"
    );
    assert_eq!(host.spool(""), ["rejected", "sent"]);
}

#[test]
fn refused_reports_arrive_after_the_server_is_mended() {
    let collector = Collector::up();
    let host = collector.host(H1);
    host.tell("0");
    host.push_all();
    // Another CA signed the certificate of the host: nginx says 400 to it. Then nobody knows the
    // host any more: 403.
    let certificate = host.path("persistent/labtools/host.pem");
    let good = fs::read(&certificate).unwrap();
    let sign = r#"openssl req -new -key "$1/host.key" -subj "/CN=$2" |
        openssl x509 -req -CA "$3/ca.pem" -CAkey "$3/ca.key" -set_serial 1 -days 1 -extfile "$3/usage" -out "$1/host.pem""#;
    fs::write(
        collector.path("wrong/usage"),
        "extendedKeyUsage=clientAuth\n",
    )
    .unwrap();
    let mut shell = Command::new("sh");
    let signed = shell
        .args(["-ec", sign, "sh"])
        .arg(host.path("persistent/labtools"))
        .arg(H1)
        .arg(collector.path("wrong"))
        .output();
    assert!(signed.unwrap().status.success());
    host.tell("1");
    let ended = host.push(&[]);
    assert_eq!(
        (ended.status, &ended.section("push")["rejected_reports"]),
        (1, &2.into()),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("says 400"), "{ended:?}");
    fs::write(&certificate, good).unwrap();
    let reports = collector.store("reports").join(H1);
    let aside = collector.path("aside");
    fs::rename(&reports, &aside).unwrap();
    host.tell("2");
    let ended = host.push(&[]);
    assert_eq!(
        (
            &ended.section("push")["rejected_reports"],
            &ended.section("push")["sent_reports"]
        ),
        (&2.into(), &0.into()),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("says 403"), "{ended:?}");
    assert_eq!(host.spool("rejected").len(), 4);
    fs::rename(&aside, &reports).unwrap();
    let push = host.push_all();
    assert_eq!(push["sent_reports"], 5, "{push}");
    collector.assert_complete(H1, &numbers(0..3));
    assert_eq!(host.spool("rejected").len(), 0);
    // What is refused whatever happens holds nothing up.
    seed(&host, 1, Kind::Text, 10);
    let spool = host.path("var/lib/labtools/spool");
    fs::rename(
        spool.join("000000000001.text"),
        spool.join("rejected/000000000001.text"),
    )
    .unwrap();
    host.tell("3");
    assert_eq!(host.push_all()["sent_reports"], 2);
    collector.assert_complete(H1, &numbers(0..4));
    assert_eq!(host.spool("rejected"), ["000000000001.text"]);
}

#[test]
fn killed_before_any_system_call_it_loses_nothing_and_repeats_nothing() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let mut told = 0;
    for call in 0.. {
        host.tell(&told.to_string());
        told += 1;
        let killed = killed_before(&mut host.command(&["push", "--now"]), call, |_| true);
        // What lies there is whole, whoever looks.
        for name in host
            .path("var/lib/labtools/spool")
            .exists()
            .then(|| host.waiting())
            .into_iter()
            .flatten()
        {
            let whole = fs::read(host.path("var/lib/labtools/spool").join(&name)).unwrap();
            assert!(
                name.ends_with(".tmp") || envelope::open(&whole).is_ok(),
                "{call}: {name}"
            );
        }
        // Every other time nobody comes to repair it before the next kill.
        if call % 2 == 0 || !killed {
            collector.rests();
            host.push_all();
        }
        if !killed {
            eprintln!("killed before each of {call} system calls");
            assert!(call > 100);
            break;
        }
    }
    collector.assert_complete(H1, &numbers(0..told));
    assert_eq!(host.spool(""), ["rejected", "sent"]);
}

#[test]
fn killed_while_it_makes_good_what_was_damaged_and_refused_it_loses_nothing_and_repeats_nothing() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let spool = host.path("var/lib/labtools/spool");
    let mut told = 0;
    for call in 0.. {
        // Where nobody listens.
        fs::write(
            host.path("etc/labtools/invcollect.ini"),
            "[push]\nurl=https://collector.example:1\n",
        )
        .unwrap();
        host.tell(&told.to_string());
        told += 1;
        assert_waits(&host.push(&["--now"]), "refused");
        host.configure("");
        let [events, snapshot] = &host.waiting()[..] else {
            panic!("{:?}", host.waiting())
        };
        fs::write(spool.join(events), "cut").unwrap();
        match call % 4 {
            0 => {}
            3 => fs::rename(spool.join(events), spool.join("rejected").join(events)).unwrap(),
            1 => fs::rename(spool.join(snapshot), spool.join("rejected").join(snapshot)).unwrap(),
            _ => fs::remove_file(spool.join(snapshot)).unwrap(), // so that nothing newer tells how to go on
        }
        let killed = killed_before(
            &mut host.command(&["push", "--now"]),
            call,
            machine::changes,
        );
        collector.rests();
        host.push_all();
        assert!(host.spool("rejected").is_empty(), "{call}");
        if !killed {
            eprintln!("killed before each of {call} changes");
            assert!(call > 20);
            break;
        }
    }
    let mut messages: Vec<u32> = messages(&collector.received("reports", H1))
        .iter()
        .map(|message| message.parse().unwrap())
        .collect();
    messages.sort_unstable();
    assert_eq!(
        messages,
        (0..told).collect::<Vec<_>>(),
        "an event is lost, or there twice"
    );
    assert_eq!(host.spool(""), ["rejected", "sent"]);
}

#[test]
fn a_full_disk_loses_no_event() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let spool = host.path("var/lib/labtools");
    let shell = |text: &str| {
        let ended = collector
            .inside("sh", &["-ec", text, spool.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(ended.status.success(), "{ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    };
    shell(r#"mkdir -p "$0"; mount -t tmpfs -o size=256k small "$0""#);
    collector.mode("down");
    host.tell("0");
    assert_waits(&host.push(&[]), "Connection refused");
    shell(r#"dd if=/dev/zero of="$0/full" bs=1k 2>/dev/null || true"#);
    host.tell("1");
    let ended = host.push(&["--now"]);
    assert_eq!(ended.section("push")["spooled"], json!([]), "{ended:?}");
    assert_waits(&ended, "");
    // What waits can be sent although there is no room for anything, and then there is some.
    collector.mode("good");
    let ended = host.push(&["--now"]);
    assert_eq!(ended.section("push")["sent_reports"], 2, "{ended:?}");
    assert!(
        ended.section("push")["reason"]
            .as_str()
            .unwrap()
            .contains("No space left"),
        "{ended:?}"
    );
    assert_eq!(messages(&collector.received("reports", H1)), ["0"]);
    shell(r#"rm "$0/full""#);
    host.push_all();
    collector.assert_complete(H1, &numbers(0..2));
}

#[test]
fn a_damaged_report_does_not_hold_up_the_others() {
    let collector = Collector::up();
    let host = collector.host(H1);
    collector.mode("down");
    for number in 0..3 {
        host.tell(&number.to_string());
        assert_waits(&host.push(&["--now"]), "");
    }
    // The second events and the second snapshot are cut off, and so is the newest report, by which
    // the next one would go on.
    let waiting = host.waiting();
    let cut = |name: &str| {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(host.path("var/lib/labtools/spool").join(name))
            .unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    for name in [&waiting[2], &waiting[3], &waiting[5]] {
        cut(name);
    }
    // The oldest cannot be read at all. A bad sector says another error than a directory.
    fs::create_dir(host.path("var/lib/labtools/spool/000000000001.snapshot")).unwrap();
    collector.mode("good");
    let ended = host.push(&["--now"]);
    assert_eq!(
        (
            ended.status,
            &ended.section("push")["rejected_reports"],
            &ended.section("push")["sent_reports"]
        ),
        (1, &1.into(), &5.into())
    );
    assert!(
        ended.stderr.contains("it cannot be read")
            && ended.stderr.contains("it was cut off, or changed"),
        "{ended:?}"
    );
    assert_eq!(host.spool("rejected"), ["000000000001.snapshot"]);
    assert_eq!(
        messages(&collector.received("reports", H1)),
        ["0", "2", "1"],
        "the log still has what the second events said"
    );
    // Its name was taken all the same.
    let received = collector.received("reports", H1);
    let sequences: Vec<u64> = received.iter().map(|report| report.sequence).collect();
    assert!(
        ![2, 3, 5]
            .iter()
            .any(|index| sequences.contains(&waiting[*index][..12].parse().unwrap()))
    );
    let sequence = |index: usize| waiting[index][..12].parse::<u64>().unwrap();
    for gone in [&[sequence(2)][..], &[sequence(3), sequence(5)]] {
        assert!(
            received.iter().any(|report| report.header.dropped == gone),
            "{gone:?}"
        );
    }
    // So are the newest events, with what followed them; nobody can be reached, run after run.
    collector.mode("down");
    host.tell("3");
    assert_waits(&host.push(&["--now"]), "");
    host.waiting().iter().for_each(|name| cut(name));
    for number in 4..6 {
        host.tell(&number.to_string());
        assert_waits(&host.push(&["--now"]), "");
    }
    collector.mode("good");
    host.push(&["--now"]);
    host.push_all();
    assert_eq!(
        messages(&collector.received("reports", H1)),
        ["0", "2", "1", "3", "4", "5"]
    );
}

#[test]
fn runs_at_the_same_time_share_the_work() {
    let collector = Collector::up();
    let host = collector.host(H1);
    for round in 0..5 {
        let mut runs = Vec::new();
        for number in 0..4 {
            host.tell(&(4 * round + number).to_string());
            let mut run = host.command(&["push", "--now"]);
            runs.push(
                run.stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap(),
            );
        }
        for run in runs {
            let ended = Ended::of(run.wait_with_output().unwrap());
            let push = ended.section("push");
            let reason = push["reason"].as_str().unwrap_or_default();
            let other = matches!(
                reason,
                "another run is sending" | "another run has spooled meanwhile"
            );
            // 75: the others were slow.
            assert!(matches!(ended.status, 0 | 75) || other, "{ended:?}");
        }
    }
    host.push_all();
    collector.assert_complete(H1, &numbers(0..20));
    // While one holds the spool, another waits for it, and says so in the end.
    let lock = host.path("run/labtools/spool.lock");
    let mut holder = Command::new("flock");
    let mut holder = holder
        .arg(&lock)
        .args(["sh", "-c", "echo; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(holder.stdout.as_mut().unwrap())
        .read_line(&mut String::new())
        .unwrap();
    let ended = host.push(&["--now"]);
    assert_eq!(ended.status, 75, "{ended:?}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn a_clock_that_goes_wrong_delays_nothing_for_long_and_mixes_nothing_up() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let at = |when: &str| {
        let mut run = collector.inside(
            "faketime",
            &[
                "-f",
                when,
                env!("CARGO_BIN_EXE_invcollect"),
                "push",
                "--root",
            ],
        );
        Ended::of(run.arg(&host.root).output().unwrap())
    };
    host.tell("0");
    host.push_all();
    // In 2001 the collector's certificate is not valid yet.
    host.tell("1");
    assert_waits(&at("@2001-01-01 00:00:00"), "certificate");
    // A failure of 2001 does not hold up a run of today, nor one of tomorrow: by then the clock has
    // been set back.
    host.tell("2");
    let ended = host.push(&[]);
    assert_eq!(ended.status, 0, "{ended:?}");
    collector.mode("down");
    assert_waits(&host.push(&[]), "Connection refused");
    host.later(24 * 3600);
    collector.mode("good");
    let ended = host.push(&[]);
    assert_eq!(
        ended.status, 0,
        "a failure that lies in the future holds it up: {ended:?}"
    );
    host.tell("3");
    host.push_all();
    collector.assert_complete(H1, &numbers(0..4));
}

/// A report of this host as a run could have left it.
fn seed(host: &Host<'_>, sequence: u64, kind: Kind, bytes: usize) {
    let key = Key::read(&host.path("persistent/labtools/host.key")).unwrap();
    let spool = host.path("var/lib/labtools/spool");
    fs::create_dir_all(&spool).unwrap();
    // It goes on from the newest, as a run would.
    let newest = host.waiting().pop().map(|name| {
        envelope::open(&fs::read(spool.join(name)).unwrap())
            .unwrap()
            .header
    });
    let (dropped_reports, read) = newest
        .map(|newest| (newest.dropped_reports, newest.read))
        .unwrap_or_default();
    let header = Header {
        schema: 1,
        kind,
        at: "2026-11-23T04:08:18Z".into(),
        dropped_reports,
        dropped: Vec::new(),
        read,
    };
    let payload = match kind {
        Kind::Events => format!(
            "{{\"message\":\"{sequence}\",\"pad\":\"{}\"}}\n",
            "x".repeat(bytes)
        ),
        _ => "x".repeat(bytes),
    };
    let report =
        envelope::seal(&host.id, sequence, &header, payload.as_bytes(), Some(&key)).unwrap();
    fs::write(
        spool.join(format!("{sequence:012}.{}", kind.as_str())),
        report,
    )
    .unwrap();
}

#[test]
fn a_full_spool_gives_up_snapshots_in_between_and_says_so() {
    let collector = Collector::up();
    let host = collector.host(H1);
    host.configure("spool_bytes=1048576\n");
    collector.mode("down");
    for sequence in 1..=10 {
        let kind = if sequence % 5 == 0 {
            Kind::Events
        } else {
            Kind::Snapshot
        };
        seed(&host, sequence, kind, 104_400);
    }
    // 1, 2, 3, 4, 6, 7, 8 and 9 are snapshots.
    let ended = host.push(&[]);
    assert_eq!(ended.section("push")["dropped_reports"], 1, "{ended:?}");
    let left: Vec<u64> = host
        .waiting()
        .iter()
        .map(|name| name[..12].parse().unwrap())
        .collect();
    assert_eq!(left, [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert!(ended.section("push")["waiting_bytes"].as_u64().unwrap() <= 1 << 20);
    // What a report says was thrown away for it goes, though a kill came first.
    seed(&host, 2, Kind::Snapshot, 10);
    assert_waits(&host.push(&[]), "");
    assert!(!host.waiting().contains(&"000000000002.snapshot".to_owned()));
    host.later(-4 * 3600);
    // Nothing but events, and more than may be: they stay in their log.
    for sequence in 20..=25 {
        seed(&host, sequence, Kind::Events, 104_400);
    }
    host.tell("new");
    let ended = host.push(&[]);
    assert_eq!(
        ended.section("push")["spooled"].as_array().unwrap().len(),
        1,
        "a snapshot still has room: {ended:?}"
    );
    assert_eq!(
        ended.section("push")["reason"],
        "the spool is full; collector.example:443: Connection refused (os error 111)"
    );
    collector.mode("good");
    host.later(-4 * 3600);
    host.push(&["--now"]);
    host.push_all();
    let received = collector.received("reports", H1);
    let told = messages(&received);
    let expected = [
        vec!["5".into(), "10".into()],
        numbers(20..26),
        vec!["new".into()],
    ]
    .concat();
    assert_eq!(told, expected);
    let last = received.last().unwrap();
    let dropped: Vec<u64> = received
        .iter()
        .flat_map(|report| report.header.dropped.clone())
        .collect();
    assert_eq!(
        last.header.dropped_reports,
        dropped.len() as u64,
        "the gap is recorded: {dropped:?}"
    );
    let sequences: Vec<u64> = received.iter().map(|report| report.sequence).collect();
    assert!(
        dropped.contains(&2) && dropped.iter().all(|sequence| !sequences.contains(sequence)),
        "{dropped:?}"
    );
    assert!(
        sequences.contains(&1),
        "the first snapshot is not one in between"
    );
}
