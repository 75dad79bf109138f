//! `seedctl report`, `swarm` and `hosts`: a recorded campaign, hostile ones, and a tracker that is
//! none.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use jsonpipe::testkit;
use serde_json::Value;

use crate::tracker::{self, BINARY, Running};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/seedctl")
        .join(name)
}

/// A campaign that scripts/lab/test-distribute recorded.
fn recorded() -> PathBuf {
    case("campaign").join("in")
}

/// A copy of it that can be spoilt.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    testkit::copy(&recorded(), directory.path());
    directory
}

fn seedctl(arguments: &[&str], config: &Path, input: &str) -> Output {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .arg("--config")
        .arg(config)
        .env("http_proxy", "http://127.0.0.1:1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs `report` on a campaign; its page is `page.html` there.
fn report(campaign: &Path) -> Output {
    let path = |name: &str| campaign.join(name).display().to_string();
    let (samples, hosts, page) = (path("samples.jsonl"), path("hosts"), path("page.html"));
    let input = fs::read_to_string(campaign.join("document.json")).unwrap();
    seedctl(
        &[
            "report",
            "--samples",
            &samples,
            "--hosts",
            &hosts,
            "--html",
            &page,
        ],
        campaign,
        &input,
    )
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn document(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn whats(document: &Value) -> Vec<(&str, &str)> {
    let findings = document["campaign"]["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|one| {
            (
                one["what"].as_str().unwrap(),
                one["name"].as_str().unwrap_or(""),
            )
        })
        .collect()
}

/// Reports on the recorded campaign with the files of a case put over it, and compares the section,
/// the page without its style and what is said on standard error.
fn report_gives_the_expected(name: &str) {
    let (campaign, found) = (copy(), tempfile::tempdir().unwrap());
    testkit::copy(&case(name).join("in"), campaign.path());
    let output = report(campaign.path());
    let mut told = document(&output);
    let given: Value =
        serde_json::from_str(&fs::read_to_string(campaign.path().join("document.json")).unwrap())
            .unwrap();
    assert_eq!(
        told.as_object_mut().unwrap().remove("image").unwrap(),
        given["image"],
        "foreign sections are passed on"
    );
    let page = fs::read_to_string(campaign.path().join("page.html")).unwrap();
    let main = page
        .split("<main>")
        .nth(1)
        .unwrap()
        .split("</main>")
        .next()
        .unwrap();
    for (file, text) in [
        ("document.json", format!("{told:#}\n")),
        ("main.html", format!("{main}\n")),
        ("stderr", said(&output)),
    ] {
        fs::write(found.path().join(file), text).unwrap();
    }
    testkit::assert_expected(&case(name), found.path());
}

#[test]
fn report_tells_a_recorded_campaign() {
    report_gives_the_expected("campaign");
}

/// One for each state that `distribute` writes of a machine without the image.
#[test]
fn report_names_machines_without_the_image() {
    report_gives_the_expected("not-done");
}

/// `b2-h3` had its image from the servers alone, by a cable: the uplink was crossed twice.
#[test]
fn report_names_a_second_crossing() {
    report_gives_the_expected("second-crossing");
}

#[test]
fn the_man_page_examples_work() {
    jsonpipe::testkit::man_page_examples_work(
        BINARY,
        include_str!("../../../../man/seedctl-report.8"),
        &recorded(),
    );
}

#[test]
fn the_page_needs_nothing_else_and_names_what_there_is() {
    let campaign = copy();
    document(&report(campaign.path()));
    let page = fs::read_to_string(campaign.path().join("page.html")).unwrap();
    for elsewhere in [
        "<script", "<link", "<img", "src=", "url(", "@import", "http:", "https:",
    ] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    for there in [
        "9 of 9",
        "b1-h3",
        "a damaged cable",
        "seedctl-report(8)",
        "LibreOffice",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(there), "{there}");
    }
}

#[test]
fn a_machine_on_a_wireless_network_is_named_and_not_counted_as_a_crossing() {
    let campaign = copy();
    let samples = campaign.path().join("samples.jsonl");
    let text = fs::read_to_string(&samples).unwrap();
    let of_machine = |role: &str| {
        format!(r#""address":"10.0.2.12","net":"b2-r1","room":"b2-r1","role":"{role}""#)
    };
    assert!(text.contains(&of_machine("lab")));
    fs::write(
        &samples,
        text.replace(&of_machine("lab"), &of_machine("wireless")),
    )
    .unwrap();
    let path = campaign.path().join("hosts/b2-h3.json");
    let answer = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        answer
            .replace("\"building_bytes\"", "\"x\"")
            .replace("\"outside_bytes\"", "\"building_bytes\"")
            .replace("\"x\"", "\"outside_bytes\""),
    )
    .unwrap();
    let told = document(&report(campaign.path()));
    assert!(
        whats(&told).contains(&("wireless", "b2-h3")),
        "{:?}",
        whats(&told)
    );
    assert_eq!(told["campaign"]["buildings"][1]["crossings"], 1.0);
}

#[test]
fn texts_of_machines_are_text_on_the_page() {
    let campaign = copy();
    let path = |name: &str| campaign.path().join(name);
    let hostile = "<img src=x onerror=alert(1)>\\\"'&";
    for name in ["samples.jsonl", "hosts.ini"] {
        let text = fs::read_to_string(path(name)).unwrap();
        let spelt = if name == "hosts.ini" {
            hostile.replace("\\\"", "\"")
        } else {
            hostile.to_owned()
        };
        fs::write(
            path(name),
            text.replace("\"b1\"", &format!("\"{spelt}\""))
                .replace("=b1\n", &format!("={spelt}\n")),
        )
        .unwrap();
    }
    let said = r#"{"event":"answer","host":"b1-h2","state":"failed","status":1,"said":"</td><script>alert(2)</script>"}"#;
    fs::write(path("hosts/b1-h2.json"), said).unwrap();
    let told = document(&report(campaign.path()));
    assert!(
        told["campaign"]["buildings"]
            .to_string()
            .contains("onerror"),
        "the building is called so"
    );
    let page = fs::read_to_string(path("page.html")).unwrap();
    assert!(
        !page.contains("<img") && !page.contains("<script") && !page.contains("</td><s"),
        "{page}"
    );
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
}

#[test]
fn torn_samples_and_answers_that_are_none_cost_what_they_say_and_nothing_else() {
    let campaign = copy();
    let path = |name: &str| campaign.path().join(name);
    let text = fs::read_to_string(path("samples.jsonl")).unwrap();
    fs::write(path("samples.jsonl"), text + "{\"swarm\":{\"sch").unwrap();
    fs::write(path("hosts/b1-h1.json"), [0xff, 0x00]).unwrap();
    fs::write(path("hosts/b1-h2.json"), "[".repeat(100_000)).unwrap();
    let told = document(&report(campaign.path()));
    assert_eq!(told["campaign"]["done"], 9);
    let missing = told["campaign"]["missing"].to_string();
    assert!(
        missing.contains("that are not a snapshot, left out: 1"),
        "{missing}"
    );
    assert!(
        missing.contains("did not report where it came from: 2"),
        "{missing}"
    );
}

#[test]
fn without_samples_and_hosts_there_is_still_a_report() {
    let campaign = copy();
    fs::write(campaign.path().join("samples.jsonl"), "").unwrap();
    fs::remove_file(campaign.path().join("hosts.ini")).unwrap();
    fs::remove_dir_all(campaign.path().join("hosts")).unwrap();
    assert_eq!(
        report(campaign.path()).status.code(),
        Some(66),
        "the directory is named, and not there"
    );
    fs::create_dir(campaign.path().join("hosts")).unwrap();
    let told = document(&report(campaign.path()));
    assert_eq!(
        (&told["campaign"]["hosts"], &told["campaign"]["done"]),
        (&0.into(), &0.into())
    );
    assert_eq!(told["campaign"]["missing"].as_array().unwrap().len(), 2);
}

#[test]
fn a_document_that_nobody_signed_is_not_reported_on() {
    let campaign = copy();
    let path = campaign.path().join("document.json");
    let mut given: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let signature = given["image"]["signature"].as_str().unwrap().to_owned();
    given["image"]["signature"] = format!("AAAA{}", &signature[4..]).into();
    fs::write(&path, given.to_string()).unwrap();
    let output = report(campaign.path());
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(65), 0),
        "{}",
        said(&output)
    );
    assert!(!campaign.path().join("page.html").exists());
}

