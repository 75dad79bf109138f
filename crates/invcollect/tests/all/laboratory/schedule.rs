//! What makes it run: Debian's cron with the line of scripts/host, and NetworkManager with the
//! hook.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use invcollect::push::turn;

use super::collector::{Collector, H1, Host, script};

const BINARY: &str = env!("CARGO_BIN_EXE_invcollect");

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(
            since.elapsed() < Duration::from_secs(120),
            "waited in vain: {what}"
        );
        sleep(Duration::from_millis(50));
    }
}

/// `cargo test` that is killed takes its collectors down, and they hold none of its locks.
#[test]
fn a_collector_goes_down_with_its_process_and_has_none_of_its_files() {
    let directory = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("labtools-").tempdir().unwrap()
    };
    let (collector, other) = (directory(), directory());
    let lock = other.path().join("lock");
    let mut caller = Daemon(
        Command::new("sh")
            .args(["-c", r#"exec 8>"$2"; flock 8; "$0" up "$1" --until-pid $$ && echo up && exec sleep infinity"#])
            .arg(script("lab/collector"))
            .args([collector.path(), &lock])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let stdout = caller.0.stdout.take().unwrap();
    let is_up = |line: io::Result<String>| line.unwrap() == "up";
    assert!(BufReader::new(stdout).lines().any(is_up));
    let pid = fs::read_to_string(collector.path().join("pid/namespace")).unwrap();
    let holder = Path::new("/proc").join(pid.trim());
    assert!(holder.exists());
    drop(caller);
    let free = Command::new("flock")
        .arg("-n")
        .arg(&lock)
        .arg("true")
        .status();
    assert!(
        free.unwrap().success(),
        "a program of the collector has the lock"
    );
    wait_until("the collector goes down", || {
        !holder.exists() && !collector.path().join("root").exists()
    });
}

/// An invcollect for a machine in a directory, which notes that it was called.
fn wrapper(host: &Host<'_>) -> PathBuf {
    let directory = host.path("bin");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("invcollect");
    let root = host.root.display();
    fs::write(
        &path,
        format!("#!/bin/sh\necho \"$*\" >>{root}/calls\nexec {BINARY} \"$@\" --root {root}\n"),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn calls(host: &Host<'_>, what: &str) -> usize {
    fs::read_to_string(host.path("calls"))
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with(what))
        .count()
}

/// A process that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn cron_makes_it_report() {
    let collector = Collector::up();
    // A host whose turn comes at once, and is over: cron's clock is not that of what it runs.
    let ids = (0..).map(|number: u64| format!("5f0c1f5e-0000-4000-8000-{number:012x}"));
    let id = ids
        .into_iter()
        .find(|id| turn(id) < Duration::from_millis(500))
        .unwrap();
    let host = collector.host(&id);
    let bin = wrapper(&host);
    fs::create_dir_all(host.path("var/lib/prometheus/node-exporter")).unwrap();
    let tab = host.path("cron.d");
    fs::create_dir(&tab).unwrap();
    // Metrics go to a place of the machine that is the laboratory's here.
    let line = fs::read_to_string(script("host/labtools-inventory.cron")).unwrap();
    let line = line.replace(
        "/var/lib/prometheus",
        &host.path("var/lib/prometheus").display().to_string(),
    );
    fs::write(tab.join("labtools-inventory"), line).unwrap();
    // Shortly before a quarter of an hour, in the middle of a night.
    let daemon = r#"mount --bind "$1" /etc/cron.d; mount --bind "$2" /usr/local/bin
        for own in /run /var/spool/cron /dev/shm; do mount -t tmpfs own $own; done; mkdir /var/spool/cron/crontabs; : >"$1/../crontab"
        mount --bind "$1/../crontab" /etc/crontab
        exec faketime -f '@2027-01-12 03:14:40' cron -f"#;
    let mut cron = collector.inside("unshare", &["--mount", "sh", "-ec", daemon, "sh"]);
    let cron = cron
        .arg(&tab)
        .arg(&bin)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _cron = Daemon(cron);
    wait_until("cron fires", || {
        calls(&host, "push --spread") > 0 && calls(&host, "metrics ") > 0
    });
    wait_until("the report arrives", || {
        fs::read_dir(collector.store("reports").join(&id))
            .unwrap()
            .count()
            > 0
    });
    collector.assert_complete(&id, &[]);
    wait_until("the metrics are there", || {
        host.path("var/lib/prometheus/node-exporter/labtools.prom")
            .exists()
    });
    assert_eq!(calls(&host, "changes"), 1);
}

/// NetworkManager in scripts/lab/wired-8021x, without 802.1X.
struct Network {
    directory: tempfile::TempDir,
}

impl Network {
    fn up() -> Network {
        let network = Network {
            directory: tempfile::Builder::new()
                .prefix("labtools-")
                .tempdir()
                .unwrap(),
        };
        network.script("up", &["--until-pid", &std::process::id().to_string()]);
        network.script("mode", &["plain"]);
        network
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(script("lab/wired-8021x"));
        command
            .arg(verb)
            .arg(self.directory.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn script(&self, verb: &str, arguments: &[&str]) {
        let output = self.command(verb, arguments).output().unwrap();
        assert!(
            output.status.success(),
            "wired-8021x {verb} {arguments:?}: {output:?}"
        );
    }

    fn is(&self, test: &str) -> bool {
        self.command("run", &["sh", "-c", test])
            .status()
            .unwrap()
            .success()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.script("down", &[]);
    }
}

#[test]
fn a_changed_connection_makes_it_report_once_it_has_come_to_rest() {
    let collector = Collector::up();
    let host = collector.host(H1);
    // Nobody is asked for a name: the switch there answers nothing.
    fs::write(
        host.path("etc/labtools/invcollect.ini"),
        "[push]\nurl=https://127.0.0.1:1\n",
    )
    .unwrap();
    let bin = wrapper(&host);
    let network = Network::up();
    let hook = script("host/network-changed").canonicalize().unwrap();
    let install = format!(
        "mount --bind {} /usr/local/bin; hooks=/etc/NetworkManager/dispatcher.d; mkdir -p $hooks/no-wait.d; \
         cp {} $hooks/no-wait.d/90-labtools; ln -s no-wait.d/90-labtools $hooks/90-labtools",
        bin.display(),
        hook.display()
    );
    network.script("run", &["sh", "-ec", &install]);
    let log = fs::File::create(host.path("dispatcher.log")).unwrap();
    let dispatcher = network.command(
        "run",
        &[
            "/usr/lib/NetworkManager/nm-dispatcher",
            "--debug",
            "--persist",
        ],
    );
    let _dispatcher = Daemon(
        { dispatcher }
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    wait_until("the dispatcher is on the bus", || {
        network.is("dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetNameOwner \
                    string:org.freedesktop.nm_dispatcher >/dev/null 2>&1")
    });
    for port in ["eth0", "eth1"] {
        network.script(
            "run",
            &[
                "nmcli",
                "connection",
                "add",
                "type",
                "ethernet",
                "ifname",
                port,
                "con-name",
                port,
            ],
        );
    }
    let at_rest = || {
        let quiet = "[ ! -e /run/labtools/network-changed ] && flock -n /run/labtools/network-changed.lock true";
        wait_until("it has come to rest", || network.is(quiet));
    };
    // Two connections come up at once, each with several events: one report.
    network.script("run", &["nmcli", "connection", "up", "eth0"]);
    network.script("run", &["nmcli", "connection", "up", "eth1"]);
    wait_until("it reports", || calls(&host, "push --now") > 0);
    at_rest();
    assert!(
        events(&host) >= 2,
        "{}",
        fs::read_to_string(host.path("dispatcher.log")).unwrap()
    );
    let reports = calls(&host, "push --now");
    assert!(
        reports < events(&host),
        "{reports} reports of {} events",
        events(&host)
    );
    assert_eq!(
        (host.waiting().len(), calls(&host, "changes")),
        (reports, reports),
        "nobody can be reached, and it is kept"
    );
    // A cable is taken out.
    network.script("run", &["nmcli", "connection", "down", "eth1"]);
    wait_until("it reports again", || calls(&host, "push --now") > reports);
    at_rest();
}

/// The events for which the dispatcher has run the hook.
fn events(host: &Host<'_>) -> usize {
    let log = fs::read_to_string(host.path("dispatcher.log")).unwrap();
    log.lines()
        .filter(|line| line.contains("90-labtools") && line.contains("run script"))
        .count()
}
