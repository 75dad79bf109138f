//! The scripts that bring a root to a machine, and what stands in for the rest of it: a zfs and an
//! abflip that fail when they are told to. They need root, for a mount namespace in which the
//! machine's directories are empty.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsonpipe::testkit::Ended;
use tempfile::TempDir;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts")
        .canonicalize()
        .unwrap()
}

/// The tools of this workspace, for a script that joins them.
pub fn tools() -> &'static Path {
    let tools = Path::new(env!("CARGO_BIN_EXE_abflip")).parent().unwrap();
    assert!(
        tools.join("mkimg-torrent").exists(),
        "cargo build -p mkimg-torrent makes what these tests need beside abflip"
    );
    tools
}

/// A directory with programs that come first in the PATH, in which a script runs.
pub struct Stand(TempDir);

impl Stand {
    pub fn with(program: &str, text: &str) -> Stand {
        let stand = Stand(tempfile::tempdir().unwrap());
        fs::create_dir(stand.path("bin")).unwrap();
        fs::write(stand.path("bin").join(program), text).unwrap();
        fs::set_permissions(
            stand.path("bin").join(program),
            Permissions::from_mode(0o755),
        )
        .unwrap();
        stand
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A script, where /run, /var/log and /etc/labtools are empty but for `prepare`, and
    /// /proc/cmdline is the file `cmdline`.
    pub fn run(&self, prepare: &str, script: &str, arguments: &[&str]) -> Ended {
        const ALONE: &str = "
            for directory in /run /var/log; do mount -t tmpfs tmpfs $directory; done
            mkdir /run/upper /run/work
            mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
            rm -rf /etc/labtools
            mkdir /etc/labtools
            [ ! -e cmdline ] || mount --bind cmdline /proc/cmdline
            PATH=$PWD/bin:$TOOLS:$PATH FAKE=$PWD";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-ec",
            &format!("{ALONE}; export PATH FAKE; {prepare}\nexec \"$@\""),
            "sh",
        ]);
        command
            .arg(scripts().join(script))
            .args(arguments)
            .current_dir(self.0.path());
        command.env("TOOLS", tools());
        let input = self.path("input");
        let input = if input.exists() {
            fs::File::open(input).unwrap().into()
        } else {
            Stdio::null()
        };
        Ended::of(command.stdin(input).output().unwrap())
    }
}

/// A pool in files: a file per file system, with the properties `labtools:verified` and its
/// snapshot's name in two lines.
const ZFS: &str = r#"#!/bin/sh
[ ! -e "$FAKE/fails" ] || ! echo "$*" | grep -q -- "$(cat "$FAKE/fails")" || { echo "cannot $1: asked to fail" >&2; exit 1; }
file() { echo "$FAKE/pool/$(echo "$1" | tr / ,)"; }
case "$*" in
    "list -Ht snapshot -o name "*) sed -n "2s,^,$6@,p" "$(file "$6")" ;;
    "list "*) [ -e "$(file "$2")" ] || { echo "cannot open '$2': dataset does not exist" >&2; exit 1; } ;;
    "get -Hs local -o value labtools:verified "*) sed -n 1p "$(file "$7")" ;;
    "get -Hpo value guid "*) echo 77 ;;
    "get -Hpo value usedbydataset "*) echo 100 ;;
    "get -Hpo value available "*) echo 1000 ;;
    "recv "*) for last; do :; done; cat >/dev/null; printf '\n%s\n' "${last#*@}" >"$(file "${last%@*}")" ;;
    "set labtools:verified="*) sed -i "1s/.*/${2#*=}/" "$(file "$3")" ;;
    "rename "*) mv "$(file "$2")" "$(file "$3")" ;;
    "destroy -r "*) rm "$(file "$3")" ;;
    *) echo "zfs $*: not understood" >&2; exit 2 ;;
esac
"#;

/// A machine whose root is version 8, and which has that version staged, or none; `new.zfs` is
/// version `new`.
fn zfs_host(staged: Option<&str>, new: u64) -> Stand {
    let stand = Stand::with("zfs", ZFS);
    stand.file("cmdline", "root=ZFS=tank/root zfsupgrade=tank/upgrade\n");
    fs::create_dir(stand.path("pool")).unwrap();
    stand.file("pool/tank,root", "\nlabtools-8\n");
    if let Some(version) = staged {
        stand.file("pool/tank,upgrade", &format!("7\nlabtools-{version}\n"));
    }
    let made_by = r#"
        printf '\0\0\0\0\0\0\0\0\254\313\272\365\2\0\0\0 a stream' >new.zfs
        openssl genpkey -algorithm ed25519 -out key 2>/dev/null
        openssl pkey -in key -pubout -out key.pub
        printf '[image]\nkind=zfs_host\nname=lab\nversion=%s\n' "$1" | "$2/mkimg-torrent" host --key key new.zfs >new.json
        jq -j .image.manifest new.json | base64 -d >new.manifest
        jq -j .image.signature new.json | base64 -d >new.sig"#;
    let mut made = Command::new("sh");
    made.args(["-ec", made_by, "sh", &new.to_string()])
        .arg(tools())
        .current_dir(stand.0.path());
    assert!(made.status().unwrap().success());
    stand
}

