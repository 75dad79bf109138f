//! Reports that arrive: what a collector of nginx takes from whom, in the three ways in which they
//! can be sent.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};

use envelope::Kind;

use super::collector::{Collector, H1, H2, assert_waits, messages, script};

#[test]
fn a_report_arrives_once_whole_and_signed() {
    let collector = Collector::up();
    let host = collector.host(H1);
    host.tell("a");
    host.log(
        "var/log/labtools/events.jsonl",
        r#"{"event":"login","user":"alice@uni-a.example"}"#,
    );
    let push = host.push_all();
    assert_eq!(
        (
            &push["sent_reports"],
            &push["changed"],
            push["spooled"].as_array().unwrap().len()
        ),
        (&2.into(), &true.into(), 2)
    );
    let received = collector.received("reports", H1);
    assert_eq!(
        received
            .iter()
            .map(|report| report.header.kind)
            .collect::<Vec<_>>(),
        [Kind::Events, Kind::Snapshot]
    );
    assert!(
        received[1].payload.starts_with(r#"{"host":{"schema":1,"#),
        "{received:?}"
    );
    assert_eq!(messages(&received), ["a"]);
    assert!(
        !format!("{received:?}").contains("alice"),
        "what others log stays on the machine"
    );
    assert_eq!(host.spool(""), ["rejected", "sent"]);
    // The next goes on from there.
    host.tell("b");
    host.push_all();
    collector.assert_complete(H1, &["a".into(), "b".into()]);
}

#[test]
fn the_collector_takes_from_a_host_what_is_its_own_and_keeps_it() {
    let collector = Collector::up();
    let (h1, h2) = (collector.host(H1), collector.host(H2));
    h1.push_all();
    let report = collector.received("reports", H1).remove(0);
    let stored = collector
        .store("reports")
        .join(H1)
        .join(format!("{:012}", report.sequence));
    let bytes = fs::read(&stored).unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = collector.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (same, other, large, none) = (
        file("same", &bytes),
        file("other", b"other"),
        file("large", &vec![b'x'; (1 << 20) + 1]),
        file("none", b""),
    );
    let put = |by: Option<&super::collector::Host<'_>>, path: &str, body: &str| {
        let url = format!("https://collector.example/{path}");
        let identity = by.map(|host| {
            let file = |name: &str| {
                host.path("persistent/labtools")
                    .join(name)
                    .to_str()
                    .unwrap()
                    .to_owned()
            };
            [file("host.pem"), file("host.key")]
        });
        let mut arguments = vec!["-T", body, &url];
        if let Some([certificate, key]) = &identity {
            arguments.extend(["--cert", certificate, "--key", key]);
        }
        collector.curl(&arguments).0
    };
    let own = format!("reports/{H1}/{:012}", report.sequence);
    let next = format!("reports/{H1}/{:012}", report.sequence + 1);
    assert_eq!(put(Some(&h1), &own, &same), 204, "the same again");
    assert_eq!(
        put(Some(&h1), &own, &other),
        409,
        "something else under the same id"
    );
    assert_eq!(put(Some(&h2), &next, &other), 403, "another host");
    assert_eq!(put(None, &next, &other), 403, "nobody");
    assert_eq!(put(Some(&h1), &next, &large), 413);
    assert_eq!(put(Some(&h1), &next, &none), 400);
    for path in [
        format!("reports/{H1}/1"),
        format!("reports/{H1}/../{H2}/000000000001x"),
        "reports/x".into(),
        "keys".into(),
    ] {
        assert_eq!(put(Some(&h1), &path, &other), 404, "{path}");
    }
    let (status, _) = collector.curl(&[&format!("https://collector.example/{own}")]);
    assert_eq!(status, 405, "nothing can be read");
    assert_eq!(fs::read(&stored).unwrap(), bytes);
    assert_eq!(collector.received("reports", H1).len(), 1);
    assert_eq!(collector.received("reports", H2).len(), 0);
    // What is acknowledged is on the disk.
    let flags = Command::new("lsattr").arg(&stored).output().unwrap();
    assert!(
        String::from_utf8_lossy(&flags.stdout).starts_with("--S"),
        "{flags:?}"
    );
    // A certificate of a host that is no longer wanted opens nothing.
    let root = collector.path("root");
    let expelled = Command::new(script("collector/collector"))
        .arg("--root")
        .arg(&root)
        .args(["expel", H1])
        .status()
        .unwrap();
    assert!(expelled.success());
    assert_eq!(put(Some(&h1), &next, &other), 403);
}

