//! Huge pages and the firmware's framebuffer, given back from a journal.

use std::fs;

use handover::restore;
use serde_json::json;

use crate::tree::Tree;

const NUMBER: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const SURPLUS: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages";

/// The journal of a guest that got 30 huge pages, where the host had 10.
fn journal(console: &serde_json::Value) -> String {
    json!({"schema": 1, "boot_id": "this-boot", "devices": [], "parked": [], "groups": [],
        "console": console,
        "huge_pages": {"page_bytes": 2 << 20, "before": 10, "with_guest": 40}})
    .to_string()
}

#[test]
fn the_pages_of_the_guest_are_given_back_and_those_of_the_host_stay() {
    let tree = Tree::new();
    for (found, surplus, left) in [
        (10, 0, 10), // killed before the pages were reserved
        (40, 0, 10),
        (25, 0, 10), // while they were
        (4, 0, 4),   // it has given up some of its own
        (50, 0, 20), // a program has reserved 10 since
        (15, 5, 15), // a program has 5 that nobody reserved
    ] {
        tree.write(NUMBER, &format!("{found}\n"));
        tree.write(SURPLUS, &format!("{surplus}\n"));
        tree.journal(&journal(&json!({"consoles": [], "framebuffers": []})));
        assert!(restore(&tree.common).unwrap().unwrap().whole, "{found}");
        assert_eq!(tree.read(NUMBER), format!("{left}\n"), "{found}");
    }
}

#[test]
fn the_pages_of_the_guest_are_given_back_once_although_more_is_left() {
    let tree = Tree::new();
    tree.write(NUMBER, "50\n"); // a program has reserved 10 since
    tree.write(SURPLUS, "0\n");
    tree.journal(&journal(
        &json!({"consoles": ["vtcon1"], "framebuffers": []}),
    ));
    fs::create_dir_all(tree.path("sys/class/vtconsole/vtcon1")).unwrap();
    for _ in 0..2 {
        assert!(!restore(&tree.common).unwrap().unwrap().whole);
        assert_eq!(tree.read(NUMBER), "20\n");
    }
}

#[test]
fn the_console_is_put_back_on_the_firmwares_framebuffer() {
    let tree = Tree::new();
    let driver = "sys/bus/platform/drivers/efi-framebuffer";
    tree.write(&format!("{driver}/bind"), "");
    tree.write("sys/class/vtconsole/vtcon1/bind", "0\n");
    let journal =
        json!({"schema": 1, "boot_id": "this-boot", "devices": [], "parked": [], "groups": [],
        "console": {"consoles": ["vtcon1"],
            "framebuffers": [{"driver": "efi-framebuffer", "device": "efi-framebuffer.0"}]},
        "huge_pages": null})
        .to_string();
    tree.journal(&journal);
    let left = restore(&tree.common).unwrap().unwrap().left;
    assert_eq!(
        left,
        ["efi-framebuffer.0: not bound"],
        "no file of a tree does anything"
    );
    assert_eq!(tree.read(&format!("{driver}/bind")), "efi-framebuffer.0\n");
    assert_eq!(tree.read("sys/class/vtconsole/vtcon1/bind"), "1\n");

    fs::create_dir(tree.path(&format!("{driver}/efi-framebuffer.0"))).unwrap();
    assert!(restore(&tree.common).unwrap().unwrap().whole);
}