fn stage(stand: &Stand) -> Ended {
    stand.run(
        "mkdir /etc/labtools/keys; cp key.pub /etc/labtools/keys/host-1.pub",
        "host/stage-zfs-root",
        &["new.zfs"],
    )
}

#[test]
fn stage_zfs_root_withdraws_what_is_staged_where_the_root_is_wanted() {
    let none = "version 8 is the root already\n";
    let withdrawn = "version 8 is the root already; version 9, which was staged, is withdrawn\n";
    for (staged, said) in [(None, none), (Some("9"), withdrawn)] {
        let stand = zfs_host(staged, 8);
        let ended = stage(&stand);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (0, said),
            "{ended:?}"
        );
        assert!(!stand.path("pool/tank,upgrade").exists(), "{staged:?}");
    }
    // It cannot be withdrawn: then not all is well.
    let stand = zfs_host(Some("9"), 8);
    stand.file("fails", "destroy");
    let ended = stage(&stand);
    assert_eq!((ended.status, ended.stdout.as_str()), (74, ""), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("tank/upgrade: it cannot be destroyed; zfs destroy -r tank/upgrade"),
        "{ended:?}"
    );
    // Lower than the root, which is refused, and does not hide what is staged.
    // What cannot be looked for is not taken for what is not there.
    for new in [8, 10] {
        let stand = zfs_host(Some("9"), new);
        stand.file("fails", "^list tank/upgrade$");
        let ended = stage(&stand);
        assert_eq!((ended.status, ended.stdout.as_str()), (74, ""), "{ended:?}");
        let words = "tank/upgrade: whether it is there cannot be told: cannot list: asked to fail";
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert_eq!(stand.read("pool/tank,upgrade"), "7\nlabtools-9\n");
    }
    let ended = stage(&zfs_host(Some("9"), 7));
    assert_eq!(ended.status, 78, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("version 9 is staged, and zfs destroy -r tank/upgrade withdraws it"),
        "{ended:?}"
    );
}

#[test]
fn stage_zfs_root_looks_at_the_status_of_every_program() {
    let stand = zfs_host(Some("9"), 10);
    let ended = stage(&stand);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert_eq!(
        ended.stdout,
        "version 10 is staged, and becomes the root at the next boot\n"
    );
    assert_eq!(stand.read("pool/tank,upgrade"), "77\nlabtools-10\n");
    // A call of zfs that fails, and whether what was staged before is staged still.
    for (fails, status, stays) in [
        ("list -Ht snapshot -o name tank/root", 74, true),
        ("list -Ht snapshot -o name tank/upgrade", 74, true),
        ("get -Hs local", 74, true),
        ("recv", 73, true),
        ("usedbydataset", 74, true),
        ("available", 74, true),
        ("value guid", 74, true),
        ("set labtools", 74, true),
        ("destroy -r tank/upgrade$", 74, true),
        ("rename", 74, false),
    ] {
        let stand = zfs_host(Some("9"), 10);
        stand.file("fails", fails);
        let ended = stage(&stand);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{fails}: {ended:?}"
        );
        assert!(
            ended.stderr.contains("stage-zfs-root: "),
            "{fails}: {ended:?}"
        );
        assert_eq!(
            stand.read("pool/tank,upgrade"),
            if stays { "7\nlabtools-9\n" } else { "" },
            "{fails}"
        );
    }
    // A stream that is another one, or cannot be read.
    let stand = zfs_host(None, 10);
    stand.file("new.zfs", "a strea");
    assert_eq!(stage(&stand).status, 65);
    stand.file("fails", "recv");
    assert_eq!(stage(&stand).status, 65);
    for fails in ["recv", "none"] {
        let stand = zfs_host(None, 10);
        stand.file("fails", fails);
        fs::remove_file(stand.path("new.zfs")).unwrap();
        fs::create_dir(stand.path("new.zfs")).unwrap();
        let ended = stage(&stand);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (74, ""),
            "{fails}: {ended:?}"
        );
        assert!(!stand.path("pool/tank,upgrade").exists());
    }
}

#[test]
fn stage_zfs_root_believes_the_tools_only() {
    let refused = |stand: &Stand, status: i32, words: &str| {
        let ended = stage(stand);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (status, ""),
            "{ended:?}"
        );
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
        assert_eq!(
            stand.read("pool/tank,upgrade"),
            "7\nlabtools-9\n",
            "{words}"
        );
    };
    let stand = zfs_host(Some("9"), 10);
    let text = stand.read("new.manifest");
    stand.file("new.manifest", &text.replace("lab", "bal"));
    refused(
        &stand,
        65,
        "verifying the manifest: not signed by any of host-1.pub",
    );
    // One of its keys, but for a slot.
    let stand = zfs_host(Some("9"), 10);
    stand.file("new.manifest", &text.replace("zfs_host", "host"));
    let sign = "openssl pkeyutl -sign -rawin -inkey key -in new.manifest -out new.sig";
    assert!(
        Command::new("sh")
            .args(["-ec", sign])
            .current_dir(stand.0.path())
            .status()
            .unwrap()
            .success()
    );
    refused(&stand, 65, "kind: it describes a host, not a zfs_host");
    let stand = zfs_host(Some("9"), 10);
    fs::remove_file(stand.path("key.pub")).unwrap();
    stand.file("key.pub", "no key");
    refused(&stand, 78, "host-1.pub: not an ed25519 public key in PEM");
}

