//! Cases as directories: what goes in lies in one, and what comes out is compared with another.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Compares what was found with the directory `expected` of a case, all files at once, so that one
/// difference hides none. With LABTOOLS_REMAKE in the environment the files found become those
/// expected: read the difference before you commit it.
pub fn assert_expected(case: &Path, found: &Path) {
    let expected = case.join("expected");
    if std::env::var_os("LABTOOLS_REMAKE").is_some() {
        let _ = fs::remove_dir_all(&expected);
        copy(found, &expected);
    }
    let diff = Command::new("diff")
        .arg("-urN")
        .arg(&expected)
        .arg(found)
        .output()
        .unwrap();
    assert!(
        diff.status.success(),
        "{}",
        String::from_utf8_lossy(&diff.stdout)
    );
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp")
        .arg("-R")
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success(), "{}", from.display());
}
