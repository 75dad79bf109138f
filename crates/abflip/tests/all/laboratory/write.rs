//! `abflip write` onto a partition, of a real file system, and from a server.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jsonpipe::testkit::Ended;
use nix::libc::O_EXCL;
use tempfile::TempDir;

use crate::scripts::tools;
use crate::update::{
    A_AT, B, B_AT, Image, MIB, Machine, SLOT_BYTES, UNPATCHED, ended, key, openssl,
};

/// A program's standard output.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The disk of a machine as a block device.
struct Attached {
    machine: Machine,
    device: String,
}

impl Attached {
    fn new() -> Attached {
        Attached::with_sectors(512)
    }

    fn with_sectors(sector_bytes: u64) -> Attached {
        let machine = Machine::with_sectors(sector_bytes);
        for (name, at) in [
            ("sys/dev", "/sys/dev"),
            ("sys/block", "/sys/block"),
            ("dev", "/dev"),
            ("proc", "/proc"),
        ] {
            symlink(at, machine.path(name)).unwrap();
        }
        let device = run(
            "losetup",
            &[
                "-b",
                &sector_bytes.to_string(),
                "--show",
                "-f",
                machine.disk().to_str().unwrap(),
            ],
        )
        .trim()
        .to_owned();
        // A loop device stays read-only when it is detached: so a test that was killed would be
        // every later one's failure.
        run("blockdev", &["--setrw", &device]);
        let attached = Attached { machine, device };
        for (number, at) in [("1", A_AT), ("2", B_AT)] {
            attached.add(number, at);
        }
        attached
    }

    fn add(&self, number: &str, at: u64) {
        run(
            "addpart",
            &[
                &self.device,
                number,
                &(at / 512).to_string(),
                &(SLOT_BYTES / 512).to_string(),
            ],
        );
    }

    fn partition(&self, number: u32) -> String {
        format!("{}p{number}", self.device)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_abflip"));
        ended(
            command
                .args(arguments)
                .arg("--root")
                .arg(self.machine.path(""))
                .args(["--disk", &self.device]),
        )
    }

    fn write(&self, manifest: &Path, from: &str, more: &[&str]) -> Ended {
        let arguments = [
            "write",
            "--manifest",
            manifest.to_str().unwrap(),
            "--from",
            from,
        ];
        self.run(&[&arguments[..], more].concat())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        run("partx", &["-d", &self.device]);
        run("losetup", &["-d", &self.device]);
    }
}

/// A mount that goes.
struct Mounted(TempDir);

impl Mounted {
    fn new(device: &str, options: &str) -> Mounted {
        let directory = tempfile::tempdir().unwrap();
        run(
            "mount",
            &["-o", options, device, directory.path().to_str().unwrap()],
        );
        Mounted(directory)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.0.path().to_str().unwrap()]);
    }
}

/// The script, with the tools of this workspace.
fn publish_host() -> Command {
    let mut command = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../scripts/server/publish-host"
    ));
    command.env(
        "PATH",
        format!("{}:{}", tools().display(), env::var("PATH").unwrap()),
    );
    command
}

/// A root with a boot entry, and with extlinux where it is to be booted by BIOS; published. What
/// `publish-host` left, by its name.
fn publish(directory: &Path, with_extlinux: bool) -> PathBuf {
    let image = directory.join("lab.img");
    File::create(&image).unwrap().set_len(12 * MIB).unwrap();
    let path = image.to_str().unwrap();
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-O",
            "^64bit,^has_journal,^metadata_csum,^uninit_bg",
            "-L",
            "root",
            path,
        ],
    );
    {
        let mounted = Mounted::new(path, "loop");
        let boot = mounted.0.path().join("boot");
        fs::create_dir(&boot).unwrap();
        let entry = format!("label linux\n kernel vmlinuz\n append root=PARTUUID={UNPATCHED} ro\n");
        fs::write(
            boot.join("extlinux.conf"),
            entry.clone() + &entry.replace("linux\n", "old\n"),
        )
        .unwrap();
        fs::write(boot.join("vmlinuz"), vec![7; 3 << 20]).unwrap();
        if with_extlinux {
            run("extlinux", &["--install", boot.to_str().unwrap()]);
        }
    }
    let mut publish = publish_host();
    publish.arg("--key").arg(key("host-1")).args([
        "--name",
        "lab",
        "--version",
        "8",
        "--model",
        "OptiPlex 7010",
        path,
    ]);
    let published = ended(&mut publish);
    assert_eq!(
        (published.status, published.stderr.as_str()),
        (0, ""),
        "{published:?}"
    );
    directory.join("lab")
}

