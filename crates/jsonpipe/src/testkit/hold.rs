//! A lock that a test holds, as another run of a tool would.

use std::fs::{self, File};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// Makes the file at `path` and holds its lock until the guard is dropped.
///
/// The guard unlocks, which releases the lock at once. A close alone does not: a child that another
/// test has just forked has the descriptor until its exec, and the lock with it.
pub fn hold(path: &Path) -> Flock<File> {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    Flock::lock(File::create(path).unwrap(), FlockArg::LockExclusive).unwrap()
}