#[test]
fn of_reports_of_one_id_that_come_at_the_same_moment_one_is_kept() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let key = |name: &str| {
        host.path("persistent/labtools")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let authority = collector.path("root/etc/labtools/collector/ca.pem");
    for round in 0..12 {
        let url = format!("https://collector.example/reports/{H1}/{round:012}");
        let put = |number: u32| {
            let body = collector.path(&format!("body{number}"));
            fs::write(&body, number.to_string().repeat(200_000)).unwrap();
            let mut curl = collector.inside(
                "curl",
                &[
                    "-s",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    "--cert",
                    &key("host.pem"),
                ],
            );
            curl.args(["--key", &key("host.key"), &url])
                .arg("--cacert")
                .arg(&authority)
                .arg("-T")
                .arg(body);
            curl.stdout(Stdio::piped()).spawn().unwrap()
        };
        let puts: Vec<_> = (1..=6).map(put).collect();
        let said = puts
            .into_iter()
            .map(|put| String::from_utf8(put.wait_with_output().unwrap().stdout).unwrap());
        let said: Vec<String> = said.collect();
        assert!(
            said.iter()
                .all(|status| matches!(status.as_str(), "201" | "409" | "503")),
            "{said:?}"
        );
        let kept: Vec<usize> = (0..6).filter(|number| said[*number] == "201").collect();
        let stored = fs::read_to_string(
            collector
                .store("reports")
                .join(H1)
                .join(format!("{round:012}")),
        )
        .unwrap();
        assert_eq!(kept.len(), 1, "two were told that theirs is kept: {said:?}");
        assert!(
            stored == (kept[0] + 1).to_string().repeat(200_000),
            "{said:?}"
        );
    }
    assert_eq!(
        fs::read_dir(collector.store("incoming")).unwrap().count(),
        0
    );
}

