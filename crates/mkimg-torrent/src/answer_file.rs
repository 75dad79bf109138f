//! `mkimg-torrent answer-file`: the files by which Windows' setup makes an image.

use std::io::Write;

use answer_file::Installation;
use answer_file::request::SECTION;
use jsonpipe::{Answer, Exit, Pipe, atomic, read_if_there};

use crate::create;
use crate::request::AnswerFile;

/// An installation takes an hour, so the whole description, also of what `create` will read, is
/// checked before it.
pub fn answer_file(pipe: &Pipe, options: &AnswerFile) -> anyhow::Result<Answer> {
    let pipe = pipe.owning(SECTION);
    let mut document = pipe.document("a document with the sections image and windows")?;
    let (image, _) = create::described(&document)?;
    if image.path.is_some() {
        return Err(Exit::Data.error("image.path: leave it out; the image is not there yet"));
    }
    let installation = Installation::take_from(&mut document)?;
    let mut changed = false;
    for (path, text) in installation.files()? {
        let path = options.into.join(path);
        if read_if_there(&path)?.is_some_and(|found| found == text.as_bytes()) {
            continue;
        }
        changed = true;
        if !options.dry_run {
            if let Some(directory) = path.parent() {
                atomic::create_directory(directory, 0o700)?;
            }
            // The first has the product key.
            atomic::write(&path, 0o600, |file| file.write_all(text.as_bytes()))?;
        }
    }
    document.set(SECTION, &installation.report(changed))?;
    Ok(Answer::yes(document).staying(changed && !options.dry_run))
}