#[test]
fn a_swarm_is_what_the_tracker_says() {
    let root = tempfile::tempdir().unwrap();
    tracker::prepare(root.path());
    fs::write(
        root.path().join("etc/labtools/campus.ini"),
        "[net.a]\ncidr=10.0.0.0/8\ncampus=c\nbuilding=b\nroom=r\n",
    )
    .unwrap();
    fs::write(
        root.path().join("etc/labtools/seedctl.ini"),
        "[tracker]\nlisten=127.0.0.1:0\n",
    )
    .unwrap();
    let running = Running::start(
        Command::new(BINARY)
            .args(["track", "-v", "--root"])
            .arg(root.path()),
    );
    let url = format!("http://{}", running.listen);
    let told = document(&seedctl(&["swarm", "--tracker", &url], root.path(), ""));
    assert_eq!(
        (&told["swarm"]["schema"], &told["swarm"]["swarms"]),
        (&1.into(), &Value::Array(Vec::new()))
    );
    drop(running);
    let output = seedctl(&["swarm", "--tracker", &url], root.path(), "");
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(69), 0),
        "{}",
        said(&output)
    );
}

#[test]
fn other_servers_than_a_tracker_are_refused() {
    // A fake: no tracker of ours says this.
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 65),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", 65),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 69),
        (
            "HTTP/1.1 302 Found\r\nLocation: /swarms\r\nContent-Length: 0\r\n\r\n",
            69,
        ),
        ("nonsense", 69),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://user:secret@{}/", listener.local_addr().unwrap());
        let speaker = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let output = seedctl(&["swarm", "--tracker", &url], Path::new("/"), "");
        speaker.join().unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(status), 0),
            "{answer:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains("http://127.0.0.1:") && !said(&output).contains("secret"),
            "{}",
            said(&output)
        );
    }
    let output = seedctl(
        &["swarm", "--tracker", "http://user:se cret@127.0.0.1/"],
        Path::new("/"),
        "",
    );
    assert_eq!(
        (output.status.code(), said(&output).contains("cret@")),
        (Some(2), false),
        "{}",
        said(&output)
    );
}

