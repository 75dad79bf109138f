//! The page.

use std::fs;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::fleet;
use crate::store::{DAY, HOUR, MONDAY, Store};

/// Nothing that is loaded or run, every element closed, and every link leads somewhere.
pub fn assert_one_page(page: &str) {
    for forbidden in [
        "<script",
        "http://",
        "https://",
        "src=",
        "url(",
        "@import",
        "javascript:",
        "<iframe",
        "onload",
        " style=",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for element in [
        "table", "tbody", "thead", "tr", "section", "details", "figure", "main", "svg", "ul",
    ] {
        let opened = page.matches(&format!("<{element} ")).count()
            + page.matches(&format!("<{element}>")).count();
        assert_eq!(
            opened,
            page.matches(&format!("</{element}>")).count(),
            "{element}"
        );
    }
    let between =
        |start: &str, end: &str| page.split(start).nth(1).unwrap().split(end).next().unwrap();
    let digest = BASE64_STANDARD.encode(Sha256::digest(between("<style>", "</style>")));
    let policy = between("http-equiv=\"Content-Security-Policy\" content=\"", "\"");
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        )
    );
    for link in page
        .split(" href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        let id = link
            .strip_prefix('#')
            .unwrap_or_else(|| panic!("{link} leads away"));
        assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
    }
}

#[test]
fn texts_of_machines_are_not_markup() {
    const EVIL: &str =
        "<script>alert(1)</script>\" onload=\"x' & \u{202e}\u{0} https://evil.example/";
    let mut store = Store::new();
    let mut machine = store.enroll(7, "<b>building", "<i>room", "evil");
    machine.on(MONDAY + 8 * HOUR, MONDAY + 9 * HOUR, |host| {
        host["hostname"] = EVIL.into();
        host["system"] = json!({"model": EVIL, "serial": EVIL, "uuid": EVIL});
        host["interfaces"] = json!([{"name": EVIL, "hardware": true, "wireless": true, "carrier": true, "station": {"ssid": EVIL}, "addresses": [EVIL]}]);
        host["bases"] = json!([{"name": EVIL, "generation": u64::MAX, "programs": [{"name": EVIL, "version": EVIL}]}]);
        host["filesystems"] = json!([{"path": EVIL, "source": EVIL, "hanging": true, "total_bytes": u64::MAX, "used_bytes": u64::MAX, "available_bytes": 0}]);
        host["changes"] = json!([{"id": EVIL, "told_at": EVIL, "part": "disk", "action": "removed", "subject": EVIL, "before": EVIL}]);
        host["memory"] = json!({"installed_bytes": u64::MAX, "usable_bytes": u64::MAX, "available_bytes": 0});
        host["place"] = json!({"net": EVIL, "campus": EVIL, "building": EVIL, "room": EVIL});
    });
    machine.event(MONDAY + 9 * HOUR, "disk_removed", EVIL);
    let page = store.path().join("page.html");
    fleet(&store, &["--html", page.to_str().unwrap()]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&quot;x&#39; &amp; \u{fffd}\u{fffd}"
    ));
    assert_one_page(
        &page
            .replace("https://evil.example/", "")
            .replace("onload=&quot;", "")
            .replace("&lt;script", ""),
    );
}

#[test]
fn page_gives_an_action_once_per_room() {
    let mut store = Store::new();
    for (name, gib) in [("a", 4u64), ("b", 4), ("c", 2)] {
        let mut machine = store.machine("at1", "101", name);
        machine.on(MONDAY + 6 * DAY, MONDAY + 6 * DAY + HOUR, |host| {
            host["memory"]["installed_bytes"] = (gib << 30).into()
        });
    }
    let page = store.path().join("page.html");
    fleet(&store, &["--html", page.to_str().unwrap()]);
    let page = fs::read_to_string(page).unwrap();
    let of_factory = "of memory, and the model has 8 GiB when new";
    assert!(
        page.contains("These need a person on site. <b>3</b> memory missing.</p>"),
        "{page}"
    );
    assert!(
        page.contains(&format!(
            "<tr><th scope=\"row\"><span>c</span></th><td>2 GiB {of_factory}</td><td rowspan=\"2\">"
        )),
        "{page}"
    );
    assert!(
        page.contains(&format!("<tr><th scope=\"row\"><span>a</span>, <span>b</span></th><td>4 GiB {of_factory}</td></tr>")),
        "{page}"
    );
    assert_eq!(page.matches("Check the slots").count(), 1);
    assert_one_page(&page);
}

#[test]
fn page_groups_actions_by_machine() {
    let mut store = Store::new();
    for (name, opened) in [("h03", true), ("h05", false), ("h09", true)] {
        let mut machine = store.machine("at1", "101", name);
        machine.on(MONDAY + 6 * DAY, MONDAY + 6 * DAY + HOUR, |host| {
            host["chassis"]["opened"] = opened.into();
            host["boot"]["clock_before_image"] = (name != "h09").into();
            host["memory"]["installed_bytes"] = (if name == "h09" { 2u64 } else { 4 } << 30).into();
        });
    }
    let page = store.path().join("page.html");
    fleet(&store, &["--html", page.to_str().unwrap()]);
    let page = fs::read_to_string(page).unwrap();
    let visit = page
        .split("<section id=\"visit\"")
        .nth(1)
        .unwrap()
        .split("</section>")
        .next()
        .unwrap();
    let rows = visit.split("<tr><th scope=\"row\"><span>").skip(1);
    let hosts: Vec<_> = rows.map(|row| row.split('<').next().unwrap()).collect();
    assert_eq!(hosts, ["h09", "h09", "h03", "h03", "h03", "h05", "h05"]);
    assert_one_page(&page);
}

#[test]
fn page_uses_the_singular_for_one_machine() {
    let mut store = Store::new();
    store.list("at1", "101", "new");
    let mut nowhere = store.enroll(7, "", "", "nowhere");
    let mut document = nowhere.document(MONDAY + 6 * DAY, MONDAY + 6 * DAY + HOUR);
    document["host"]["place"] = json!(null);
    nowhere.snapshot(&document, MONDAY + 6 * DAY + HOUR);
    let page = store.path().join("page.html");
    let fleet = fleet(&store, &["--html", page.to_str().unwrap()]);
    let advice = "Check that it is installed and enrolled; then its power and network cables, and whether it stopped in POST.";
    assert_eq!(
        (&fleet["visit"][0]["seen"], &fleet["visit"][0]["do"]),
        (&json!("it never reported"), &json!(advice))
    );
    let page = fs::read_to_string(page).unwrap();
    for text in [
        "<b>1</b>machine to visit<",
        "<b>1</b>machine to look after from a desk<",
        "<summary>at1, room 101 <small>1 machine</small>",
        "<summary>no room known <small>1 machine</small>",
        "1 report was read and believed, 0 were not.",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}
