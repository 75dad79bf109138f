//! `--check`: what is wrong with a description is found before its image is made.

use serde_json::{Value, json};

use crate::server::{KEY, Server, names, request, store};

#[test]
fn create_refuses_a_wrong_description_before_there_is_an_image() {
    let server = Server::bare();
    let check = |more: Value| server.run(&["create", "--check"], &request(more));
    let whole = check(json!({}));
    assert_eq!(
        (whole.status, whole.stdout.trim_end(), &*whole.stderr),
        (0, &*request(json!({})), "")
    );
    for (more, complaint) in [
        (json!({"name": "Windows"}), "image.name: not a name"),
        (json!({"title": ""}), "describing the image: title: empty"),
        (json!({"generation": 0}), "image.generation: 0"),
        (json!({"trackers": "ftp://a.example"}), "image.trackers: "),
        (json!({"trackers": []}), "image.trackers: empty"),
        (json!({"models": ["a\tb"]}), "image.models: "),
        (json!({"created_at": "today"}), "image.created_at: "),
        (json!({"piece_bytes": 3}), "image.piece_bytes: not a power"),
    ] {
        check(more).refused(65, complaint);
    }
    let keyed = |key: &str| server.run(&["create", "--check", "--key", key], &request(json!({})));
    assert_eq!(keyed(KEY).status, 0);
    keyed("/nowhere").refused(66, "reading /nowhere: ");
    assert_eq!(names(&store(server.root())), [""; 0]);
}

#[test]
fn host_refuses_a_wrong_description_before_there_is_an_image() {
    let server = Server::bare();
    let check = |more: Value| {
        let mut document = json!({"image": {"name": "lab", "version": 8}});
        let image = document["image"].as_object_mut().unwrap();
        image.extend(more.as_object().unwrap().clone());
        let key = ["host", "--check", "--key", KEY];
        server.run(&key, &document.to_string())
    };
    assert_eq!(check(json!({})).status, 0);
    for kind in ["host", "zfs_host"] {
        for (more, complaint) in [
            (
                json!({"name": "Lab", "kind": kind}),
                "describing the image: name: ",
            ),
            (
                json!({"version": 0, "kind": kind}),
                "describing the image: version: 0",
            ),
            (json!({"models": [""], "kind": kind}), "image.models: "),
        ] {
            check(more).refused(65, complaint);
        }
    }
}