#[test]
fn a_published_file_system_learns_its_slot_and_stays_whole() {
    for with_extlinux in [false, true] {
        let attached = Attached::new();
        let directory = tempfile::tempdir().unwrap();
        let published = publish(directory.path(), with_extlinux);
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(published.with_extension("manifest")).unwrap())
                .unwrap();
        let kinds: Vec<&str> = manifest["slot_fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field["kind"].as_str().unwrap())
            .collect();
        let expected = [
            "filesystem_uuid",
            "filesystem_label",
            "root_partuuid",
            "root_partuuid",
            "boot_once",
        ];
        assert_eq!(kinds, expected[..if with_extlinux { 5 } else { 4 }]);
        let from = published.with_extension("zst");
        let written = attached.write(
            &published.with_extension("manifest"),
            from.to_str().unwrap(),
            &[],
        );
        assert_eq!(
            (written.status, written.stderr.as_str()),
            (0, ""),
            "{written:?}"
        );

        let partition = attached.partition(2);
        run("e2fsck", &["-fn", &partition]);
        let tag = |tag: &str| run("blkid", &["-p", "-s", tag, "-o", "value", &partition]);
        assert_eq!((tag("UUID").trim(), tag("LABEL").trim()), (B, "root-b"));
        {
            let mounted = Mounted::new(&partition, "ro");
            let entries = fs::read_to_string(mounted.0.path().join("boot/extlinux.conf")).unwrap();
            assert_eq!(
                entries.matches(&format!("root=PARTUUID={B} ro")).count(),
                2,
                "{entries}"
            );
            assert!(!entries.contains(UNPATCHED), "{entries}");
        }
        if with_extlinux {
            // What extlinux itself notes for the next boot is not damage.
            let mounted = Mounted::new(&partition, "rw");
            let before = fs::read(mounted.0.path().join("boot/ldlinux.sys")).unwrap();
            run(
                "extlinux",
                &[
                    "--once=try-a",
                    mounted.0.path().join("boot").to_str().unwrap(),
                ],
            );
            let after = fs::read(mounted.0.path().join("boot/ldlinux.sys")).unwrap();
            let changed: Vec<usize> = (0..before.len())
                .filter(|&at| before[at] != after[at])
                .collect();
            assert!(
                !changed.is_empty() && changed.iter().all(|at| *at >= before.len() - 1024),
                "{changed:?}"
            );
            let field = &manifest["slot_fields"][4];
            let offset = field["offset_bytes"].as_u64().unwrap() as usize;
            run("sync", &["-f", mounted.0.path().to_str().unwrap()]);
            let on_disk = attached.machine.content();
            assert!(on_disk.slot_b()[offset..offset + 1024] == after[after.len() - 1024..]);
        }
    }
}

#[test]
fn an_image_of_any_length_goes_to_sectors_of_either_size() {
    for sector_bytes in [512, 4096] {
        for size_bytes in [9 * MIB + 12_345, SLOT_BYTES - 1] {
            let attached = Attached::with_sectors(sector_bytes);
            let image = Image::new(size_bytes);
            let (manifest, from) = (
                image.describe(&attached.machine),
                attached.machine.file("image", &image.bytes),
            );
            let before = attached.machine.content();
            let write = [
                "write",
                "--manifest",
                manifest.to_str().unwrap(),
                "--from",
                &from,
            ];
            // Zeros are not sent.
            let trace = attached.machine.path("trace");
            let mut strace = Command::new("strace");
            strace
                .args(["-f", "-qq", "-e", "trace=ioctl,pwrite64", "-o"])
                .arg(&trace);
            strace
                .arg(env!("CARGO_BIN_EXE_abflip"))
                .args(write)
                .arg("--root")
                .arg(attached.machine.path(""));
            let ended = ended(strace.args(["--disk", &attached.device]));
            assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
            let trace = fs::read_to_string(trace).unwrap();
            assert!(
                trace.contains("BLKZEROOUT, [4456448, 2883584]) = 0"),
                "{trace}"
            );
            assert!(!trace.contains("BLKDISCARD"), "{trace}");
            let after = attached.machine.content();
            assert!(after.is_same_outside(&before));
            assert!(
                after.slot_b()[..image.bytes.len()] == image.in_slot_b(),
                "{sector_bytes} {size_bytes}"
            );
            assert_eq!(
                attached.run(&["status", "--digest"]).section("slots")["b"]["intact"],
                true
            );
        }
    }
}

