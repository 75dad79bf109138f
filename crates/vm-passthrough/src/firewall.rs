//! The rule that keeps a guest away from the host's loopback.
//!
//! In QEMU's user network the guest's 10.0.2.2 is the host's 127.0.0.1, whose services trust every
//! client. The rule drops QEMU's packets to it by the sending user, whatever the guest or QEMU
//! does.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use jsonpipe::{Exit, ExitContext, lock};
use nix::unistd::{Uid, geteuid};
use serde_json::{Value, json};

/// The table that holds the rule, and nothing else.
const TABLE: [&str; 2] = ["inet", "labtools_guest"];
const REMOVING: &str = "removing the firewall rule for QEMU's user";

/// The places of root's programs. The PATH of a user who became root by su(1) lacks them.
const SBIN: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The abstract socket of the tool whose guest has the rule.
const NAME: &[u8] = b"labtools/vm-passthrough";

/// Proof that no other guest runs in this network namespace, which has one rule. Unlike the guest's
/// lock it has no file: /run/labtools can be deleted while a guest runs. Status 75 when one runs.
/// `None` where another user's process has the name and must not keep guests from starting.
pub fn alone() -> anyhow::Result<Option<UnixListener>> {
    const DOING: &str = "looking for another guest of this network";
    let bound =
        SocketAddr::from_abstract_name(NAME).and_then(|name| UnixListener::bind_addr(&name));
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match lock::reach(NAME) {
            Ok((_, true)) => Err(Exit::TemporaryFailure.error(format_args!(
                "{DOING}: one runs, whose lock was deleted or has another root; try again when it has ended"
            ))),
            _ => Ok(None),
        },
        bound => bound.map(Some).exit(Exit::Io, || DOING),
    }
}

/// Whether a guest runs in this network namespace.
pub fn has_guest() -> bool {
    matches!(lock::reach(NAME), Ok((_, true)))
}

/// The active rule. Dropping it removes it.
#[derive(Debug)]
pub struct Rule {
    in_force: bool,
}

impl Rule {
    /// Installs the rule, replacing one that a killed run may have left, and verifies it.
    pub fn install(uid: Uid) -> anyhow::Result<Rule> {
        const DOING: &str = "installing the firewall rule for QEMU's user";
        let table = TABLE.join(" ");
        // The first two lines work whether the table exists or not.
        let script = format!(
            "table {table}\n\
             delete table {table}\n\
             table {table} {{\n\
             chain output {{\n\
             type filter hook output priority filter; policy accept;\n\
             oif lo meta skuid {uid} drop\n\
             }}\n\
             }}\n"
        );
        nft(&["-f", "-"], &script, DOING)?;
        let rule = Rule { in_force: true };
        let listing = nft(
            &["-j", "list", "chain", TABLE[0], TABLE[1], "output"],
            "",
            DOING,
        )?;
        if !says(&listing, uid) {
            return Err(Exit::Config.error(format_args!(
                "{DOING}: nft lists another rule than the one it was given"
            )));
        }
        Ok(rule)
    }

    /// Removes the rule.
    pub fn remove(mut self) -> anyhow::Result<()> {
        self.in_force = false;
        delete()
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        if self.in_force {
            // Used after another error, which is the one to report; `restore` and the next run
            // remove any remains.
            let _ = delete();
        }
    }
}

