//! Cases as directories: `testdata/invcollect/KIND/CASE/in` goes in, and what comes out is
//! `expected`.

use std::path::{Path, PathBuf};

/// The directory of a case.
pub fn case(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/invcollect")
        .join(kind)
        .join(name)
}
