//! A password is gone from memory once its section is read. A test of its own, for it searches the
//! memory of its process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use jsonpipe::Document;
use zeroize::{Zeroize, Zeroizing};

/// The password with every bit inverted, so that the program itself does not hold it.
const INVERTED: [u8; 12] = [
    0x8f, 0x91, 0xcb, 0xce, 0xd2, 0x9e, 0x95, 0xc6, 0xd2, 0x8e, 0x87, 0xc8,
];

#[derive(serde::Deserialize)]
struct Login {
    password: String,
}

#[test]
fn password_is_gone_when_its_section_is_consumed() {
    let mut text = Zeroizing::new(String::with_capacity(100));
    *text += r#"{"login":{"password":""#;
    text.extend(INVERTED.iter().map(|byte| char::from(!byte)));
    *text += r#""},"choice":{}}"#;
    let mut document = Document::parse(&text, "login").unwrap();
    drop(text);
    assert!(is_in_memory(), "the search does not work");
    let mut login: Login = document.consume("login").unwrap();
    assert!(login.password.bytes().eq(INVERTED.iter().map(|byte| !byte)));
    login.password.zeroize();
    assert!(
        !is_in_memory(),
        "before the answer is written, however long that takes"
    );
    assert_eq!(document.to_string(), r#"{"choice":{}}"#);
    document
        .set("login", &serde_json::json!({"authenticated": true}))
        .unwrap();
    assert_eq!(
        document.to_string(),
        r#"{"login":{"schema":1,"authenticated":true},"choice":{}}"#
    );
}

/// Whether the password is anywhere in what this process has written.
fn is_in_memory() -> bool {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.contains(" rw-p "))
        .any(|line| {
            let (from, to) = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'))
                .unwrap();
            let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
            let mut bytes = Zeroizing::new(vec![0; (to - from) as usize]);
            // What cannot be read has gone in the meantime.
            let read = memory.read_at(&mut bytes, from).unwrap_or(0);
            bytes[..read].windows(INVERTED.len()).any(|window| {
                window
                    .iter()
                    .zip(INVERTED)
                    .all(|(byte, inverted)| *byte == !inverted)
            })
        })
}
