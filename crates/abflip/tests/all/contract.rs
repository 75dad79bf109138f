//! What holds for every tool of the suite.

use std::fs;
use std::io::Seek;
use std::path::Path;

use abflip::request::Arguments;
use clap::CommandFactory;
use jsonpipe::testkit::{self, Stage};

use crate::layout::{DOCUMENT, MIB, plug};
use crate::machine::{BINARY, Machine, bios};

fn prepare(root: &Path) {
    Machine::at(root, 512, &bios()).configure_extlinux();
}

/// None of these reads a document.
const STAGES: [Stage; 6] = [
    Stage {
        binary: BINARY,
        arguments: &["status"],
        request: "",
        document: "",
        prepare,
    },
    Stage {
        binary: BINARY,
        arguments: &["flip", "--dry-run"],
        request: "",
        document: "",
        prepare,
    },
    Stage {
        binary: BINARY,
        arguments: &["try", "--dry-run"],
        request: "",
        document: "",
        prepare,
    },
    Stage {
        binary: BINARY,
        arguments: &["commit", "--dry-run"],
        request: "",
        document: "",
        prepare,
    },
    Stage {
        binary: BINARY,
        arguments: &["rollback", "--dry-run"],
        request: "",
        document: "",
        prepare,
    },
    Stage {
        binary: BINARY,
        arguments: &["repair", "--dry-run"],
        request: "",
        document: "",
        prepare,
    },
];

/// It reads a document, on a machine without an installation.
const LAYOUT: Stage = Stage {
    binary: BINARY,
    arguments: &["layout", "--dry-run"],
    request: "partitioning",
    document: DOCUMENT,
    prepare: |root| {
        for directory in ["sys/block", "dev"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        plug(root, "sda", "ata1", false, 128 * MIB);
    },
};

/// It needs files that lie in its machine.
const WRITE: Stage = Stage {
    binary: BINARY,
    arguments: &["write", "--from", "x", "--manifest", "x"],
    request: "",
    document: "",
    prepare,
};

jsonpipe::contract! {
    teaches_help: [STAGES, WRITE, LAYOUT],
    tells_version: [STAGES],
    refuses_a_bad_flag: [STAGES, WRITE, LAYOUT],
    logs_its_run: "no stage of a pipe",
    needs_a_document: [LAYOUT],
    names_an_unknown_key: [LAYOUT],
    passes_foreign_sections_on: "layout refuses those of people, see below",
    is_silent_when_its_reader_left: [STAGES, LAYOUT],
    reports_a_full_output: [STAGES, LAYOUT],
    passes_a_no_on: "no tool before it says no",
    reads_ini_as_json: [LAYOUT],
    keeps_the_secret: "it reads none",
    refuses_the_secret: [LAYOUT],
    survives_its_own_panic: [STAGES, LAYOUT],
    names_every_flag_on_its_page: (Arguments::command(), [MAN_PAGE, LAYOUT_PAGE].concat()),
}

#[test]
fn a_misspelt_section_of_layout_ini_is_named() {
    LAYOUT.refuses_unknown_sections();
}

/// What was changed stays, so it is no 74; what was not, is.
#[test]
fn a_document_that_is_lost_takes_nothing_back() {
    let (machine, full) = (Machine::new(), || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    });
    machine.configure_extlinux();
    let torn = || machine.poke(machine.last() * 512 + 16, b"torn");
    torn();
    for (verb, next) in [
        ("repair", "a"),
        ("try", "a"),
        ("rollback", "a"),
        ("flip", "b"),
        ("flip", "b"),
        ("repair", "b"),
    ] {
        let before = machine.bytes();
        let output = machine.command(&[verb]).stdout(full()).output().unwrap();
        let changed = machine.bytes() != before;
        assert_eq!(
            output.status.code(),
            Some(if changed { 1 } else { 74 }),
            "{verb}: {output:?}"
        );
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("standard output: No space left on device"),
            "{verb}: {said}"
        );
        assert_eq!(
            said.contains("the change is made and stays"),
            changed,
            "{verb}: {said}"
        );
        assert_eq!(machine.slots(&["status"])["next"], next, "{verb}");
    }
    // A reader that went away is told by the status alone.
    torn();
    let mut command = std::process::Command::new("sh");
    let flip = machine.command(&["flip", "--active", "a"]);
    command
        .args(["-c", "\"$@\" >&-; echo $?", "sh"])
        .arg(flip.get_program())
        .args(flip.get_args());
    let output = command.output().unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"1\n"[..], &b""[..])
    );
}

/// One that waits for its reader keeps nobody else from the machine.
#[test]
fn lock_is_free_while_the_document_is_read() {
    let machine = Machine::new();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    // Full, so that nothing more goes in until it is read.
    nix::fcntl::fcntl(
        &writer,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .unwrap();
    while nix::unistd::write(&writer, &[b' '; 1]).is_ok() {}
    nix::fcntl::fcntl(
        &writer,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
    )
    .unwrap();
    let mut waiting = machine.command(&["flip"]).stdout(writer).spawn().unwrap();
    // Until it is in a call that writes, and not to its standard error.
    let writes = |call: String| {
        call.starts_with(&format!("{} 0x", nix::libc::SYS_write)) && !call.contains(" 0x2 0x")
    };
    while !writes(fs::read_to_string(format!("/proc/{}/syscall", waiting.id())).unwrap()) {
        assert!(waiting.try_wait().unwrap().is_none(), "it has ended");
    }
    assert_eq!(machine.slots(&["flip", "--active", "a"])["changed"], true);
    assert!(waiting.try_wait().unwrap().is_none());
    assert_eq!(machine.slots(&["status"])["next"], "a");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut fs::File::from(reader), &mut rest).unwrap();
    assert!(
        waiting.wait().unwrap().success() && rest.contains("\"next\":\"b\""),
        "{rest}"
    );
}

#[test]
fn standard_input_is_left_alone() {
    let machine = Machine::new();
    let input = machine.root().join("input");
    fs::write(&input, "not a document").unwrap();
    for arguments in [["status"], ["flip"], ["repair"]] {
        let mut input = fs::File::open(&input).unwrap();
        let ended = machine
            .command(&arguments)
            .stdin(input.try_clone().unwrap())
            .output()
            .unwrap();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(input.stream_position().unwrap(), 0);
    }
}

const MAN_PAGE: &str = include_str!("../../../../man/abflip.8");
const LAYOUT_PAGE: &str = include_str!("../../../../man/abflip-layout.8");

#[test]
fn the_man_page_examples_work() {
    let machine = Machine::new();
    testkit::man_page_examples_work(BINARY, MAN_PAGE, machine.root());
}

#[test]
fn the_examples_of_layout_work_with_the_document_that_is_shipped() {
    let directory = tempfile::tempdir().unwrap();
    let shipped = include_str!("../../../../scripts/host/etc/layout.ini");
    fs::write(directory.path().join("layout.ini"), shipped).unwrap();
    testkit::man_page_examples_work(BINARY, LAYOUT_PAGE, directory.path());
}
