//! Cases as directories: one holds the input, another the expected output.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Compares the found files with the directory `expected` of a case, all files at once, so that one
/// difference hides no other. With LABTOOLS_REMAKE in the environment the found files become the
/// expected ones: read the difference before you commit it.
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

/// Copies a directory recursively.
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