#[test]
fn publish_host_refuses_images_that_cannot_be_patched() {
    let directory = tempfile::tempdir().unwrap();
    let published = publish(directory.path(), false);
    let image = directory.path().join("lab.img");
    let publish = |image: &Path| {
        let mut command = publish_host();
        command
            .arg("--key")
            .arg(key("host-1"))
            .args(["--name", "lab", "--version", "9"])
            .arg(image);
        ended(&mut command)
    };
    fs::remove_file(published.with_extension("manifest")).unwrap();
    let refused = |message: &str| {
        let ended = publish(&image);
        assert_eq!(ended.status, 65, "{ended:?}");
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
        assert!(!published.with_extension("manifest").exists());
    };
    run("tune2fs", &["-O", "metadata_csum", image.to_str().unwrap()]);
    refused("it has the feature metadata_csum; tune2fs -O ^metadata_csum ");
    File::create(&image).unwrap().set_len(MIB).unwrap();
    refused("not an ext2, ext3 or ext4 file system");
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-O",
            "^metadata_csum,^uninit_bg",
            image.to_str().unwrap(),
        ],
    );
    refused("no boot entry says root=PARTUUID=");
    assert_eq!(publish(&directory.path().join("none")).status, 66);
}

#[test]
fn a_slot_that_somebody_has_is_refused() {
    let attached = Attached::new();
    let image = Image::new(9 * MIB);
    let (manifest, from) = (
        image.describe(&attached.machine),
        attached.machine.file("image", &image.bytes),
    );
    let before = attached.machine.content();
    let refused = |ended: Ended, status: i32, message: &str| {
        assert_eq!(
            (ended.status, ended.stdout.is_empty()),
            (status, true),
            "{ended:?}"
        );
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
        assert!(attached.machine.content() == before, "{message}");
        assert_eq!(attached.machine.recorded("b"), None);
    };
    let write = || attached.write(&manifest, &from, &[]);
    {
        let _claim = OpenOptions::new()
            .read(true)
            .custom_flags(O_EXCL)
            .open(attached.partition(2))
            .unwrap();
        refused(write(), 75, "it is in use");
    }
    // The file behind the device.
    refused(
        attached.machine.write(&image, &from, &[]),
        75,
        "is attached to it; detach that, or name it with --disk",
    );
    for verb in [
        &["flip", "--active", "b"][..],
        &["flip", "--dry-run", "--active", "b"],
        &["repair"],
        &["try"],
        &["rollback"],
    ] {
        refused(
            attached.machine.run(verb),
            75,
            "is attached to it; detach that, or name it with --disk",
        );
    }
    // By any of its names.
    let linked = attached.machine.path("linked");
    fs::hard_link(attached.machine.disk(), &linked).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_abflip"));
    command
        .args(["repair", "--root"])
        .arg(attached.machine.path(""))
        .arg("--disk")
        .arg(linked);
    refused(
        ended(&mut command),
        75,
        "is attached to it; detach that, or name it with --disk",
    );
    // A partition that the kernel has elsewhere.
    run("delpart", &[&attached.device, "2"]);
    refused(
        write(),
        78,
        "the kernel knows none there; let it read the table again, see partprobe(8)",
    );
    attached.add("2", B_AT + 512);
    refused(write(), 78, "the kernel knows none there");
    run("delpart", &[&attached.device, "2"]);
    attached.add("2", B_AT);
    assert_eq!(write().status, 0);
}

