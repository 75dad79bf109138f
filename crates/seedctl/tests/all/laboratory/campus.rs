//! A campus of its own for each test, of `scripts/lab/campus`; it is taken down when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The campus.
pub struct Campus {
    directory: TempDir,
}

impl Campus {
    /// Brings it up.
    pub fn up(options: &[&str]) -> Campus {
        let directory = tempfile::Builder::new()
            .prefix("labtools-")
            .tempdir()
            .unwrap();
        let campus = Campus { directory };
        campus.script("up", options);
        campus
    }

    /// What is `/NAME` on a host, or in the campus's own directory without a host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("net").join(name)
    }

    /// A directory that every host sees under the same path.
    pub fn shared(&self) -> &Path {
        self.directory.path()
    }

    /// A command on a host; the process that is started is the command.
    pub fn on(&self, host: &str, arguments: &[&str]) -> Command {
        let mut command = self.command("run", &[host]);
        command.args(arguments);
        command
    }

    /// Runs a verb of the script.
    pub fn script(&self, verb: &str, arguments: &[&str]) -> String {
        let output = self.command(verb, arguments).output().unwrap();
        assert!(
            output.status.success(),
            "campus {verb} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lab/campus"));
        command.arg(verb).arg(self.path("")).args(arguments);
        command
    }
}

impl Drop for Campus {
    fn drop(&mut self) {
        let _ = self.command("down", &[]).status(); // a second panic would hide the first
    }
}
