//! The prompt of a seat, on a terminal.

use std::fs;
use std::process::Command;

use jsonpipe::testkit::feed;
use nix::sys::termios::LocalFlags;
use serde_json::json;
use tempfile::TempDir;

use crate::terminal::Terminal;

const BINARY: &str = env!("CARGO_BIN_EXE_nm-8021x-login");
const USER: &str = "User (name@institution): ";
const PASSWORD: &str = "Password (nothing is shown): ";
const SYSTEM: &str = "System [1]: ";

const CATALOG: &str = r#"{"catalog":{"schema":2,"changed":false,"bases":[
    {"name":"linux","title":"Linux","ostype":"linux","default":false,"generation":1,"volumes":[]},
    {"name":"windows","title":"Windows 10","ostype":"windows","default":true,"generation":7,
     "volumes":[{"token":"t","restore_point_at":"2026-11-30T08:00:00Z"}]}
],"orphans":[],"missing":[]}}"#;

/// The prompt, with a document on its standard input.
fn prompt(document: &str, lang: &str) -> (Terminal, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("document");
    fs::write(&file, document).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("prompt").env("LANG", lang);
    let redirect = format!("<'{}'", file.display());
    (Terminal::start(&command, &redirect), directory)
}

#[test]
fn the_answers_are_the_first_document_of_a_session() {
    let (mut terminal, _directory) = prompt(CATALOG, "C");
    let before = terminal.settings();
    terminal.see(USER);
    assert!(!terminal.settings().local_flags.contains(LocalFlags::ECHO));
    terminal.press("alice@uni-a.example\r");
    terminal.see("alice@uni-a.example");
    terminal.see(PASSWORD);
    terminal.press("\"p\\ä ss\r");
    for row in [
        "  1  Windows 10\r\n",
        "  2  Linux\r\n",
        "  3  Windows 10, as before the last day you used it\r\n",
        "  4  Windows 10, clean: your files on this computer are removed\r\n",
        SYSTEM,
    ] {
        terminal.see(row);
    }
    terminal.press("9\r");
    terminal.see(SYSTEM);
    terminal.press("3\r");
    terminal.see("Contacting your institution...");
    terminal.child.wait().unwrap(); // it restores them at its end
    let (all, after) = (terminal.all.clone(), terminal.settings());
    let ended = terminal.end();
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert_eq!(
        ended.document(),
        json!({
            "login": {"username": "alice@uni-a.example", "password": "\"p\\ä ss"},
            "choice": {"base": "windows", "restore": "yesterday"}
        })
    );
    assert!(!all.contains("ss\r"), "the terminal showed the password");
    assert!(after == before, "the terminal has other settings");
}

#[test]
fn a_question_with_one_answer_is_not_asked() {
    let one = r#"{"catalog":{"schema":2,"bases":[{"name":"a","title":"A","default":true,"volumes":[]}]}}"#;
    for (document, choice) in [(one, json!({"base": "a"})), ("{}", json!(null))] {
        let (mut terminal, _directory) = prompt(document, "C");
        terminal.see(USER);
        terminal.press("a@b.example\rx\r");
        let ended = terminal.end();
        assert_eq!((ended.status, ended.section("choice")), (0, choice));
    }
}

#[test]
fn the_room_of_the_machine_is_below_its_name() {
    let place = r#"{"machine":{"schema":1,"changed":true,"name":"pc1","room":"Room 3\u001b[2J","missing":[]}}"#;
    let (mut terminal, _directory) = prompt(place, "C");
    terminal.see("\r\n  Room 3\u{fffd}[2J\r\n\r\n  User");
    terminal.press("a@b.example\rx\r");
    let ended = terminal.end();
    assert_eq!((ended.status, ended.section("machine")), (0, json!(null)));
}

