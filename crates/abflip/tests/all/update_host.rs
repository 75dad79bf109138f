//! update-host: its half on the machine, with an abflip that finds faults, and its half on the
//! server, with an ssh of machines that hang or send false answers, as no real one does.

use std::fs;
use std::path::Path;

use crate::scripts::Stand;

#[test]
fn update_host_says_why_a_table_is_not_repaired() {
    const ABFLIP: &str = r#"#!/bin/sh
case $1 in
    status) cat "$FAKE/status"; exit 1 ;;
    repair) echo "abflip: $(cat "$FAKE/words")" >&2; [ "$(cat "$FAKE/repair")" -gt 1 ] || cat "$FAKE/status"; exit "$(cat "$FAKE/repair")" ;;
    *) echo "$*" >>"$FAKE/called" ;;
esac
"#;
    for (repair, words, status, said) in [
        (
            "78",
            "refusing to repair /dev/sda: it can be another disk's",
            78,
            "refusing to repair /dev/sda: it can be another disk's",
        ),
        (
            "74",
            "writing /dev/sda: Input/output error",
            74,
            "writing /dev/sda: Input/output error",
        ),
        (
            "1",
            "",
            78,
            "its partition table needs a person: primary table: partitions 1 and 2 overlap; and another",
        ),
        (
            "0",
            "writing the header",
            78,
            "its partition table needs a person: primary table: partitions 1 and 2 overlap; and another",
        ),
    ] {
        let stand = Stand::with("abflip", ABFLIP);
        stand.file("repair", repair);
        stand.file("words", words);
        let faults = r#"["primary table: partitions 1 and 2 overlap", "and another"]"#;
        stand.file(
            "status",
            &format!(r#"{{"slots": {{"schema": 1, "booted": "a", "next": "a", "table": {{"faults": {faults}}}}}}}"#),
        );
        // {"version": 8, "sha256": "00"}
        stand.file("input", "{\"manifest\": \"eyJ2ZXJzaW9uIjogOCwgInNoYTI1NiI6ICIwMCJ9\", \"signature\": \"AA==\"}\n");
        let ended = stand.run("", "host/update-host", &["--here"]);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{repair}: {ended:?}"
        );
        assert_eq!(
            ended.stderr.lines().last(),
            Some(&*format!("update-host: {said}")),
            "{repair}: {ended:?}"
        );
        assert_eq!(stand.read("called"), "");
    }
    let stand = Stand::with("abflip", ABFLIP);
    for input in [
        "x\n",
        "{}\n",
        "{\"manifest\": \"e30=\", \"signature\": \"AA==\"}\n",
        "{\"manifest\": \"!\", \"signature\": \"AA==\"}\n",
    ] {
        stand.file("input", input);
        let ended = stand.run("", "host/update-host", &["--here"]);
        assert_eq!(ended.status, 65, "{input}: {ended:?}");
        assert!(
            ended
                .stderr
                .contains("update-host: reading the request: no "),
            "{input}: {ended:?}"
        );
    }
}

#[test]
fn update_host_finds_the_signature_that_abflip_finds() {
    let stand = Stand::with("ssh", "");
    fs::create_dir(stand.path("a.b")).unwrap();
    for (manifest, signature) in [
        ("a.b/lab8", "a.b/lab8.sig"),
        ("./lab8", "./lab8.sig"),
        ("a.b/lab8.manifest", "a.b/lab8.sig"),
        ("lab.8.manifest", "lab.8.sig"),
        (".lab", ".lab.sig"),
    ] {
        assert_eq!(
            Path::new(manifest).with_extension("sig"),
            Path::new(signature),
            "as abflip has it"
        );
        stand.file(manifest, "");
        let ended = stand.run(
            "",
            "host/update-host",
            &["--manifest", manifest, "--from", "none", "at9-101-01"],
        );
        assert_eq!(
            (ended.status, ended.stderr),
            (66, format!("update-host: {signature}: no such file\n")),
            "{manifest}"
        );
    }
    // And does not repeat a URL that it does not take.
    let ended = stand.run(
        "",
        "host/update-host",
        &[
            "--manifest",
            "x",
            "--from",
            "http://user:SECRET@server.example/x",
            "at9-101-01",
        ],
    );
    assert!(
        ended.status == 2 && !ended.stderr.contains("SECRET"),
        "{ended:?}"
    );
}

