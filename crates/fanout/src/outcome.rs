//! The state of a machine, from the exit status of its ssh and the last words.

use jsonpipe::{Exit, shown};
use serde_json::Value;

use crate::report::{Answer, Object, State};
use crate::ssh::{Ended, How};

/// The exit status of ssh when the connection fails or breaks.
const OF_SSH: u8 = 255;

/// The maximum length of the last words.
const SAID_MAX_CHARS: usize = 300;

/// The answer of `host` when `command` has ended like this.
pub fn answer_of(host: &str, command: &str, ended: &Ended, expected: Option<&Object>) -> Answer {
    let answer = object(&ended.stdout);
    let is_expected = expected.is_none_or(|expected| {
        answer
            .as_ref()
            .is_some_and(|answer| contains_all(answer, expected))
    });
    let words = last_words(&ended.stderr, 1);
    let unsent = ended
        .unsent
        .as_deref()
        .map(|why| last_words(why.as_bytes(), 1));
    let (state, status, said) = match &ended.how {
        How::Status(status) if *status != OF_SSH && unsent.is_some() => {
            (State::Failed, Some(*status), unsent.unwrap_or_default())
        }
        How::Status(0) if is_expected => (State::Done, Some(0), String::new()),
        How::Status(0) => {
            let said = match words.as_str() {
                "" => format!("{command}: its answer is not the expected one"),
                words => words.to_owned(),
            };
            (State::Failed, Some(0), said)
        }
        How::Status(OF_SSH) => {
            let words = last_words(&ended.stderr, 2);
            (of_ssh(&words), None, words)
        }
        How::Status(status) => (of_status(*status), Some(*status), words),
        How::Hung(why) => (State::Hung, None, format!("{command}: {why}")),
        How::NotStarted(why) => (State::Failed, None, why.clone()),
    };
    Answer {
        host: host.to_owned(),
        state,
        status,
        begun: None,
        answer,
        said: Some(said).filter(|said| !said.is_empty()),
    }
}

fn of_status(status: u8) -> State {
    const fn of(exit: Exit) -> u8 {
        exit as u8
    }
    match status {
        _ if status == of(Exit::Data) || status == of(Exit::Config) => State::Refused,
        _ if status == of(Exit::TemporaryFailure) => State::InUse,
        _ => State::Failed,
    }
}

/// ssh has one exit status for all its faults; its messages tell them apart.
fn of_ssh(words: &str) -> State {
    let has = |any: &[&str]| any.iter().any(|part| words.contains(part));
    if has(&[
        "Host key verification failed",
        "Permission denied",
        "Too many authentication failures",
        "Unable to negotiate",
    ]) {
        State::NoLogin
    } else if has(&["connect to host", "Could not resolve", "banner exchange"]) {
        State::Unreachable
    } else if has(&["bad configuration options", "Bad owner or permissions"]) {
        State::Failed // of this server
    } else {
        State::Lost
    }
}

/// The last lines that are not blank, on one line, fit for a terminal.
fn last_words(stderr: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut last: Vec<_> = text
        .lines()
        .rev()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(lines)
        .collect();
    last.reverse();
    shown(&last.join(" "))
        .chars()
        .take(SAID_MAX_CHARS)
        .collect()
}

/// The document, if standard output is one and nothing else. Its text becomes fit for a terminal.
fn object(stdout: &[u8]) -> Option<Object> {
    let object: Object = serde_json::from_slice(stdout).ok()?;
    Some(shown_object(object))
}

fn shown_object(object: Object) -> Object {
    object
        .into_iter()
        .map(|(key, value)| (shown(&key).into_owned(), shown_value(value)))
        .collect()
}

/// The parser limits the depth.
fn shown_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(shown(&text).into_owned()),
        Value::Array(values) => values.into_iter().map(shown_value).collect(),
        Value::Object(object) => Value::Object(shown_object(object)),
        other => other,
    }
}

/// Whether `found` has all keys and values of `expected`, at every depth.
fn contains_all(found: &Object, expected: &Object) -> bool {
    expected
        .iter()
        .all(|(key, expected)| match (found.get(key), expected) {
            (Some(Value::Object(found)), Value::Object(expected)) => contains_all(found, expected),
            (found, expected) => found == Some(expected),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(how: How, stdout: &str, stderr: &str) -> Answer {
        let ended = Ended {
            how,
            stdout: stdout.into(),
            stderr: stderr.into(),
            unsent: None,
        };
        let expected = serde_json::from_str(r#"{"base":{"generation":7}}"#).unwrap();
        answer_of("a", "get", &ended, Some(&expected))
    }

    #[test]
    fn statuses_are_states() {
        for (status, state, kept) in [
            (0, State::Failed, Some(0)), // without the expected answer
            (1, State::Failed, Some(1)),
            (65, State::Refused, Some(65)),
            (75, State::InUse, Some(75)),
            (78, State::Refused, Some(78)),
            (127, State::Failed, Some(127)),
            (143, State::Failed, Some(143)), // a signal, on the machine,
        ] {
            let answer = judged(How::Status(status), "", "");
            assert_eq!((answer.state, answer.status), (state, kept), "{status}");
        }
    }

    #[test]
    fn ssh_is_judged_by_its_words() {
        for (words, state) in [
            (
                "ssh: connect to host a port 22: Connection refused",
                State::Unreachable,
            ),
            (
                "ssh: Could not resolve hostname a: Name or service not known",
                State::Unreachable,
            ),
            (
                "Connection timed out during banner exchange\nConnection to a port 22 timed out",
                State::Unreachable,
            ),
            (
                "Host key for a has changed.\r\nHost key verification failed.\r\n",
                State::NoLogin,
            ),
            ("root@a: Permission denied (publickey).", State::NoLogin),
            (
                "Unable to negotiate with a port 22: no matching host key type found. Their offer: ssh-rsa",
                State::NoLogin,
            ),
            (
                "/c/ssh_config: terminating, 1 bad configuration options",
                State::Failed,
            ),
            ("Timeout, server a not responding.", State::Lost),
            ("", State::Lost),
        ] {
            assert_eq!(judged(How::Status(255), "", words).state, state, "{words}");
        }
    }

    #[test]
    fn only_the_expected_answer_is_done() {
        let state = |stdout| judged(How::Status(0), stdout, "").state;
        assert_eq!(
            state(r#"{"base":{"generation":7,"name":"w"},"x":{}}"#),
            State::Done
        );
        for other in [
            r#"{"base":{"generation":8}}"#,
            r#"{"base":7}"#,
            "{}",
            "{\"base\":{\"gen",
            "x",
            "{}{}",
        ] {
            assert_eq!(state(other), State::Failed, "{other}");
        }
    }

    #[test]
    fn words_of_machines_move_no_terminal() {
        let answer = judged(
            How::Status(1),
            "{\"a\\u001b\":[\"\u{202e}\"]}",
            "first\n\u{1b}[31mred\n\n",
        );
        assert_eq!(answer.said.unwrap(), "\u{fffd}[31mred");
        assert_eq!(
            serde_json::to_string(&answer.answer).unwrap(),
            "{\"a\u{fffd}\":[\"\u{fffd}\"]}"
        );
        let long = judged(How::Status(1), "", &"x".repeat(10_000));
        assert_eq!(long.said.unwrap().len(), SAID_MAX_CHARS);
    }
}