#[test]
fn a_disk_or_a_slot_that_is_read_only_is_refused_before_its_record_goes() {
    let attached = Attached::new();
    let image = Image::new(9 * MIB);
    let (manifest, from) = (
        image.describe(&attached.machine),
        attached.machine.file("image", &image.bytes),
    );
    assert_eq!(attached.write(&manifest, &from, &[]).status, 0);
    let before = attached.machine.content();
    let next = image.version(9).describe(&attached.machine);
    for (device, writes) in [(&attached.device, false), (&attached.partition(2), true)] {
        run("blockdev", &["--setro", device]);
        let write = |dry: &[&str]| attached.write(&next, &from, dry);
        let mut ended = vec![write(&[]), write(&["--dry-run"])];
        if !writes {
            ended.extend(
                ["flip", "try", "repair", "commit", "rollback"].map(|verb| attached.run(&[verb])),
            );
            ended.push(attached.run(&["flip", "--dry-run", "--active", "b"]));
        }
        for ended in ended {
            assert_eq!(
                (ended.status, ended.stdout.is_empty()),
                (78, true),
                "{ended:?}"
            );
            let said = format!("{device}: it is read-only; see blockdev(8), --setrw");
            assert!(ended.stderr.contains(&said), "{ended:?}");
        }
        run("blockdev", &["--setrw", device]);
        assert!(attached.machine.content() == before);
        assert_eq!(attached.machine.recorded("b"), Some(8));
    }
    assert_eq!(attached.write(&next, &from, &[]).status, 0);
}

#[test]
fn a_mounted_slot_is_refused() {
    let attached = Attached::new();
    run("mke2fs", &["-q", "-t", "ext4", &attached.partition(2)]);
    let image = Image::new(9 * MIB);
    let (manifest, from) = (
        image.describe(&attached.machine),
        attached.machine.file("image", &image.bytes),
    );
    let mounted = Mounted::new(&attached.partition(2), "ro");
    let before = attached.machine.content();
    for more in [&[][..], &["--dry-run"]] {
        let ended = attached.write(&manifest, &from, more);
        let message = format!(
            "it is mounted on {}; unmount it",
            mounted.0.path().display()
        );
        assert!(
            ended.status == 75 && ended.stderr.contains(&message),
            "{ended:?}"
        );
        // Where it cannot be seen, the kernel says so.
        fs::remove_file(attached.machine.path("proc")).unwrap();
        let ended = attached.write(&manifest, &from, more);
        assert!(
            ended.status == 75 && ended.stderr.contains("it is in use"),
            "{ended:?}"
        );
        symlink("/proc", attached.machine.path("proc")).unwrap();
    }
    assert!(attached.machine.content() == before);
    drop(mounted);
    assert_eq!(attached.write(&manifest, &from, &[]).status, 0);
}

/// `openssl s_server` on the loopback. Its files begin with the header of the answer.
struct Server {
    process: Child,
    directory: TempDir,
    port: u16,
}

