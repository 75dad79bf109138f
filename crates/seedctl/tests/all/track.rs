//! The tracker as a process: its port, its signals, its files. Who is introduced to whom is told by
//! its unit tests, and with stock clients by the laboratory.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use jsonpipe::testkit::heeding_signals;
use manifest::{Hex, InfoHash};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::tracker::{BINARY, Running, prepare, publish};

const IMAGE: InfoHash = Hex(*b"aaaaaaaaaaaaaaaaaaaa");
const LATER: InfoHash = Hex(*b"bbbbbbbbbbbbbbbbbbbb");
const LATEST: InfoHash = Hex(*b"cccccccccccccccccccc");
const CAMPUS: &str = "\
[net.servers]
cidr=127.0.0.0/24
campus=c
building=servers
room=servers
role=servers
[net.b1]
cidr=127.0.1.0/24
campus=c
building=b1
room=r1
[net.b2]
cidr=127.0.2.0/24
campus=c
building=b2
room=r1
";
const SETTINGS: &str =
    "[tracker]\nlisten=127.0.0.1:0\n[building.b1]\nuplink_bytes_per_second=12000000\n";

struct Machine(TempDir);

impl Machine {
    /// A server with one image.
    fn new() -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        prepare(machine.root());
        publish(machine.root(), 7, IMAGE, 1 << 20);
        machine.write("campus.ini", CAMPUS);
        machine.write("seedctl.ini", SETTINGS);
        machine
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root().join("etc/labtools").join(name), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = heeding_signals(BINARY);
        command.args(["track", "-v", "--root"]).arg(self.root());
        command
    }

    fn tracker(&self) -> Running {
        Running::start(&mut self.command())
    }

    /// A tracker that cannot start.
    fn refusal(&self) -> (Option<i32>, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command().stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(stderr)
            .unwrap()
            .replace(&self.root().display().to_string(), "");
        (status.code(), String::from_utf8(stdout).unwrap(), stderr)
    }
}

/// A connection from another address of this machine.
fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