#[test]
fn machines_are_chosen_by_building_room_and_name() {
    let names = |arguments: &[&str]| {
        let told = document(&seedctl(&[&["hosts"], arguments].concat(), &recorded(), ""));
        let hosts = told["hosts"]["hosts"].as_array().unwrap().clone();
        hosts
            .iter()
            .map(|host| host["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(&["--building", "b2"]), "b2-h1 b2-h2 b2-h3");
    assert_eq!(names(&["--room", "b3-r1", "b3-h2", "b1-h1"]), "b3-h2");
    for arguments in [&["--room", "999"][..], &["nobody"][..]] {
        let output = seedctl(&[&["hosts"], arguments].concat(), &recorded(), "");
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(66), 0),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn a_machine_is_told_with_the_network_that_it_is_in() {
    let config = tempfile::tempdir().unwrap();
    let host = "[host.a]\nmac=02:00:00:00:00:0A\naddress=10.0.1.7\nbuilding=b\nroom=1\nmodel=OptiPlex 7010\n";
    fs::write(config.path().join("hosts.ini"), host).unwrap();
    let room = "[net.n]\ncidr=10.0.1.0/25\nethernet=10.0.1.0/24\ncampus=c\nbuilding=b\nroom=1\n";
    fs::write(config.path().join("campus.ini"), room).unwrap();
    let told = document(&seedctl(&["hosts"], config.path(), ""));
    let expected = r#"{"address":"10.0.1.7","ethernet":"10.0.1.0/24","broadcast":"10.0.1.255","building":"b","campus":"c","mac":"02:00:00:00:00:0a","model":"OptiPlex 7010","name":"a","net":"n","room":"1"}"#;
    assert_eq!(
        told["hosts"]["hosts"][0],
        serde_json::from_str::<Value>(expected).unwrap()
    );
}
