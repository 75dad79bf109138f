//! `mkimg-torrent create` and `mkimg-torrent verify`; see mkimg-torrent(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    jsonpipe::main(mkimg_torrent::TOOL, mkimg_torrent::run)
}