/// What commit-trial does, and its status, when abflip says this, and says this again when it is
/// told of the health.
fn decides(stand: &Stand, answers: [(&str, i32); 2], option: &[&str]) -> String {
    for (name, (verdict, status)) in ["first", "second"].iter().zip(answers) {
        let said = if verdict.is_empty() {
            String::new()
        } else {
            format!(r#"{{"settlement":{{"verdict":"{verdict}"}}}}"#)
        };
        stand.file(name, &format!("echo '{said}'; exit {status}"));
    }
    let _ = fs::remove_file(stand.path("did"));
    let prepare = "mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/labtools state; mount --bind state /var/lib/labtools
        mkdir -p health.d; cp -r health.d /etc/labtools/";
    let ended = stand.run(prepare, "host/commit-trial", option);
    assert_eq!(ended.stdout, "", "{ended:?}");
    let did: Vec<String> = stand.read("did").lines().map(str::to_owned).collect();
    format!("{} {}", did.join(" "), ended.status)
        .trim_start()
        .to_owned()
}

#[test]
fn commit_trial_does_what_abflip_settles() {
    const ABFLIP: &str = r#"#!/bin/sh
[ "$1" = settle ] || exit 2
shift
echo "${*:-settle}" >>"$FAKE/did"
[ ! -e "$FAKE/busy" ] || { rm "$FAKE/busy"; exit 75; }
if [ $# = 0 ]; then . "$FAKE/first"; else . "$FAKE/second"; fi
"#;
    let stand = Stand::with("abflip", ABFLIP);
    let program = |name: &str, text: &str| {
        stand.file(name, text);
        fs::set_permissions(stand.path(name), Permissions::from_mode(0o755)).unwrap();
    };
    program(
        "bin/reboot",
        "#!/bin/sh\necho \"reboot$*\" >>\"$FAKE/did\"\n",
    );
    let once = |verdict, status| decides(&stand, [(verdict, status), ("", 99)], &[]);
    assert_eq!(once("stay", 0), "settle 0");
    assert_eq!(once("stay", 1), "settle 1");
    assert_eq!(once("back", 1), "settle reboot 1");
    for status in [65, 66, 74, 78] {
        assert_eq!(
            once("", status),
            format!("settle {status}"),
            "it says why, and nothing is on record"
        );
    }
    stand.file("busy", "");
    assert_eq!(once("stay", 0), "settle settle 0");
    // What is not known, or no answer, is no reason for a second reboot.
    for (verdict, status) in [("unsure", 1), ("", 70), ("", 127), ("", 139)] {
        assert_eq!(once(verdict, status), "settle reboot 1", "{status}");
        assert_eq!(
            once(verdict, status),
            format!("settle {status}"),
            "{status}"
        );
        assert_eq!(once("stay", 0), "settle 0", "{status}");
        assert_eq!(once(verdict, status), "settle reboot 1", "{status}");
        fs::remove_file(stand.path("state/trial-unknown")).unwrap();
    }
    let on_trial = |second, option: &[&str]| decides(&stand, [("check", 1), second], option);
    assert_eq!(on_trial(("stay", 0), &[]), "settle --healthy 0");
    assert_eq!(on_trial(("stay", 1), &[]), "settle --healthy 1");
    assert_eq!(on_trial(("back", 1), &[]), "settle --healthy reboot 1");
    assert_eq!(on_trial(("", 139), &[]), "settle --healthy reboot 1");
    assert_eq!(
        on_trial(("", 78), &[]),
        "settle --healthy 78",
        "a reboot may start none"
    );
    assert_eq!(
        on_trial(("back", 1), &["--deadline"]),
        "settle --sick reboot-ff 1"
    );
    fs::create_dir_all(stand.path("health.d")).unwrap();
    program(
        "health.d/10-well",
        "#!/bin/sh\necho well; echo 10-well >>\"$FAKE/did\"\n",
    );
    stand.file("health.d/20-no-program", "exit 1");
    assert_eq!(on_trial(("stay", 0), &[]), "settle 10-well --healthy 0");
    program("health.d/30-sick", "#!/bin/sh\nexit 1\n");
    program(
        "health.d/40-not-asked",
        "#!/bin/sh\necho 40 >>\"$FAKE/did\"\n",
    );
    assert_eq!(on_trial(("back", 1), &[]), "settle 10-well --sick reboot 1");
    assert_eq!(
        on_trial(("stay", 0), &["--deadline"]),
        "settle --sick 0",
        "somebody has committed it meanwhile"
    );
}
