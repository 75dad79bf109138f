//! What Prometheus says, when it is not there or says nonsense; what a real one says is in
//! laboratory/fleet.rs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use super::page::assert_one_page;
use super::{WEEK, run};
use crate::store::{HOUR, MONDAY, Store};

/// What came of it: the section, and what was said on standard error.
fn ask(store: &Store, url: &str, arguments: &[&str]) -> (Value, String) {
    let output = run(
        store,
        &[&WEEK[..], &["--prometheus", url], arguments].concat(),
    );
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    (
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["fleet"].take(),
        errors,
    )
}

/// A server that says the same to all. A stand-in, for a real Prometheus does not say such things.
fn says(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let asked = BufReader::new(stream.try_clone().unwrap()).lines();
            for _ in asked
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
            {}
            let _ = stream.write_all(answer); // it may have heard enough
        }
    });
    url
}

#[test]
fn the_rest_is_as_good_without_prometheus() {
    let mut store = Store::new();
    let mut machine = store.machine("at1", "101", "one");
    machine.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |_| ());
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let redirection = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.local_addr().unwrap()
    );
    let answers: [(&'static [u8], &str); 9] = [
        (b"", "asking"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "is not one of Prometheus (expected value"),
        (b"HTTP/1.0 200 OK\r\n\r\n{\"status\":\"success\",\"data\":null}", "is not one of Prometheus (no data)"),
        (
            b"HTTP/1.0 200 OK\r\n\r\n{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"2\"]}}",
            "invalid type",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n{\"status\":\"success\",\"data\":{\"result\":[{\"metric\":{}", "EOF"),
        (b"HTTP/1.0 200 OK\r\n\r\n{\"status\":\"error\",\"error\":\"<b>no\"}", "<b>no"),
        (b"HTTP/1.0 503 No\r\n\r\nService Unavailable", "HTTP status 503"),
        (b"HTTP/1.0 400 No\r\n\r\n{\"status\":\"error\",\"error\":\"query timed out\\u001b[2J\"}", "query timed out\u{fffd}[2J"),
        (redirection.into_bytes().leak(), "HTTP status 302"),
    ];
    let page = store.path().join("page.html");
    for (answer, why) in answers {
        let url = says(answer);
        let (fleet, errors) = ask(&store, &url, &["--html", page.to_str().unwrap()]);
        assert!(
            errors.starts_with(&format!("invcollect: asking {url}/api/v1/query_range: "))
                && errors.contains(why),
            "{errors}"
        );
        assert_eq!(
            (&fleet["missing"][0]["key"], fleet.get("traffic")),
            (&json!("traffic"), None)
        );
        assert_eq!(fleet["machines"][0]["reports"], 5);
        assert!(!fs::read_to_string(&page).unwrap().contains("<b>no"));
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "it went where it was sent to");
    let (_, errors) = ask(&store, "http://127.0.0.1:1", &[]);
    assert!(
        errors.starts_with("invcollect: asking http://127.0.0.1:1/api/v1/query_range: "),
        "{errors}"
    );
    // Its own path would be a part of the query.
    let output = run(&store, &["--prometheus", "http://127.0.0.1:1?key=secret"]);
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).contains("secret")
        ),
        (Some(2), false)
    );
}

#[test]
fn traffic_checks_values_and_labels() {
    const EVIL: &str = "</text><script>alert(1)</script>\" onload=\"x\u{1b}[2J\u{202e}";
    let mut store = Store::new();
    store.list("at1", "101", "one");
    let values: Vec<Value> = ["NaN", "+Inf", "-Inf", "-5", "1e300", "x", "", "7000000"]
        .iter()
        .enumerate()
        .map(|(index, value)| json!([MONDAY + 600 * index as u64, value]))
        .chain([json!([-1e300, "1"]), json!([1e300, "1"])])
        .collect();
    let metric = json!({"campus": EVIL, "building": EVIL, "room": EVIL, "host": EVIL});
    let answer = json!({"status": "success", "data": {"result": [{"metric": metric, "values": values}, {"metric": {}, "values": []}]}});
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n{answer}");
    let page = store.path().join("page.html");
    let (fleet, errors) = ask(
        &store,
        &says(answer.into_bytes().leak()),
        &["--html", page.to_str().unwrap()],
    );
    let lines = fleet["traffic"]["lines"].as_array().unwrap();
    assert_eq!(
        (
            errors.as_str(),
            lines.len(),
            &lines[1]["peak_bytes_per_second"]
        ),
        ("", 2, &json!(7_000_000))
    );
    assert!(
        lines
            .iter()
            .all(|line| !line.to_string().contains("\\u001b")
                && !line.to_string().contains('\u{202e}')),
        "{lines:?}"
    );
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_one_page(&page.replace("onload=&quot;", ""));

    // A machine can make up interfaces.
    let many: Vec<Value> = (0..1001)
        .map(|index| json!({"metric": {"interface": index.to_string()}, "values": []}))
        .collect();
    let answer = format!(
        "HTTP/1.0 200 OK\r\n\r\n{}",
        json!({"status": "success", "data": {"result": many}})
    );
    let (_, errors) = ask(
        &store,
        &says(answer.into_bytes().leak()),
        &["--by", "interface"],
    );
    assert!(
        errors.ends_with(": more than 1000 lines; choose a --room, or another --by\n"),
        "{errors}"
    );
}
