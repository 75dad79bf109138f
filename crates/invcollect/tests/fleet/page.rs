//! The page.

use std::fs;

use serde_json::json;

use crate::fleet;
use crate::store::{HOUR, MONDAY, Store};

/// Nothing that is loaded or run, and every element closed.
pub fn assert_one_page(page: &str) {
    for forbidden in ["<script", "http://", "https://", "src=", "url(", "@import", "javascript:", "<iframe", "onload"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for element in ["table", "tbody", "thead", "tr", "section", "details", "figure", "main", "svg", "ul"] {
        let opened = page.matches(&format!("<{element} ")).count() + page.matches(&format!("<{element}>")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn no_text_of_a_machine_is_markup() {
    const EVIL: &str = "<script>alert(1)</script>\" onload=\"x' & \u{202e}\u{0} https://evil.example/";
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
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&quot;x&#39; &amp; \u{fffd}\u{fffd}"));
    assert_one_page(&page.replace("https://evil.example/", "").replace("onload=&quot;", "").replace("&lt;script", ""));
}