/// Whether there is a rule, which a run that was killed may have left. Status 77 without root. On a
/// machine without nft no guest has started, and there is none.
pub fn is_left() -> anyhow::Result<bool> {
    const DOING: &str = "looking for the firewall rule of the last guest";
    if !geteuid().is_root() {
        return Err(Exit::NoPermission.error(format_args!("{DOING}: needs root")));
    }
    match nft(&["-j", "list", "tables"], "", DOING) {
        Ok(listing) => has_table(&listing).exit(Exit::Software, || DOING),
        Err(error) if Exit::of(&error) == Exit::Unavailable => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the rule of a run that was killed, and returns whether there was one. The caller holds
/// the guest's lock.
pub fn remove_left() -> anyhow::Result<bool> {
    let is_left = is_left()?;
    if is_left {
        delete()?;
    }
    Ok(is_left)
}

fn delete() -> anyhow::Result<()> {
    nft(&["delete", "table", TABLE[0], TABLE[1]], "", REMOVING).map(drop)
}

/// Whether a listing of tables in JSON has ours.
fn has_table(listing: &[u8]) -> serde_json::Result<bool> {
    let listing: Value = serde_json::from_slice(listing)?;
    let mut objects = listing["nftables"].as_array().into_iter().flatten();
    Ok(objects.any(|object| {
        let table = &object["table"];
        table["family"] == TABLE[0] && table["name"] == TABLE[1]
    }))
}

/// Whether a listing in JSON contains a chain at the output hook whose first rule is ours.
fn says(listing: &[u8], uid: Uid) -> bool {
    let matching = |key: &str, right: Value| json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}});
    let ours = json!([matching("oif", "lo".into()), matching("skuid", uid.as_raw().into()), {"drop": null}]);
    let Ok(listing) = serde_json::from_slice::<Value>(listing) else {
        return false;
    };
    let objects = listing["nftables"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let first = objects.iter().find_map(|object| object.get("rule"));
    objects
        .iter()
        .any(|object| object["chain"]["hook"] == "output")
        && first.is_some_and(|rule| rule["expr"] == ours)
}

/// The path of nft, in PATH or among root's programs. Status 69 when it is not there.
pub fn program() -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SBIN.map(PathBuf::from));
    let mut programs = directories
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("nft"));
    let found = programs.find(|program| {
        fs::metadata(program)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    });
    found.exit(Exit::Unavailable, || "no program nft; install nftables")
}

/// Runs nft and returns its output.
fn nft(arguments: &[&str], input: &str, doing: &str) -> anyhow::Result<Vec<u8>> {
    let program =
        program().map_err(|error| Exit::of(&error).error(format_args!("{doing}: {error:#}")))?;
    let run = || -> io::Result<Output> {
        let mut command = Command::new(&program);
        // Numeric users, whatever their names are. Ctrl-C must not leave half a rule.
        command.arg("-n").args(arguments).process_group(0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // A nft that does not read its input reports the reason on standard error.
        let _ = child
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    };
    let output = run().exit(Exit::Software, || {
        format!("{doing}: starting {}", program.display())
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let arguments = arguments.join(" ");
        return Err(Exit::Config.error(format_args!(
            "{doing}: nft -n {arguments}: {}",
            said.trim().replace('\n', "; ")
        )));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of nft 1.0.6.
    const LISTING: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"chain": {"family": "inet", "table": "labtools_guest", "name": "output", "handle": 1, "type": "filter", "hook": "output",
         "prio": 0, "policy": "accept"}}, {"rule": {"family": "inet", "table": "labtools_guest", "chain": "output", "handle": 2,
         "expr": [{"match": {"op": "==", "left": {"meta": {"key": "oif"}}, "right": "lo"}},
                  {"match": {"op": "==", "left": {"meta": {"key": "skuid"}}, "right": 64000}}, {"drop": null}]}}]}"#;

    #[test]
    fn only_the_rule_itself_is_believed() {
        let uid = Uid::from_raw(64000);
        assert!(says(LISTING.as_bytes(), uid));
        assert!(!says(LISTING.as_bytes(), Uid::from_raw(64001)));
        for (word, other) in [
            ("\"drop\"", "\"accept\""),
            ("\"output\"", "\"input\""),
            ("\"lo\"", "\"eth0\""),
            ("\"==\"", "\"!=\""),
        ] {
            assert!(
                !says(LISTING.replace(word, other).as_bytes(), uid),
                "{word}"
            );
        }
        assert!(!says(b"", uid));
    }
}