#[test]
fn update_host_says_when_an_image_could_not_be_sent() {
    let answer = r#"echo '{"to_version": 8, "state": "current"}'"#;
    let stand = Stand::with(
        "ssh",
        &format!("#!/bin/sh\n[ ! -e reads ] || cat >/dev/null\n{answer}\n"),
    );
    stand.file("lab.manifest", r#"{"version": 8, "sha256": "00"}"#);
    stand.file("lab.sig", "");
    // More than goes into a pipe; who has it already reads none of it, which is no failure.
    stand.file("lab.zst", &"x".repeat(1 << 20));
    fs::create_dir(stand.path("unreadable")).unwrap();
    for (reads, from, status) in [
        (false, "lab.zst", 0),
        (true, "lab.zst", 0),
        (true, "unreadable", 66),
    ] {
        if reads {
            stand.file("reads", "");
        }
        let ended = stand.run(
            "",
            "host/update-host",
            &["--manifest", "lab.manifest", "--from", from, "at9-101-01"],
        );
        assert_eq!(ended.status, status, "{from}: {ended:?}");
        let is_said = ended.stderr.contains("unreadable: a directory");
        assert_eq!(is_said, status != 0, "{from}: {ended:?}");
    }
}

#[test]
fn update_host_waits_for_no_machine_that_hangs() {
    let answer = r#"echo '{"to_version": 8, "state": "current"}'"#;
    let stand = Stand::with(
        "ssh",
        &format!(
            "#!/bin/sh\ncase $* in *at9-101-01*) exec sleep 3600 ;; esac\ncat >/dev/null\n{answer}\n"
        ),
    );
    stand.file("lab.manifest", r#"{"version": 8, "sha256": "00"}"#);
    stand.file("lab.sig", "");
    stand.file("lab.zst", "x");
    let options = [
        "--seconds",
        "1",
        "--manifest",
        "lab.manifest",
        "--from",
        "lab.zst",
    ];
    let ended = stand.run(
        "",
        "host/update-host",
        &[&options[..], &["at9-101-01", "at9-101-02"]].concat(),
    );
    assert_eq!(ended.status, 1, "{ended:?}");
    let hung = r#""host":"at9-101-01","to_version":8,"state":"hung","reason":"update-host --here: not at its end after 2 seconds""#;
    assert!(
        ended.stdout.contains(hung)
            && ended
                .stdout
                .contains(r#""host":"at9-101-02","to_version":8,"state":"current""#),
        "{ended:?}"
    );
}

#[test]
fn update_host_believes_a_machine_only_of_itself() {
    const SSH: &str = r#"#!/bin/bash
cat >/dev/null
case "$*" in
    *' liar '*) printf '%s\n' '{"state":"current","host":"honest","event":"none","to_version":2}' ;;
    *' two '*) printf '%s\n' '{"state":"current"}' '{"state":"current"}' ;;
    *' evil '*) printf '%s\n' '{"state":"a\u001b[2J\u009b\u202e","reason":"b\u0007"}' ;;
    *) printf 'update-host: no\e[2J\n' >&2; exit 78 ;;
esac
"#;
    let stand = Stand::with("ssh", SSH);
    stand.file("lab.manifest", r#"{"version": 2, "sha256": "00"}"#);
    stand.file("lab.sig", "");
    stand.file("lab.zst", "");
    for (host, status, line, said) in [
        (
            "liar",
            0,
            r#"{"event":"update","host":"liar","to_version":2,"state":"current"}"#,
            "version 2: current: liar",
        ),
        (
            "two",
            1,
            "it printed no answer, or several",
            "version 2: failed: two",
        ),
        (
            "evil",
            1,
            "{\"event\":\"update\",\"host\":\"evil\",\"to_version\":2,\"state\":\"a\u{fffd}[2J\u{fffd}\u{fffd}\",\"reason\":\"b\u{fffd}\"}",
            "",
        ),
        ("refuses", 1, "no\u{fffd}[2J", "version 2: refused: refuses"),
    ] {
        let options = ["--manifest", "lab.manifest", "--from", "lab.zst", host];
        let ended = stand.run("", "host/update-host", &options);
        assert_eq!(ended.status, status, "{host}: {ended:?}");
        assert!(
            ended.stdout.contains(line) && ended.stderr.contains(said),
            "{host}: {ended:?}"
        );
        let hidden = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(
            !ended.stdout.contains(hidden) && !ended.stderr.contains(hidden),
            "{host}: {ended:?}"
        );
    }
}
