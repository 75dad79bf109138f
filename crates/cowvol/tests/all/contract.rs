//! What holds for every tool of the suite.

use std::fs;
use std::io::Seek;
use std::process::Command;

use clap::CommandFactory;
use cowvol::request::Arguments;
use jsonpipe::testkit;

use crate::machine::signed::{describe, document};
use crate::machine::{CLONE, Machine};

#[test]
fn teaches_help() {
    CLONE.teaches_help();
}

#[test]
fn tells_version() {
    CLONE.tells_version();
}

#[test]
fn refuses_a_bad_flag() {
    CLONE.refuses_a_bad_flag();
}

#[test]
fn needs_a_document() {
    CLONE.needs_a_document();
}

#[test]
fn names_an_unknown_key() {
    CLONE.names_an_unknown_key();
}

#[test]
fn passes_foreign_sections_on() {
    CLONE.passes_foreign_sections_on();
}

#[test]
fn is_silent_when_its_reader_left() {
    CLONE.is_silent_when_its_reader_left();
}

#[test]
fn reports_a_full_output() {
    CLONE.reports_a_full_output();
}

#[test]
fn logs_its_run() {
    CLONE.logs_its_run();
}

#[test]
fn passes_a_no_on() {
    CLONE.passes_a_no_on(r#"{"login":{"schema":1,"user":"alice@uni-a.example","authenticated":false,"reason":"denied"}}"#);
    CLONE.passes_a_no_on(r#"{"x":{"y" : 1},"login":{"authenticated":false}}"#);
}

#[test]
fn reads_ini_as_json() {
    CLONE.reads_ini_as_json();
}

#[test]
fn keeps_the_secret() {
    CLONE.keeps_the_secret(false);
}

#[cfg(debug_assertions)]
#[test]
fn survives_its_own_panic() {
    CLONE.survives_its_own_panic();
}

#[test]
fn the_man_page_names_every_flag() {
    testkit::man_page_names_every_flag(&Arguments::command(), MAN_PAGE);
}

#[test]
fn the_man_page_examples_work() {
    let machine = Machine::with_windows_8();
    let windows_8 = document(&describe(machine.root(), "windows", 8)).to_string();
    fs::write(machine.root().join("windows-8.json"), windows_8).unwrap();
    testkit::man_page_examples_work(CLONE.binary, MAN_PAGE, machine.root());
}

const MAN_PAGE: &str = include_str!("../../../../man/cowvol.8");

#[test]
fn list_leaves_standard_input_alone() {
    let machine = Machine::new();
    let input = machine.root().join("input");
    fs::write(&input, "not a document").unwrap();
    let mut input = fs::File::open(input).unwrap();
    let list =
        Command::new(CLONE.binary).arg("list").arg("--root").arg(machine.root()).stdin(input.try_clone().unwrap()).output();
    assert!(list.unwrap().status.success());
    assert_eq!(input.stream_position().unwrap(), 0);
}

mod install_base {
    use crate::machine::Machine;
    use crate::machine::signed::{describe, document, install_stage};
    use jsonpipe::testkit::{Stage, redirected};

    use crate::machine;

    /// What changes nothing ends with 74 when it cannot be told.
    fn in_a_dry_run() -> Stage {
        Stage { arguments: &["install-base", "--dry-run"], ..install_stage() }
    }

    #[test]
    fn a_change_that_nobody_heard_of_stays_and_is_1() {
        let machine = Machine::with_windows_8();
        let windows_8 = document(&describe(machine.root(), "windows", 8)).to_string();
        let unheard = |verb: &str, input: &str| {
            let ended = machine::feed(&mut redirected(">/dev/full", &machine.command(&[verb])), input);
            assert_eq!(ended.status, 1, "{verb}: {ended:?}");
            assert!(ended.stderr.starts_with("cowvol: the change is made and stays; writing the document"), "{ended:?}");
        };
        let session = machine.hold("session.lock");
        unheard("install-base", &windows_8);
        assert!(machine.bases_ini().contains("generation = 8"));
        drop(session);
        unheard("prune", "");
        assert!(!machine::base_path(machine.root(), "windows", 7).exists());
    }

    #[test]
    fn teaches_help() {
        install_stage().teaches_help();
    }

    #[test]
    fn refuses_a_bad_flag() {
        install_stage().refuses_a_bad_flag();
    }

    #[test]
    fn logs_its_run() {
        install_stage().logs_its_run();
    }

    #[test]
    fn needs_a_document() {
        install_stage().needs_a_document();
    }

    #[test]
    fn names_an_unknown_key() {
        install_stage().names_an_unknown_key();
    }

    #[test]
    fn passes_foreign_sections_on() {
        install_stage().passes_foreign_sections_on();
    }

    #[test]
    fn is_silent_when_its_reader_left() {
        in_a_dry_run().is_silent_when_its_reader_left();
    }

    #[test]
    fn reports_a_full_output() {
        in_a_dry_run().reports_a_full_output();
    }

    #[test]
    fn passes_a_no_on() {
        let image = r#""image":{"schema":1,"manifest":"","signature":""}"#;
        install_stage().passes_a_no_on(&format!(r#"{{{image},"transfer":{{"schema":1,"state":"incomplete","missing":[]}}}}"#));
    }

    #[test]
    fn reads_ini_as_json() {
        install_stage().reads_ini_as_json();
    }

    #[test]
    fn keeps_the_secret() {
        install_stage().keeps_the_secret(false);
    }
}
