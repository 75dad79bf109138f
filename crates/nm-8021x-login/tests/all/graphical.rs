//! The prompt of a seat with a graphical screen, which the test is here.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use jsonpipe::testkit::Ended;
use serde_json::json;

const LOGIN: &str = r#"{"login":{"username":"alice@uni-a.example","password":"\"p\\ä ss"},"choice":{"base":"a","restore":"clean"}}"#;

const DOCUMENT: &str = "{\"catalog\":{\"schema\":2,\n\"bases\":[]}}";

/// `prompt --screen`, with the screen's ends of its pipes.
struct Prompt {
    child: Child,
    questions: PipeReader,
    answers: PipeWriter,
    /// The seat's own ends, by whose paths the prompt opens the pipes.
    seat: (PipeWriter, PipeReader),
}

impl Prompt {
    fn start(before: &str) -> Prompt {
        Prompt::about(DOCUMENT, before)
    }

    fn about(document: &str, before: &str) -> Prompt {
        let (questions, to) = pipe().unwrap();
        let (from, mut answers) = pipe().unwrap();
        answers.write_all(before.as_bytes()).unwrap();
        Prompt {
            child: ask(document, &to, &from),
            questions,
            answers,
            seat: (to, from),
        }
    }

    fn question(&mut self) -> String {
        let mut read = Vec::new();
        while read.last() != Some(&b'\n') {
            let mut byte = [0];
            assert_eq!(self.questions.read(&mut byte).unwrap(), 1, "no question");
            read.push(byte[0]);
        }
        String::from_utf8(read).unwrap()
    }

    fn end(self) -> Ended {
        Ended::of(self.child.wait_with_output().unwrap())
    }
}

fn ask(document: &str, to: &PipeWriter, from: &PipeReader) -> Child {
    let path = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
    let mut child = Command::new(env!("CARGO_BIN_EXE_nm-8021x-login"))
        .args(["prompt", "--screen"])
        .args([path(to.as_raw_fd()), path(from.as_raw_fd())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(document.as_bytes()).unwrap();
    child
}

fn answered(answer: &str) -> Ended {
    let mut prompt = Prompt::start("");
    prompt.question();
    prompt.answers.write_all(answer.as_bytes()).unwrap();
    prompt.end()
}

#[test]
fn the_screens_answer_is_the_first_document_of_a_session() {
    // A second press of a button, before the question was there.
    let mut prompt = Prompt::start("{\"power\":\"off\"}\n{\"power\"");
    let question = prompt.question();
    assert_eq!(question, "{\"catalog\":{\"schema\":2,\"bases\":[]}}\n");
    prompt.answers.write_all(LOGIN.as_bytes()).unwrap();
    prompt.answers.write_all(b"\n").unwrap();
    let ended = prompt.end();
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.stdout, format!("{LOGIN}\n"));
}

#[test]
fn the_screen_gets_nothing_of_the_session_before_but_its_explanation() {
    let volume =
        json!({"token": "secret-1", "bytes": 5, "restore_point_at": "2026-11-30T08:00:00Z"});
    let base = json!({"name": "a", "title": "A", "ostype": "linux", "default": true,
        "volumes": [volume, {"token": "secret-2", "in_use": true}]});
    let document = json!({
        "login": {"schema": 1, "user": "secret-3", "authenticated": true},
        "volume": {"schema": 1, "path": "/secret-4"},
        "guest": {"schema": 1, "argv": ["secret-5"]},
        "catalog": {"schema": 2, "changed": false, "bases": [base], "directory": "secret-6"},
        "explanation": {"schema": 1, "text": "T\n", "cause": "died", "detail": "secret-7"},
    });
    let mut prompt = Prompt::about(&document.to_string(), "");
    let question: serde_json::Value = serde_json::from_str(&prompt.question()).unwrap();
    let shown = json!({"name": "a", "title": "A", "default": true,
        "volumes": [{"restore_point_at": "2026-11-30T08:00:00Z"}, {}]});
    assert_eq!(
        question,
        json!({
            "catalog": {"schema": 2, "bases": [shown]},
            "explanation": {"schema": 1, "text": "T\n", "cause": "died"},
        })
    );
    drop(prompt.answers);
    drop(prompt.seat);
    prompt.child.wait().unwrap();
}

#[test]
fn a_section_that_cannot_be_read_is_not_shown() {
    let document = r#"{"catalog":{"schema":99},"explanation":{"schema":1,"text":"T"}}"#;
    let mut prompt = Prompt::about(document, "");
    let question = prompt.question();
    assert_eq!(
        question,
        "{\"explanation\":{\"schema\":1,\"text\":\"T\"}}\n"
    );
    writeln!(prompt.answers, "{LOGIN}").unwrap();
    let ended = prompt.end();
    assert_eq!(ended.status, 0);
    assert!(ended.stderr.contains("catalog.schema"), "{}", ended.stderr);
}

#[test]
fn a_user_can_switch_the_machine_off() {
    for (wish, action) in [("off", "off"), ("restart", "restart")] {
        let ended = answered(&format!("{{\"power\":\"{wish}\"}}\n"));
        assert_eq!(ended.status, 1);
        assert_eq!(
            ended.document(),
            json!({"power": {"schema": 1, "action": action}})
        );
    }
}

#[test]
fn a_screen_that_answers_nonsense_is_refused_and_its_password_not_shown() {
    let long = "x".repeat(100_000);
    for answer in [
        "correct-horse",
        "{}",
        r#"{"login":{"username":"a"}}"#,
        r#"{"login":{"username":"a","password":17}}"#,
        r#"{"login":{"username":"a","password":"correct-horse","x":1}}"#,
        r#"{"login":{"username":"a","password":"correct-horse"},"volume":{"path":"/dev/sda"}}"#,
        r#"{"login":{"username":"a","password":"correct-horse"},"choice":{"base":"a","restore":"x"}}"#,
        r#"{"power":"halt"}"#,
        &long,
    ] {
        let ended = answered(&format!("{answer}\n"));
        assert_eq!((ended.status, ended.stdout.as_str()), (65, ""), "{answer}");
        assert!(!ended.stderr.contains("correct-horse"), "{}", ended.stderr);
    }
}

#[test]
fn a_screen_that_has_ended_is_no_prompt() {
    let mut prompt = Prompt::start("");
    prompt.question();
    let Prompt {
        child,
        questions,
        answers,
        seat,
    } = prompt;
    drop((questions, answers));
    let ended = Ended::of(child.wait_with_output().unwrap());
    ended.refused(69, "reading from the screen: it has ended");
    // One that ended before the question. The seat still has its ends.
    let child = ask(DOCUMENT, &seat.0, &seat.1);
    let ended = Ended::of(child.wait_with_output().unwrap());
    ended.refused(69, "reading from the screen: it has ended");
}
