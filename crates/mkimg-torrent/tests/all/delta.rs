//! What `create` says of an earlier generation.

use std::fs;

use serde_json::json;

use crate::server::{Server, document, said};

#[test]
fn delta_is_what_the_generation_before_has() {
    const BLOCK: u64 = 65536;
    let server = Server::bare();
    let of = |generation: u64, writes: &[(u64, &[u8])]| {
        server.image(6 * BLOCK, writes);
        let request = json!({"generation": generation, "piece_bytes": 131_072});
        server.create_image(request)
    };
    let (a, b, c) = (
        [1; BLOCK as usize],
        [2; BLOCK as usize],
        [3; BLOCK as usize],
    );
    // The first block is the disk's header, the same in all.
    let first = document(&of(7, &[(BLOCK, &a), (2 * BLOCK, &b)]));
    assert_eq!(first["image"].get("delta"), None);
    // One block moved, one is new, two pieces have all that they need.
    let map_bytes = || fs::metadata(server.file("8.blocks")).unwrap().len();
    let second = document(&of(8, &[(BLOCK, &b), (4 * BLOCK, &c)]));
    assert_eq!(
        second["image"]["delta"],
        json!({"generation": 7, "shared_bytes": 2 * BLOCK, "fetched_bytes": 2 * BLOCK + map_bytes(), "whole_bytes": 4 * BLOCK})
    );
    // Nothing changes when it is asked again.
    assert_eq!(
        document(&of(8, &[(BLOCK, &b), (4 * BLOCK, &c)]))["image"]["delta"],
        second["image"]["delta"]
    );

    // A map that is not the signed one is not compared with, and the one before it is.
    let mut wrong = fs::read(server.file("8.blocks")).unwrap();
    wrong[0] ^= 1;
    fs::remove_file(server.file("8.blocks")).unwrap();
    fs::write(server.file("8.blocks"), wrong).unwrap();
    let third = of(9, &[(BLOCK, &c)]);
    assert!(
        said(&third.stderr)
            .contains("8.blocks: not the block map of its manifest; not compared with that image"),
        "{third:?}"
    );
    assert_eq!(document(&third)["image"]["delta"]["generation"], 7);
}