#[test]
fn a_collector_without_room_acknowledges_nothing() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let shell = |text: &str| {
        let output = collector
            .inside(
                "sh",
                &["-ec", text, collector.store("").to_str().unwrap(), H1],
            )
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Where its nginx is, the store is a small file system now.
    shell(
        r#"mount -t tmpfs -o size=16k store "$0"; mkdir -p "$0/incoming" "$0/reports/$1"; chown -R www-data "$0"
        dd if=/dev/zero of="$0/full" 2>/dev/null || true"#,
    );
    host.tell("0");
    assert_waits(&host.push(&[]), "503");
    assert_eq!(
        shell(r#"find "$0/incoming" "$0/reports" -type f"#),
        "",
        "half a report is left"
    );
    shell(r#"umount "$0""#);
    // What a power cut left of one does not stand for it, and goes.
    let torn = collector
        .store("incoming")
        .join(format!("reports.{H1}.{}", &host.waiting()[0][..12]));
    fs::write(&torn, "{").unwrap();
    assert_waits(&host.push(&["--now"]), "503");
    fs::File::open(&torn)
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    let mut expire = Command::new(script("collector/collector"));
    assert!(
        expire
            .arg("--root")
            .arg(collector.path("root"))
            .arg("expire")
            .status()
            .unwrap()
            .success()
    );
    host.push_all();
    collector.assert_complete(H1, &["0".into()]);
}

#[test]
fn only_a_host_itself_can_be_enrolled_and_only_once() {
    let collector = Collector::up();
    let h1 = collector.host(H1);
    let enroll = |id: &str, subject: &str, key: &str| {
        let request = Command::new("openssl")
            .args(["req", "-new", "-subj", subject, "-key", key, "-out"])
            .arg(collector.path("request"))
            .output()
            .unwrap();
        assert!(request.status.success(), "{request:?}");
        let mut enroll = Command::new(script("collector/collector"));
        enroll
            .arg("--root")
            .arg(collector.path("root"))
            .args(["enroll", id]);
        let output = enroll
            .stdin(fs::File::open(collector.path("request")).unwrap())
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let own = h1
        .path("persistent/labtools/host.key")
        .to_str()
        .unwrap()
        .to_owned();
    let subject = |id: &str| format!("/CN={id}");
    assert_eq!(enroll(H1, &subject(H1), &own).0, 0, "the same again");
    let (status, said) = enroll(H2, &subject(H2), &own);
    assert_eq!(status, 65, "{said}");
    assert!(said.contains("one of them is a clone"), "{said}");
    let (status, said) = enroll(H2, &subject(H1), &own);
    assert_eq!(status, 65, "{said}");
    let (status, said) = enroll(H1, &format!("/O=x/CN={H1}"), &own);
    assert_eq!(status, 65, "{said}");
    let other = collector.path("other.key").to_str().unwrap().to_owned();
    assert!(
        Command::new("openssl")
            .args(["genpkey", "-algorithm", "ed25519", "-out", &other])
            .status()
            .unwrap()
            .success()
    );
    let (status, said) = enroll(H1, &subject(H1), &other);
    assert_eq!(status, 73, "{said}");
    assert_eq!(enroll("../x", "/CN=x", &other).0, 2);
}

#[test]
fn the_script_of_the_thesis_is_heard_with_its_secret_alone() {
    let collector = Collector::up();
    // Figure 28, but for the CA, which is private here.
    let script = r#"
run() { echo "---- $@ ----"; "$@" 2>&1; }
{ run cctk -o /dev/stdout; run cat /proc/meminfo; run df; run cat /proc/net/dev; run cat /proc/net/wireless; run ip addr; run ip route
  run ethtool eth0
} | curl -s -o /dev/null -w '%{http_code}' --cacert "$CA" -m 10 --data-binary @- -H "Content-Type: text/plain" -H "Auth: $SECRET" \
    -H "Uuid: $ID" https://collector.example"#;
    let post = |secret: &str, id: &str| {
        let mut command = collector.inside("sh", &["-c", script]);
        command
            .env("CA", collector.path("root/etc/labtools/collector/ca.pem"))
            .env("SECRET", secret)
            .env("ID", id);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let secret = collector.secret();
    assert_eq!(post(&secret, H1), "201");
    assert_eq!(post(&secret, H1), "201", "it has no id, and is another one");
    for wrong in [
        "",
        "x",
        &secret[1..],
        &format!("{secret}x"),
        &secret.to_uppercase(),
        ".*",
    ] {
        assert_eq!(post(wrong, H1), "401", "{wrong}");
    }
    for wrong in ["", "x", "../5f0c1f5e", &H1.to_uppercase()] {
        assert_eq!(post(&secret, wrong), "400", "{wrong}");
    }
    let (status, _) = collector.curl(&[
        "-d",
        "x",
        "-H",
        &format!("Uuid: {H1}"),
        "https://collector.example",
    ]);
    assert_eq!(status, 401, "no Auth");
    let texts: Vec<String> = fs::read_dir(collector.store("text").join(H1))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert_eq!(texts.len(), 2);
    let (texts_of_all, of_host) = (
        fs::metadata(collector.store("text")).unwrap(),
        fs::metadata(collector.store("text").join(H1)).unwrap(),
    );
    assert_eq!(
        (of_host.gid(), of_host.mode() & 0o777),
        (texts_of_all.gid(), 0o750),
        "adm reads what lies there"
    );
    assert!(
        texts
            .iter()
            .all(|text| text.starts_with("---- cctk -o /dev/stdout ----\n")
                && text.contains("MemTotal:")),
        "{texts:?}"
    );
}

#[test]
fn push_speaks_the_language_of_the_thesis() {
    let collector = Collector::up();
    let host = collector.host(H1);
    host.configure("method=text\n");
    fs::create_dir_all(host.path("proc/net")).unwrap();
    fs::write(
        host.path("proc/net/dev"),
        " face |bytes\n    lo: 1 2\nenx02a1b2c3d4e5: 3 4\n",
    )
    .unwrap();
    fs::write(host.path("proc/meminfo"), "MemTotal:        8000000 kB\n").unwrap();
    host.push_all();
    let stored: Vec<_> = fs::read_dir(collector.store("text").join(H1))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let text = fs::read_to_string(&stored[0]).unwrap();
    let commands: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("---- "))
        .collect();
    assert_eq!(
        commands,
        [
            "---- cctk -o /dev/stdout ----",
            "---- cat /proc/meminfo ----",
            "---- df ----",
            "---- cat /proc/net/dev ----",
            "---- cat /proc/net/wireless ----",
            "---- ip addr ----",
            "---- ip route ----",
            "---- ethtool eth0 ----"
        ]
    );
    assert!(
        text.contains("---- cat /proc/meminfo ----\nMemTotal:        8000000 kB\n"),
        "{text}"
    );
    assert!(
        text.contains("---- cat /proc/net/dev ----\n face |bytes\n    lo: 1 2\n----"),
        "{text}"
    );
    // The answer is lost: under its id it is there once.
    collector.mode("lost");
    assert_waits(&host.push(&[]), "");
    collector.mode("good");
    host.push_all();
    assert_eq!(
        fs::read_dir(collector.store("text").join(H1))
            .unwrap()
            .count(),
        3
    );
    // The secret is for its owner alone, and said to nobody but the collector.
    let secret = host.path("persistent/labtools/secrets/collector");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = host.push(&[]);
    assert_eq!(ended.status, 78, "{ended:?}");
    assert!(ended.stderr.contains("chmod 600"), "{ended:?}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&secret, "Tr0ub4dor").unwrap();
    let ended = host.push(&["-v"]);
    assert_eq!(
        (ended.status, &ended.section("push")["rejected_reports"]),
        (1, &1.into()),
        "{ended:?}"
    );
    assert!(!format!("{ended:?}").contains("Tr0ub4dor"));
    assert_eq!(host.spool("rejected").len(), 1);
    fs::rename(
        host.path("var/lib/labtools/spool/rejected")
            .join(&host.spool("rejected")[0]),
        host.path("back"),
    )
    .unwrap();
    assert!(
        !fs::read_to_string(host.path("back"))
            .unwrap()
            .contains("Tr0ub4dor")
    );
}

#[test]
fn push_speaks_to_glpi() {
    let collector = Collector::up();
    let host = collector.host(H1);
    host.configure("method=glpi\n");
    collector.mode("down");
    assert_waits(&host.push(&[]), "Connection refused");
    collector.mode("glpi");
    host.push_all();
    let ended = host.push(&[]);
    assert_eq!(ended.status, 0, "{ended:?}");
    collector.mode("down"); // nginx writes its log after it has answered, and ends only then
    let log = fs::read_to_string(collector.path("log/nginx.access.log")).unwrap();
    assert_eq!(log.matches("\"POST / HTTP/1.1\" 200").count(), 3, "{log}");
}

#[test]
fn the_register_goes_to_its_keeper_alone() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let record = r#"{"event":"start","user":"alice@uni-a.example"}"#;
    host.log("var/log/labtools/register/register.jsonl", record);
    host.push_all();
    assert_eq!(
        collector.received("register", H1).len(),
        0,
        "nobody asked for it"
    );
    host.configure("register=true\n");
    host.push_all();
    host.push_all();
    let received = collector.received("register", H1);
    assert_eq!(
        received
            .iter()
            .map(|report| report.payload.as_str())
            .collect::<Vec<_>>(),
        [format!("{record}\n")]
    );
    assert_eq!(
        fs::metadata(collector.store("register")).unwrap().mode() & 0o777,
        0o700
    );
}

#[test]
fn push_refuses_wrong_settings_first() {
    let collector = Collector::up();
    let host = collector.host(H1);
    let refused = |status: i32, words: &str| {
        let ended = host.push(&[]);
        assert_eq!(ended.status, status, "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert!(!host.path("var").exists());
    };
    for (ini, words) in [
        (
            "",
            "invcollect.ini: no [push]; its url says where reports go",
        ),
        (
            "[push]\nurl=http://collector.example\n",
            "push.url: not https://",
        ),
        (
            "[push]\nurl=https://collector example\n",
            "push.url: not https://",
        ),
        (
            "[push]\nurl=https://collector.example\nmethod=ftp\n",
            "push.method: ",
        ),
        (
            "[push]\nurl=https://collector.example\nspool_bytes=1\n",
            "push.spool_bytes: less than 1 MiB",
        ),
        (
            "[push]\nurl=https://collector.example\nmethod=text\nregister=true\n",
            "push.register: only by method=put",
        ),
        (
            "[push]\nurl=https://collector.example\nurls=x\n",
            "push.urls: unknown key",
        ),
    ] {
        fs::write(host.path("etc/labtools/invcollect.ini"), ini).unwrap();
        refused(78, words);
    }
    host.configure("");
    let key = host.path("persistent/labtools/host.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    refused(78, "others may use it");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    chown(&key, Some(65534), None).unwrap();
    refused(78, "it belongs to another user");
    chown(&key, Some(0), None).unwrap();
    let certificate = host.path("persistent/labtools/host.pem");
    let own = fs::read(&certificate).unwrap();
    fs::copy(
        collector.host(H2).path("persistent/labtools/host.pem"),
        &certificate,
    )
    .unwrap();
    refused(78, "certificate does not match host.key");
    fs::write(&certificate, own).unwrap();
    fs::write(host.path("persistent/inventory/uuid"), "../x\n").unwrap();
    refused(78, "not a UUID");
    fs::write(host.path("persistent/inventory/uuid"), H1).unwrap();
    fs::write(host.path("etc/labtools/collector.pem"), "x").unwrap();
    refused(78, "reading the collector's authorities");
    fs::remove_file(host.path("etc/labtools/collector.pem")).unwrap();
    refused(66, "collector.pem");
}
