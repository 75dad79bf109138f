//! Runs `qemu-img`, which copies an image into a volume, and compares the two.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jsonpipe::signals::Deferred;
use jsonpipe::{Exit, ExitContext, io_error};
use progress::Progress;

use crate::TOOL;

/// Writes what the image holds into a new volume, in which all else is zero already.
pub fn convert(
    image: &Path,
    node: &Path,
    virtual_bytes: u64,
    ending_signals: &Deferred,
) -> anyhow::Result<()> {
    // -t none: without it qemu-img does not flush, and a snapshot would not have the last writes.
    let options = [
        "convert",
        "-p",
        "-n",
        "--target-is-zero",
        "-t",
        "none",
        "-f",
        "qcow2",
        "-O",
        "raw",
    ];
    let doing = format!("converting {}", image.display());
    run(&options, image, node, &doing, virtual_bytes, ending_signals)
}

/// Refuses (74) a volume that does not read as the image.
pub fn compare(
    image: &Path,
    node: &Path,
    virtual_bytes: u64,
    ending_signals: &Deferred,
) -> anyhow::Result<()> {
    let options = ["compare", "-p", "-f", "qcow2", "-F", "raw"];
    let doing = format!("comparing {} with {}", node.display(), image.display());
    run(&options, image, node, &doing, virtual_bytes, ending_signals)
}

fn run(
    options: &[&str],
    image: &Path,
    node: &Path,
    doing: &str,
    virtual_bytes: u64,
    ending_signals: &Deferred,
) -> anyhow::Result<()> {
    let mut child = Command::new("qemu-img")
        .args(options)
        .args([image, node])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0) // Ctrl-C is for this process, which ends it
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Exit::Unavailable.error(format_args!(
                "{doing}: starting qemu-img: no such program; install qemu-utils"
            )),
            _ => io_error(error, |_| Exit::Software, format_args!("starting qemu-img")),
        })?;
    let followed = follow(&mut child, doing, virtual_bytes, ending_signals);
    if followed.is_err() {
        let _ = child.kill(); // the first error is the one to report
    }
    let output = child
        .wait_with_output()
        .exit(Exit::Software, || "waiting for qemu-img")?;
    followed?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = match said.trim() {
        "" => "they differ",
        said => said,
    };
    let exit = match said.contains("No space left on device") {
        true => Exit::CantCreate,
        false => Exit::Io,
    };
    Err(exit.error(format_args!("{doing}: {}", said.replace('\n', "; "))))
}

/// Shows the progress that it prints, until its output ends. Status 75 when a signal ends it.
fn follow(
    child: &mut Child,
    doing: &str,
    virtual_bytes: u64,
    ending_signals: &Deferred,
) -> anyhow::Result<()> {
    let mut progress = Progress::new(TOOL);
    let Some(output) = child.stdout.take() else {
        return Ok(());
    };
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = output
            .by_ref()
            .take(4096)
            .read_until(b'\r', &mut line)
            .exit(Exit::Io, || format!("{doing}: reading its progress"))?;
        if length == 0 {
            return Ok(());
        }
        if ending_signals.pending() {
            return Err(Exit::TemporaryFailure.error(format_args!("{doing}: interrupted")));
        }
        if let Some(hundredths) = hundredths(&String::from_utf8_lossy(&line)) {
            progress.show(doing, virtual_bytes / 10_000 * hundredths, virtual_bytes);
        }
    }
}

/// Hundredths of a percent in `    (12.34/100%)`.
fn hundredths(text: &str) -> Option<u64> {
    let (number, _) = text.trim().strip_prefix('(')?.split_once("/100%")?;
    let (percent, hundredths) = number.split_once('.')?;
    Some(percent.parse::<u64>().ok()? * 100 + hundredths.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_of_qemu_img_is_read() {
        assert_eq!(hundredths("    (12.34/100%)\r"), Some(1234));
        assert_eq!(hundredths("    (100.00/100%)\r"), Some(10_000));
        assert_eq!(hundredths("\n"), None);
        assert_eq!(hundredths("Images are identical.\n"), None);
    }
}
