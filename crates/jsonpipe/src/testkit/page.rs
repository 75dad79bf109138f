//! Checks of a man page: it names every flag, and its examples work; and of help: it fits a terminal.

use std::path::Path;
use std::process::Command;

use super::ended::feed;

/// Checks that every long flag of the tool and of its subcommands is on its man page.
pub fn man_page_names_every_flag(command: &clap::Command, page: &str) {
    for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
        // mdoc writes --flag as `.Fl -flag`.
        assert!(
            page.contains(&format!("Fl -{flag}")),
            "the man page of {} does not name --{flag}",
            command.get_name()
        );
    }
    for below in command.get_subcommands() {
        man_page_names_every_flag(below, page);
    }
}

/// Checks that the help of the tool and of all its subcommands is 80 columns wide at most, but for
/// the line of the usage, which clap makes.
pub fn help_fits_a_terminal(mut command: clap::Command) {
    command.build(); // gives the subcommands the flags of the tool
    check_width(&mut command);
}

fn check_width(command: &mut clap::Command) {
    let help = command.render_long_help().to_string();
    let mut lines = help.lines().filter(|line| !line.starts_with("Usage: "));
    let wide = lines.find(|line| line.chars().count() > 80);
    let name = command.get_bin_name().unwrap_or(command.get_name());
    assert_eq!(wide, None, "the help of {name} is wider than 80 columns");
    command.get_subcommands_mut().for_each(check_width);
}

/// Runs the EXAMPLES of a man page in `directory` and compares their output.
///
/// In an mdoc literal block (`.Bd -literal`), bash runs a line `$ command` with the tool's
/// directory first in PATH; the lines after it, up to the next command or the end of the block, are
/// the expected standard output, where `...` matches anything.
pub fn man_page_examples_work(binary: &str, page: &str, directory: &Path) {
    let examples = page
        .split(".Sh EXAMPLES")
        .nth(1)
        .expect("a section EXAMPLES")
        .split("\n.Sh ")
        .next()
        .unwrap_or_default();
    let mut blocks = Vec::new();
    for block in examples.split(".Bd -literal").skip(1) {
        let lines = block.lines().skip(1).take_while(|line| *line != ".Ed");
        blocks.extend(lines.map(|line| {
            line.replace("\\e", "\\")
                .replace("\\(ti", "~")
                .trim_start_matches("\\&")
                .to_owned()
        }));
    }
    let tools = Path::new(binary)
        .parent()
        .expect("a directory")
        .display()
        .to_string();
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap_or_default());
    let mut lines = blocks.iter().peekable();
    let mut examples = 0;
    while let Some(line) = lines.next() {
        let mut command = line
            .strip_prefix("$ ")
            .unwrap_or_else(|| panic!("expected `$ command`: {line}"))
            .to_owned();
        while command.ends_with('\\') {
            command = command + "\n" + lines.next().expect("the continued line");
        }
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected += line;
            expected.push('\n');
        }
        let mut bash = Command::new("bash");
        let ended = feed(
            bash.args(["-c", &command])
                .env("PATH", &path)
                .current_dir(directory),
            "",
        );
        let matches = matches_pattern(&ended.stdout, &expected);
        assert!(
            matches,
            "$ {command}\nexpected:\n{expected}\nprinted:\n{}\n{}",
            ended.stdout, ended.stderr
        );
        examples += 1;
    }
    assert!(examples > 0, "the page has no example that can be run");
}

/// Whether `text` matches `pattern`, in which `...` matches anything.
fn matches_pattern(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split("...");
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let found = if parts.peek().is_none() {
            rest.ends_with(part).then(|| rest.len() - part.len())
        } else {
            rest.find(part)
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}