impl Server {
    fn new() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let [ca, ca_key, request, server, server_key] =
            ["ca.pem", "ca.key", "server.csr", "server.pem", "server.key"].map(path);
        let new_key = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        openssl(
            &[
                &new_key[..],
                &[
                    "-x509",
                    "-subj",
                    "/CN=Laboratory",
                    "-days",
                    "2",
                    "-keyout",
                    &ca_key,
                    "-out",
                    &ca,
                ],
            ]
            .concat(),
        );
        openssl(
            &[
                &new_key[..],
                &[
                    "-subj",
                    "/CN=server",
                    "-keyout",
                    &server_key,
                    "-out",
                    &request,
                ],
            ]
            .concat(),
        );
        fs::write(
            path("extensions"),
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-days",
            "2",
            "-extfile",
            &path("extensions"),
            "-out",
            &server,
        ]);
        let mut command = Command::new("openssl");
        command.args([
            "s_server",
            "-HTTP",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &server,
            "-key",
            &server_key,
        ]);
        let mut process = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is needed by this test");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let accepts = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.starts_with("ACCEPT "))
            .unwrap();
        let port = accepts.rsplit(':').next().unwrap().parse().unwrap();
        // It goes on to speak, and must be heard.
        std::thread::spawn(move || lines.for_each(drop));
        Server {
            process,
            directory,
            port,
        }
    }

    fn offer(&self, name: &str, header: &str, body: &[u8]) -> String {
        fs::write(
            self.directory.path().join(name),
            [header.as_bytes(), b"\r\n\r\n", body].concat(),
        )
        .unwrap();
        format!("https://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn it_comes_from_a_server_that_our_own_ca_vouches_for() {
    let (server, image) = (Server::new(), Image::new(9 * MIB + 77));
    let compressed = image.compressed();
    let ok = |length: usize| format!("HTTP/1.0 200 OK\r\nContent-Length: {length}");
    let ca = server
        .directory
        .path()
        .join("ca.pem")
        .to_str()
        .unwrap()
        .to_owned();
    let trust = ["--ca-cert", &ca];

    let machine = Machine::new();
    let whole = server.offer("whole", &ok(compressed.len()), &compressed);
    // What nobody vouches for is not taken, nor what is not there, nor what is elsewhere without
    // TLS; nothing is written then.
    let stranger = server.directory.path().join("stranger.pem");
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-x509",
        "-subj",
        "/CN=x",
        "-keyout",
        "/dev/null",
        "-out",
        stranger.to_str().unwrap(),
    ]);
    let before = machine.content();
    let missing = server.offer("missing", "HTTP/1.0 404 Not Found", b"");
    let elsewhere = server.offer(
        "elsewhere",
        "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/whole",
        b"",
    );
    let secret = "HTTP/1.0 302 Found\r\nLocation: http://user:SECRET@127.0.0.1:1/whole?SECRET";
    let elsewhere_with_secret = server.offer("secret", secret, b"");
    let zipped = server.offer(
        "zipped",
        &format!("{}\r\nContent-Encoding: gzip", ok(3)),
        b"\x1f\x8b\x08",
    );
    let broken = server.offer("broken", "HTTP/1.0 503 Service Unavailable", b"");
    let other_name = whole.replace("127.0.0.1", "localhost");
    for (from, more, status, message) in [
        (&whole, &[][..], 69, "UnknownIssuer"),
        (
            &whole,
            &["--ca-cert", stranger.to_str().unwrap()],
            69,
            "fetching https://127.0.0.1:",
        ),
        (
            &whole,
            &["--ca-cert", "/dev/null"],
            78,
            "reading the CA's certificate in /dev/null: no certificate in PEM",
        ),
        (&other_name, &trust, 69, "not valid for name"),
        (&missing, &trust, 66, "not found on the server"),
        (&elsewhere, &trust, 69, "fetching https://127.0.0.1:"),
        (
            &elsewhere_with_secret,
            &trust,
            69,
            "fetching https://127.0.0.1:",
        ),
        (
            &zipped,
            &trust,
            69,
            "the server sends it in the encoding gzip; have it send the file as it is",
        ),
        (&broken, &trust, 69, "503"),
    ] {
        let ended = machine.write(&image, from, more);
        assert_eq!(
            (ended.status, ended.stdout.is_empty()),
            (status, true),
            "{ended:?}"
        );
        assert!(
            ended.stderr.contains(message) && !ended.stderr.contains("SECRET"),
            "{message}: {}",
            ended.stderr
        );
        assert!(machine.content() == before);
    }

    let ended = machine.write(&image, &whole, &trust);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(machine.content().slot_b()[..image.bytes.len()] == image.in_slot_b());

    // The server goes away in the middle.
    let half = server.offer(
        "half",
        &ok(compressed.len()),
        &compressed[..compressed.len() / 2],
    );
    let ended = machine.write(&image.version(9), &half, &trust);
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("reading the image: "),
        "{}",
        ended.stderr
    );
    assert_eq!(machine.recorded("b"), None);
    assert!(
        machine.content().slot_b()[..MIB as usize]
            .iter()
            .all(|byte| *byte == 0)
    );
}
