//! A configuration directory with one file.

use std::fs;

use super::common;
use crate::{Common, Exit};

/// What `read` makes of a configuration whose file `name` has this text. Its error is an invalid
/// configuration (78), and comes without the file's path in front.
pub fn configured<T>(
    name: &str,
    text: &str,
    read: impl FnOnce(&Common) -> anyhow::Result<T>,
) -> Result<T, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    let common = Common {
        config: Some(directory.path().to_owned()),
        ..common("/")
    };
    read(&common).map_err(|error| {
        assert_eq!(Exit::of(&error), Exit::Config, "{error:#}");
        format!("{error:#}").replace(&format!("{}: ", path.display()), "")
    })
}