#[test]
fn no_key_leads_out_or_locks_in() {
    let (mut terminal, _directory) = prompt(CATALOG, "C");
    terminal.see(USER);
    for key in ["\x03", "\x04", "\x1a", "\x1c", "\r"] {
        terminal.press(key);
        terminal.see(USER);
        terminal.press(format!("alice@uni-a.example\r{key}"));
        terminal.see(PASSWORD);
        terminal.see(USER);
        if key != "\r" {
            terminal.press(format!("alice@uni-a.example\rx\r{key}"));
            terminal.see(SYSTEM);
            terminal.see(USER);
        }
    }
    // Every control key, that which stops a screen included.
    let others: Vec<u8> = (0..0x20)
        .filter(|key| !b"\x03\x04\x1a\x1c\r\n".contains(key))
        .collect();
    terminal.press(&others);
    terminal.press("\r");
    terminal.see(USER);
    terminal.press(vec![b'x'; 1 << 20]);
    terminal.press("\r");
    terminal.see(USER);
    terminal.press("alice@uni-a.example\r");
    terminal.see(PASSWORD);
    terminal.press(vec![b'x'; 1 << 20]);
    terminal.press("\r");
    terminal.see(USER);
    terminal.press("alicf\x7fe@uni-a.example\rwrong\x15x\r\r");
    let ended = terminal.end();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert_eq!(
        ended.section("login"),
        json!({"username": "alice@uni-a.example", "password": "x"})
    );
}

#[test]
fn the_user_reads_the_explanation_in_his_language() {
    let refused = r#"{"login":{"schema":1,"authenticated":false,"reason":"no_carrier"}}"#;
    for (lang, text, user) in [
        ("C", "Plug the network cable in", USER),
        (
            "pt_BR.UTF-8",
            "Ligue o cabo de rede",
            "Usuário (nome@instituição): ",
        ),
    ] {
        let mut explain = Command::new(BINARY);
        explain
            .args(["explain", "--status", "1"])
            .env("LANG", lang)
            .env_remove("LC_ALL");
        let explained = feed(explain, refused);
        assert_eq!((explained.status, explained.stderr.as_str()), (0, ""));
        let (mut terminal, _directory) = prompt(&explained.stdout, lang);
        terminal.see(text);
        terminal.see(" [no_carrier]");
        terminal.see(user);
        terminal.press("a@b.example\rx\r");
        assert_eq!(
            terminal.end().document(),
            json!({"login": {"username": "a@b.example", "password": "x"}}),
            "no other section is passed on"
        );
    }
}

#[test]
fn a_list_that_cannot_be_read_is_no_reason_to_lock_users_out() {
    let (mut terminal, _directory) = prompt(r#"{"catalog":{"schema":9}}"#, "C");
    terminal.see(USER);
    terminal.press("a@b.example\rx\r");
    let ended = terminal.end();
    assert_eq!(ended.status, 0);
    assert!(ended.stderr.contains("catalog.schema"), "{}", ended.stderr);
}

#[test]
fn the_password_goes_into_a_pipe_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out");
    for redirect in [format!(">'{}'", file.display()), ">/dev/tty".into()] {
        let mut command = Command::new(BINARY);
        command.arg("prompt");
        let document = directory.path().join("document");
        fs::write(&document, CATALOG).unwrap();
        let redirect = format!("<'{}' {redirect}", document.display());
        let ended = Terminal::start(&command, &redirect).end();
        ended.refused(2, "standard output is no pipe, and gets a password");
    }
    assert_eq!(fs::read(file).unwrap(), b"");
}

#[test]
fn the_event_log_has_no_password() {
    let directory = tempfile::tempdir().unwrap();
    let document = directory.path().join("document");
    fs::write(&document, CATALOG).unwrap();
    let mut command = Command::new(BINARY);
    command
        .args(["prompt", "--log", "--root"])
        .arg(directory.path());
    let mut terminal = Terminal::start(&command, &format!("<'{}'", document.display()));
    terminal.see(USER);
    terminal.press("alice@uni-a.example\rcorrect-horse\r\r");
    let ended = terminal.end();
    assert_eq!(ended.section("login")["password"], "correct-horse");
    let log = fs::read_to_string(directory.path().join("var/log/labtools/events.jsonl")).unwrap();
    assert!(log.contains(r#""command":"prompt","status":0"#), "{log}");
    assert!(
        !log.contains("correct-horse") && !log.contains("alice"),
        "{log}"
    );
}

#[test]
fn a_prompt_ends_with_its_terminal() {
    let (mut terminal, _directory) = prompt(CATALOG, "C");
    terminal.see(USER);
    let ended = terminal.hang_up();
    assert_eq!(ended.stdout, "");
    assert_ne!(ended.status, 0);
    // Without one from the beginning.
    let mut alone = Command::new("setsid");
    alone.args(["--wait", BINARY, "prompt"]);
    feed(alone, CATALOG).refused(66, "opening /dev/tty: this process needs a terminal");
}
