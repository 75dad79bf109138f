//! The map beside an image in the store.

use std::path::Path;
use std::{fs, io};

use images::Ending;
use jsonpipe::{Common, Exit, ExitContext};
use manifest::{Base, Hex, Keys, Kind, Signature, Signed};
use sha2::{Digest, Sha256};

/// The block map at `blocks`, if it is the one of the signed manifest beside it; `None` where there
/// is no map. Status 65 when it is another one, which would hide usable blocks of the image.
pub fn beside(common: &Common, blocks: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let looking = || format!("looking at {}", blocks.display());
    let read = |ending: Ending| {
        let path = blocks.with_extension(ending.as_str());
        match fs::metadata(&path) {
            Ok(found) if !found.is_file() => Err(io::Error::other(format!(
                "{} is not a regular file",
                path.display()
            ))),
            Ok(_) => fs::read(&path),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("{}: {error}", path.display()),
            )),
        }
    };
    let map = match read(Ending::Blocks) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        map => map.exit(Exit::Io, looking)?,
    };
    let (manifest, signature) = (
        read(Ending::Manifest).exit(Exit::Data, looking)?,
        read(Ending::Signature).exit(Exit::Data, looking)?,
    );
    let signature = Signature::from_bytes(&signature).exit(Exit::Data, || {
        format!("{}: the signature is cut off", looking())
    })?;
    let keys = Keys::read(&common.config("keys"), Kind::Base)?;
    let base: Base = Signed {
        bytes: manifest,
        signature,
    }
    .verify(&keys)
    .exit(Exit::Data, looking)?;
    if base.blocks_sha256 != Hex(Sha256::digest(&map).into()) {
        return Err(Exit::Data.error(format_args!(
            "{}: not the block map of its manifest",
            looking()
        )));
    }
    Ok(Some(map))
}
