//! Cases as directories: `testdata/invcollect/KIND/CASE/in` goes in, and what comes out is `expected`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of a case.
pub fn case(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/invcollect").join(kind).join(name)
}

/// Compares all files at once, so that one difference hides none. With LABTOOLS_REMAKE in the environment the files found become those
/// expected: read the difference before you commit it.
pub fn assert_expected(case: &Path, found: &Path) {
    let expected = case.join("expected");
    if std::env::var_os("LABTOOLS_REMAKE").is_some() {
        let _ = fs::remove_dir_all(&expected);
        copy(found, &expected);
    }
    let diff = Command::new("diff").arg("-urN").arg(&expected).arg(found).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

/// A directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").arg("-R").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success(), "{}", from.display());
}