/// What comes back for some bytes, until the tracker closes the connection.
fn answer(from: &str, to: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(from, to);
    let _ = stream.write_all(request); // it may close before it has read all
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // and then it resets the connection
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(from: &str, to: SocketAddr, path: &str) -> String {
    answer(
        from,
        to,
        format!("GET {path} HTTP/1.1\r\nHost: tracker\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn announce(from: &str, to: SocketAddr, infohash: InfoHash, rest: &str) -> String {
    let hash = str::from_utf8(&infohash.0).unwrap();
    body(&get(
        from,
        to,
        &format!("/announce?info_hash={hash}&port=6881&{rest}"),
    ))
    .to_owned()
}

#[test]
fn a_tracker_prints_its_document_and_ends_by_the_signal() {
    let machine = Machine::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let tracker = machine.tracker();
        announce("127.0.1.1", tracker.listen, IMAGE, "left=5");
        announce("127.0.3.1", tracker.listen, IMAGE, "left=5");
        let listen = tracker.listen;
        let (ended, stdout) = tracker.end(signal);
        assert_eq!(ended, Some(signal as i32));
        let document: Value = serde_json::from_str(&stdout).unwrap();
        let mut section = document["tracker"].clone();
        for time in ["started_at", "ended_at"] {
            assert!(
                section
                    .as_object_mut()
                    .unwrap()
                    .remove(time)
                    .unwrap()
                    .as_str()
                    .unwrap()
                    .ends_with('Z')
            );
        }
        let expected = serde_json::json!({"schema":1, "changed":false, "listen":listen, "announces":1, "refused":1, "torrents":2,
            "peers":1});
        assert_eq!(section, expected);
    }
}

#[test]
fn only_hosts_of_the_campus_and_torrents_of_the_store_are_served() {
    let machine = Machine::new();
    let tracker = machine.tracker();
    let to = tracker.listen;
    let told = announce("127.0.1.1", to, IMAGE, "left=5&event=started");
    assert_eq!(
        told,
        "d8:completei0e10:incompletei1e8:intervali10e12:min intervali10e5:peers0:e"
    );
    let refused = "d14:failure reason33:this address is not in campus.inie";
    assert_eq!(announce("127.0.3.1", to, IMAGE, "left=5"), refused);
    assert_eq!(
        announce("127.0.3.1", to, IMAGE, "left=5&ip=127.0.1.1"),
        refused
    );
    assert!(
        announce("127.0.1.1", to, LATER, "left=5")
            .contains("no signed manifest has this info_hash")
    );
    assert!(
        get("127.0.3.1", to, &format!("/building?info_hash={IMAGE}")).starts_with("HTTP/1.1 403")
    );
    assert!(
        get("127.0.1.1", to, &format!("/building?info_hash={LATER}")).starts_with("HTTP/1.1 404")
    );
    assert!(get("127.0.1.1", to, "/building").starts_with("HTTP/1.1 400"));
    assert!(get("127.0.1.1", to, "/").starts_with("HTTP/1.1 404"));
    let building = get("127.0.1.1", to, &format!("/building?info_hash={IMAGE}"));
    let expected = concat!(
        r#"{"building":"b1","role":"lab","complete":0,"incomplete":1,"gateway":true,"#,
        r#""uplink_bytes_per_second":12000000,"servers":0,"interval_seconds":10}"#
    );
    assert_eq!(body(&building), expected);
}

#[test]
fn swarms_tells_who_has_how_much() {
    let machine = Machine::new();
    let tracker = machine.tracker();
    let to = tracker.listen;
    announce("127.0.0.2", to, IMAGE, "left=0&event=started");
    announce("127.0.1.1", to, IMAGE, "left=1048576&event=started");
    announce("127.0.1.2", to, IMAGE, "left=1048576&event=started");
    announce(
        "127.0.1.1",
        to,
        IMAGE,
        "left=0&downloaded=1048576&uploaded=3&event=completed",
    );
    let mut said: Value = serde_json::from_str(body(&get("127.0.0.2", to, "/swarms"))).unwrap();
    assert!(said["at"].is_string());
    let image = &mut said["swarms"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|swarm| swarm["what"] == "image")
        .unwrap();
    let mut times = 0;
    for building in image["buildings"].as_array_mut().unwrap() {
        for host in building["hosts"].as_array_mut().unwrap() {
            for key in ["first_seen_at", "last_seen_at", "complete_at"] {
                times += usize::from(host.as_object_mut().unwrap().remove(key).is_some());
            }
        }
    }
    assert_eq!(times, 7, "only one host was seen to get complete");
    let host = |address: &str,
                net: &str,
                room: &str,
                role: &str,
                left: u64,
                downloaded: u64,
                uploaded: u64| {
        serde_json::json!({"address":address, "net":net, "room":room, "role":role, "left_bytes":left,
            "downloaded_bytes":downloaded, "uploaded_bytes":uploaded, "gateway":false})
    };
    let expected = serde_json::json!({
    "infohash": IMAGE, "name": "windows", "generation": 7, "what": "image", "size_bytes": 1 << 20, "buildings": [
        {"campus":"c", "building":"b1", "complete":1, "incomplete":1, "gateways":[], "hosts":[
            host("127.0.1.1", "b1", "r1", "lab", 0, 1 << 20, 3),
            host("127.0.1.2", "b1", "r1", "lab", 1 << 20, 0, 0),
        ]},
        {"campus":"c", "building":"servers", "complete":1, "incomplete":0, "gateways":[], "hosts":[
            host("127.0.0.2", "servers", "servers", "servers", 0, 0, 0),
        ]},
    ]});
    assert_eq!(**image, expected);
    let metrics = get("127.0.0.2", to, "/metrics");
    for line in [
        "# TYPE seedctl_tracker_answer_seconds histogram",
        "seedctl_tracker_announces_total{result=\"answered\"} 4",
        "seedctl_tracker_answer_seconds_count 4",
        "seedctl_tracker_torrents 2",
        "seedctl_tracker_peers{image=\"windows\",generation=\"7\",what=\"image\",building=\"b1\",role=\"lab\",state=\"complete\"} 1",
        "seedctl_tracker_downloaded_bytes_total{image=\"windows\",generation=\"7\",what=\"image\",building=\"b1\",role=\"lab\"} 1048576",
    ] {
        assert!(
            body(&metrics).lines().any(|other| other == line),
            "{line}\n{metrics}"
        );
    }
}

#[test]
fn a_scrape_tells_of_the_own_building() {
    let machine = Machine::new();
    let tracker = machine.tracker();
    let to = tracker.listen;
    announce("127.0.1.1", to, IMAGE, "left=5&event=started");
    announce("127.0.1.1", to, IMAGE, "left=0&event=completed");
    announce(
        "127.0.1.2",
        to,
        IMAGE,
        "left=5&event=paused&uploaded=&numwant=99999999999999999999",
    );
    let scrape =
        |from: &str, query: &str| body(&get(from, to, &format!("/scrape{query}"))).to_owned();
    let hash = |infohash: InfoHash| String::from_utf8(infohash.0.to_vec()).unwrap();
    let both = format!("?info_hash={}&info_hash={}", hash(IMAGE), hash(LATER));
    let told = |complete, downloaded, incomplete| {
        let counts =
            format!("8:completei{complete}e10:downloadedi{downloaded}e10:incompletei{incomplete}e");
        format!("d5:filesd20:{}d{counts}eee", hash(IMAGE))
    };
    assert_eq!(scrape("127.0.1.3", &both), told(1, 1, 1));
    assert_eq!(
        scrape("127.0.2.1", &both),
        told(0, 0, 0),
        "another building"
    );
    assert_eq!(
        scrape("127.0.3.1", &both),
        "d14:failure reason33:this address is not in campus.inie"
    );
    assert_eq!(
        scrape("127.0.1.3", ""),
        "d14:failure reason18:info_hash: missinge"
    );
}

#[test]
fn every_counter_is_there_before_it_counts() {
    let machine = Machine::new();
    let tracker = machine.tracker();
    let metrics = get("127.0.0.2", tracker.listen, "/metrics");
    for result in [
        "answered",
        "full",
        "malformed",
        "stranger",
        "unknown_torrent",
    ] {
        let line = format!("seedctl_tracker_announces_total{{result=\"{result}\"}} 0");
        assert!(
            body(&metrics).lines().any(|other| other == line),
            "{line}\n{metrics}"
        );
    }
    for reason in ["stalled", "slow", "silent", "stopped"] {
        let line = format!("seedctl_tracker_gateways_replaced_total{{reason=\"{reason}\"}} 0");
        assert!(
            body(&metrics).lines().any(|other| other == line),
            "{line}\n{metrics}"
        );
    }
}

#[test]
fn an_image_that_is_published_later_is_found_when_it_is_asked_for() {
    let machine = Machine::new();
    let mut tracker = machine.tracker();
    publish(machine.root(), 8, LATER, 1 << 20);
    let building = get(
        "127.0.1.1",
        tracker.listen,
        &format!("/building?info_hash={LATER}"),
    );
    assert!(building.starts_with("HTTP/1.1 200 OK"), "{building}");
    publish(machine.root(), 9, LATEST, 1 << 20);
    assert!(announce("127.0.1.1", tracker.listen, LATEST, "left=5").starts_with("d8:complete"));
    assert!(announce("127.0.1.1", tracker.listen, LATER, "left=5").starts_with("d8:complete"));
    // One that is withdrawn is known until the store is read again.
    fs::remove_file(machine.root().join("qcow2/backing/windows/8.manifest")).unwrap();
    assert!(announce("127.0.1.1", tracker.listen, LATER, "left=5").starts_with("d8:complete"));
    fs::write(machine.root().join("qcow2/backing/windows/7.sig"), [0; 64]).unwrap();
    tracker.signal(Signal::SIGHUP);
    let wrong = tracker.wait_for("leaving out ");
    assert!(
        wrong.contains("7.manifest: verifying the manifest: not signed by any of base-1.pub"),
        "{wrong}"
    );
    assert!(announce("127.0.1.1", tracker.listen, LATER, "left=5").contains("no signed manifest"));
    assert!(announce("127.0.1.1", tracker.listen, IMAGE, "left=5").contains("no signed manifest"));
    // Without keys the torrents stay the same.
    fs::remove_file(machine.root().join("etc/labtools/keys/base-1.pub")).unwrap();
    tracker.signal(Signal::SIGHUP);
    tracker.wait_for("the torrents stay the same");
}

#[test]
fn hostile_requests_are_refused_and_the_next_client_is_served() {
    let machine = Machine::new();
    let tracker = machine.tracker();
    let to = tracker.listen;
    let long = "a".repeat(20_000);
    let headers = (0..300)
        .map(|number| format!("X-{number}: x\r\n"))
        .collect::<String>();
    let request =
        |line: &str| format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    let requests: Vec<Vec<u8>> = vec![
        request("GET /announce HTTP/1.1"),
        request("GET /announce?info_hash=%zz&port=6881&left=1 HTTP/1.1"),
        request("GET /announce?info_hash=a&port=6881&left=1 HTTP/1.1"),
        request(&format!("GET /announce?info_hash={}&port=0&left=1 HTTP/1.1", "a".repeat(20))),
        request(&format!("GET /announce?info_hash={}&port=6881&left=-1 HTTP/1.1", "a".repeat(20))),
        request(&format!("GET /announce?info_hash={}&port=6881&left={} HTTP/1.1", "a".repeat(20), "9".repeat(400))),
        request(&format!("GET /announce?info_hash={long} HTTP/1.1")),
        request(&format!("GET /{long}{long}{long}{long} HTTP/1.1")),
        request("POST /announce HTTP/1.1"),
        request("GET http://elsewhere/announce HTTP/1.1"),
        request("GET /announce HTTP/9.9"),
        format!("GET /announce HTTP/1.1\r\n{headers}\r\n").into_bytes(),
        b"GET /announce?info_hash=\xff\xfe\x00 HTTP/1.1\r\n\r\n".to_vec(),
        b"GET /building?info_hash=%41 HTTP/1.1\r\nConnection: close\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"d1:ad2:id20:".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        vec![0; 100_000],
    ];
    for request in &requests {
        let said = answer("127.0.1.1", to, request);
        let refused = said.is_empty()
            || said.starts_with("HTTP/1.1 4")
            || body(&said).starts_with("d14:failure reason");
        assert!(
            refused,
            "{}: {said}",
            String::from_utf8_lossy(&request[..request.len().min(80)])
        );
    }
    assert!(announce("127.0.1.1", to, IMAGE, "left=5").starts_with("d8:complete"));
}

#[test]
fn idle_clients_keep_nobody_out() {
    let machine = Machine::new();
    let tracker = machine.tracker();
    let to = tracker.listen;
    // 32 of one address may be open, whatever they send; strangers have as many together.
    let mut idle: Vec<TcpStream> = (0..32).map(|_| connect("127.0.1.1", to)).collect();
    idle[0]
        .write_all(b"GET /announce HTTP/1.1\r\nX-Slow: ")
        .unwrap();
    let strangers: Vec<TcpStream> = (0..40)
        .map(|number| connect(&format!("127.0.9.{}", number + 1), to))
        .collect();
    assert_eq!(get("127.0.1.1", to, "/"), "", "one more is closed");
    assert_eq!(get("127.0.9.99", to, "/"), "", "so is another stranger");
    assert!(announce("127.0.1.2", to, IMAGE, "left=5").starts_with("d8:complete"));
    // They are closed by the tracker.
    for mut stream in idle.into_iter().chain(strangers) {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(announce("127.0.1.1", to, IMAGE, "left=5").starts_with("d8:complete"));
}

#[test]
fn a_connection_carries_one_request_after_the_other() {
    let machine = Machine::new();
    let tracker = machine.tracker();
    let hash = "a".repeat(20);
    let line = |left: u8| {
        format!("GET /announce?info_hash={hash}&port=6881&left={left} HTTP/1.1\r\nHost: x\r\n")
    };
    let pipelined = format!(
        "{}\r\n{}\r\n{}Connection: close\r\n\r\n",
        line(3),
        line(2),
        line(0)
    );
    let said = answer("127.0.1.1", tracker.listen, pipelined.as_bytes());
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 3, "{said}");
    assert_eq!(
        (
            said.matches("10:incompletei1e").count(),
            said.matches("8:completei1e").count()
        ),
        (2, 1),
        "{said}"
    );
}

#[test]
fn track_refuses_wrong_settings_before_it_serves() {
    let refusal = |break_it: fn(&Machine)| {
        let machine = Machine::new();
        break_it(&machine);
        let (status, stdout, stderr) = machine.refusal();
        assert_eq!(stdout, "");
        (status.unwrap(), stderr)
    };
    assert_eq!(
        refusal(|machine| machine.write("seedctl.ini", "[building.b9]\ngateways=2\n")),
        (78, "seedctl: /etc/labtools/seedctl.ini: [building.b9]: no network of campus.ini is in it\n".into())
    );
    assert_eq!(
        refusal(|machine| machine.write("campus.ini", &CAMPUS.replace("127.0.2.0/24", "127.0.1.0/24"))),
        (78, "seedctl: /etc/labtools/campus.ini: net.b2.cidr: b1 has the same; which of the two is it?\n".into())
    );
    assert_eq!(
        refusal(|machine| fs::remove_file(machine.root().join("etc/labtools/campus.ini")).unwrap())
            .0,
        66
    );
    assert_eq!(
        refusal(
            |machine| fs::remove_file(machine.root().join("etc/labtools/keys/base-1.pub")).unwrap()
        )
        .0,
        78
    );
    assert_eq!(
        refusal(|machine| fs::remove_dir_all(machine.root().join("qcow2")).unwrap()).0,
        66
    );
    let (status, stderr) =
        refusal(|machine| machine.write("seedctl.ini", "[tracker]\nlisten=192.0.2.1:6969\n"));
    assert_eq!(status, 73);
    assert!(
        stderr.starts_with("seedctl: listening at 192.0.2.1:6969: "),
        "{stderr}"
    );
}

#[test]
fn the_page_and_the_help_say_how_to_use_it() {
    let command = seedctl::request::Arguments::command();
    let track = command.find_subcommand("track").unwrap();
    jsonpipe::testkit::man_page_names_every_flag(
        track,
        include_str!("../../../../man/seedctl-track.8"),
    );
    let help = Command::new(BINARY)
        .args(["track", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("seedctl-track(8)"));
}

#[test]
fn it_says_nothing_without_being_asked_to() {
    let machine = Machine::new();
    // The port is told by -v only: one that was free a moment ago is taken.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    machine.write("seedctl.ini", &format!("[tracker]\nlisten={free}\n"));
    let mut command = Command::new(BINARY);
    command
        .args(["track", "--root"])
        .arg(machine.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    while TcpStream::connect(free).is_err() {
        assert_eq!(child.try_wait().unwrap(), None);
    }
    announce("127.0.1.1", free, IMAGE, "left=5");
    announce("127.0.3.1", free, IMAGE, "left=5");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id() as i32),
        Signal::SIGTERM,
    )
    .unwrap();
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    child.wait().unwrap();
    assert_eq!(stderr, "");
}
