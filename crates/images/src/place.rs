//! Paths below the root, and the names of files.

use manifest::{Format, NUMBER_MAX, is_name};

/// The parent of the bases' directories and of bases.ini.
pub const BACKING: &str = "/qcow2/backing";

/// The offered bases. Its rename is the commit of every switch-over to another generation.
pub const BASES_INI: &str = "/qcow2/backing/bases.ini";

/// The lock held while images, bases.ini or users' volumes are added or removed.
pub const POOL_LOCK: &str = "/run/labtools/pool.lock";

/// The kind of a generation's file: the ending of its name, `GENERATION.ENDING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The image.
    Image(Format),
    /// The manifest that describes it.
    Manifest,
    /// The signature of the manifest.
    Signature,
    /// The block map.
    Blocks,
    /// The torrent of the image.
    Torrent,
    /// The torrent of the block map.
    BlocksTorrent,
}

impl Ending {
    /// The files that can be beside an image.
    pub const BESIDE: [Ending; 5] = [
        Ending::Manifest,
        Ending::Signature,
        Ending::Blocks,
        Ending::Torrent,
        Ending::BlocksTorrent,
    ];

    /// Without the dot before it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Image(format) => format.as_str(),
            Ending::Manifest => "manifest",
            Ending::Signature => "sig",
            Ending::Blocks => "blocks",
            Ending::Torrent => "torrent",
            Ending::BlocksTorrent => "blocks.torrent",
        }
    }

    fn parse(text: &str) -> Option<Ending> {
        let images = [Format::Qcow2, Format::Raw].map(Ending::Image);
        images
            .into_iter()
            .chain(Ending::BESIDE)
            .find(|ending| ending.as_str() == text)
    }
}

/// The directory of a base.
pub fn directory(name: &str) -> String {
    format!("{BACKING}/{name}")
}

/// The name of a file of a generation.
pub fn file_name(generation: u64, ending: Ending) -> String {
    format!("{generation}.{}", ending.as_str())
}

/// The path of a file of a generation.
pub fn path(name: &str, generation: u64, ending: Ending) -> String {
    format!("{}/{}", directory(name), file_name(generation, ending))
}

/// The path of the image that users' volumes are made on.
pub fn image_path(name: &str, generation: u64) -> String {
    path(name, generation, Ending::Image(Format::Qcow2))
}

/// The base, the generation and the ending in a path of [`path`]; `None` for any other.
pub fn parse_path(path: &str) -> Option<(&str, u64, Ending)> {
    let (name, file) = path
        .strip_prefix(BACKING)?
        .strip_prefix('/')?
        .split_once('/')?;
    let (generation, ending) = parse_file_name(file)?;
    is_name(name).then_some((name, generation, ending))
}

/// The generation and the ending in a name of [`file_name`]; `None` for any other.
pub fn parse_file_name(name: &str) -> Option<(u64, Ending)> {
    let (generation, ending) = name.split_once('.')?;
    Some((parse_generation(generation)?, Ending::parse(ending)?))
}

/// A generation in a name, in its only accepted spelling: no plus sign, no leading zeros, and
/// within the limit of bases.ini and the manifest.
pub fn parse_generation(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|number: &u64| *number <= NUMBER_MAX && number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart_and_no_other_is() {
        assert_eq!(image_path("windows", 7), "/qcow2/backing/windows/7.qcow2");
        for ending in Ending::BESIDE
            .into_iter()
            .chain([Format::Qcow2, Format::Raw].map(Ending::Image))
        {
            assert_eq!(
                parse_path(&path("windows", 7, ending)),
                Some(("windows", 7, ending))
            );
        }
        for path in [
            "",
            "/",
            "/qcow2/backing/windows",
            "/qcow2/backing/windows/7",
            "/qcow2/backing/windows/7.iso",
            "/qcow2/backing/windows/07.qcow2",
            "/qcow2/backing/windows/+7.qcow2",
            "/qcow2/backing/windows/9007199254740992.qcow2",
            "/qcow2/backing/../7.qcow2",
            "/qcow2/backing/windows/../7.qcow2",
            "/qcow2/backing//7.qcow2",
            "/qcow2/backingx/windows/7.qcow2",
        ] {
            assert_eq!(parse_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_name_has_a_generation_and_a_known_ending() {
        for name in [
            "7.qcow2",
            "7.raw",
            "7.manifest",
            "7.sig",
            "7.blocks",
            "7.torrent",
            "7.blocks.torrent",
        ] {
            let (generation, ending) = parse_file_name(name).unwrap();
            assert_eq!((generation, ending.as_str()), (7, &name[2..]));
        }
        for name in [
            ".7.qcow2",
            ".7.qcow2.aria2",
            "07.qcow2",
            "7.qcow2.bak",
            "7",
            "x.qcow2",
            "+7.sig",
            "7.",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
