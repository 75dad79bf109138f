//! Huge pages and the firmware's framebuffer, given back from a journal.

use std::fs;

use handover::restore;
use serde_json::json;

use crate::tree::Tree;

const NUMBER: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

#[test]
fn the_pages_of_the_guest_are_given_back_and_those_of_the_host_stay() {
    let tree = Tree::new();
    for (found, left) in [
        (10, 10), // killed before the pages were reserved
        (40, 10),
        (25, 10), // while they were
        (4, 4),   // it has given up some of its own
    ] {
        tree.write(NUMBER, &format!("{found}\n"));
        tree.journal(
            &json!({"schema": 1, "boot_id": "this-boot", "devices": [], "parked": [], "groups": [],
                "console": {"consoles": [], "framebuffers": []},
                "huge_pages": {"page_bytes": 2 << 20, "before": 10, "with_guest": 40}})
            .to_string(),
        );
        assert!(restore(&tree.common).unwrap().unwrap().whole, "{found}");
        assert_eq!(tree.read(NUMBER), format!("{left}\n"), "{found}");
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
