//! What comes in: the sections `volume` and `login` of the document.
//!
//! Both are other tools' sections, and a person may write them with any key that those tools give them. So each key is listed
//! here, also those that a guest has no use for: only what is no key of theirs is an unknown one.

use jsonpipe::Exit;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A key that has its place in the section and of which nothing is read.
type Unread = Option<IgnoredAny>;

/// The disk to boot, as `cowvol clone` writes it.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "of another tool's section")]
pub struct Volume {
    /// Where the disk lies: an image file, or a block device below /dev.
    pub path: String,
    /// How it is laid out.
    pub format: Format,
    /// The operating system on it, which chooses the profile.
    pub ostype: String,
    /// The base image that the disk is an overlay of; none for a disk that stands alone.
    #[serde(default)]
    pub backing_path: Option<String>,
    /// How the base image is laid out.
    #[serde(default)]
    pub backing_format: Option<Format>,
    user: Unread,
    token: Unread,
    base: Unread,
    generation: Unread,
    backend: Unread,
    virtual_bytes: Unread,
    held_bytes: Unread,
    created: Unread,
    changed: Unread,
}

/// The layout of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// QEMU's copy-on-write format.
    Qcow2,
    /// The bytes of the disk, nothing else.
    Raw,
}

impl Format {
    /// The name of QEMU's driver for it.
    pub fn driver(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

impl Volume {
    /// The same, once its keys fit together.
    pub fn checked(self) -> anyhow::Result<Volume> {
        let wrong = |key: &str, what: &str| Err(Exit::Data.error(format_args!("volume.{key}: {what}")));
        for (key, path) in [("path", Some(&self.path)), ("backing_path", self.backing_path.as_ref())] {
            if path.is_some_and(|path| !path.starts_with('/') || path.contains(char::is_control)) {
                return wrong(key, "not an absolute path");
            }
        }
        match (&self.backing_path, self.backing_format, self.format) {
            (Some(_), None, _) => wrong("backing_format", "missing beside backing_path"),
            (None, Some(_), _) => wrong("backing_path", "missing beside backing_format"),
            (Some(_), _, Format::Raw) => wrong("backing_path", "a raw disk has no base"),
            _ => Ok(self),
        }
    }

    /// The base image and its layout.
    pub fn backing(&self) -> Option<(&str, Format)> {
        self.backing_path.as_deref().zip(self.backing_format)
    }

    /// Whether the disk is a block device. Its path tells, so that a plan needs no such device.
    pub fn is_device(&self) -> bool {
        self.path.starts_with("/dev/")
    }
}

/// How the login went, as `nm-8021x-login` writes it.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "of another tool's section")]
pub struct Login {
    /// Without a yes no guest starts.
    pub authenticated: bool,
    /// The network connections that were made, the one for the guest first.
    #[serde(default)]
    pub links: Vec<Link>,
    user: Unread,
    /// As it goes into the login, beside a password that has no place here.
    username: Unread,
    realm: Unread,
    method: Unread,
    session: Unread,
    reason: Unread,
    started_at: Unread,
    changed: Unread,
    missing: Unread,
}

/// One network connection.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "of another tool's section")]
pub struct Link {
    /// The network interface, `eno1`.
    pub interface: String,
    kind: Unread,
    profile: Unread,
    eap: Unread,
    server_subject: Unread,
    addresses: Unread,
    primary: Unread,
    verdict_seconds: Unread,
}

impl Login {
    /// The interface whose MAC address the guest gets.
    pub(crate) fn interface(self) -> Option<String> {
        self.links.into_iter().next().map(|link| link.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonpipe::Document;

    fn volume(json: &str) -> Result<Volume, String> {
        let document = Document::parse(&format!(r#"{{"volume":{json}}}"#), "guest").unwrap();
        document.require::<Volume>("volume").and_then(Volume::checked).map_err(|error| {
            assert_eq!(Exit::of(&error), Exit::Data);
            format!("{error:#}")
        })
    }

    #[test]
    fn the_keys_of_a_volume_fit_together() {
        for (json, message) in [
            (r#"{"path":"v","format":"raw","ostype":"linux"}"#, "volume.path: not an absolute path"),
            (r#"{"path":"/v\nw","format":"raw","ostype":"linux"}"#, "volume.path: not an absolute path"),
            (r#"{"path":"/v","format":"vmdk","ostype":"linux"}"#, "volume.format: expected one of qcow2, raw"),
            (r#"{"path":"/v","format":"raw"}"#, "volume.ostype: missing"),
            (
                r#"{"path":"/v","format":"qcow2","ostype":"linux","backing_path":"/b"}"#,
                "volume.backing_format: missing beside backing_path",
            ),
            (
                r#"{"path":"/v","format":"qcow2","ostype":"linux","backing_format":"raw"}"#,
                "volume.backing_path: missing beside backing_format",
            ),
            (
                r#"{"path":"/v","format":"raw","ostype":"linux","backing_path":"/b","backing_format":"raw"}"#,
                "volume.backing_path: a raw disk has no base",
            ),
        ] {
            assert_eq!(volume(json).unwrap_err(), message);
        }
        let by_tool = r#"{"schema":1,"user":"a@b","path":"/v","format":"qcow2","ostype":"linux","backing_path":"/b","backing_format":"qcow2"}"#;
        assert_eq!(volume(by_tool).unwrap().backing(), Some(("/b", Format::Qcow2)));
    }
}
