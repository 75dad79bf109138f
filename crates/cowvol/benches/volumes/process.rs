//! Runs of programs: how long they take, and the most memory that they have.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use nix::libc;

/// Runs a program, which must succeed, with `input` on its standard input.
pub fn run(command: &mut Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("a request");
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The most memory that a program had resident, in KiB; at least that of this process when it starts
/// it.
#[allow(clippy::zombie_processes, reason = "wait4(2) waits for it")]
pub fn peak_kib(command: &mut Command) -> i64 {
    let child = command.stdout(Stdio::null()).spawn().expect("it starts");
    let (mut status, pid) = (0, child.id() as libc::pid_t);
    // SAFETY: all zeros are an account of nothing.
    #[allow(unsafe_code, reason = "only wait4(2) accounts for one child")]
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to places of these types, which outlive the call.
    #[allow(unsafe_code, reason = "the same")]
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!((waited, status), (pid, 0), "{command:?}");
    usage.ru_maxrss
}

/// Milliseconds of some runs.
#[derive(Clone, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// Adds one run.
    pub fn of<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let result = run();
        self.0.push(since.elapsed().as_secs_f64() * 1e3);
        result
    }

    /// That many hundredths of the runs took no longer.
    fn within(&self, hundredths: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() * hundredths).div_ceil(100) - 1]
    }

    pub fn median(&self) -> f64 {
        self.within(50)
    }

    pub fn p99(&self) -> f64 {
        self.within(99)
    }

    /// The median, and the time within which 99 of 100 runs end.
    pub fn shown(&self) -> String {
        format!("{:.2} ({:.2})", self.median(), self.p99())
    }
}
