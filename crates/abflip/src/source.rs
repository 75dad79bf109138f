//! The source of an image: a file, a pipe or a server; raw, or compressed with zstd.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use std::time::Duration;

use jsonpipe::{Exit, ExitContext, io_error};
use ureq::tls::TlsConfig;

/// The magic number of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// The magic number of a skippable frame, without the lower half of the first byte (section 3.1.2):
/// pzstd and others write one in front.
const SKIPPABLE: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();

/// The magic numbers of other compression formats; no image of a root begins with one.
const OTHERS: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zX", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// 8 MiB: every decoder must have room for it (RFC 8878, section 3.1.1.1.2), and it suffices for
/// `zstd -1` to `-19`.
const WINDOW_LOG: u32 = 23;

/// A server that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// Opens a file, a FIFO, `/dev/fd/N` or an https URL, and checks its first bytes. The reader
/// returns the decompressed image. `ca_cert` is the CA of the server's certificate, instead of the
/// public ones.
///
/// Status 66 when the source does not exist, 69 when the server cannot be reached or trusted, 65
/// when the source is empty.
pub fn open(from: &str, ca_cert: Option<&Path>) -> anyhow::Result<Box<dyn Read + Send>> {
    let (url, from) = (from, public(from));
    let mut source: Box<dyn Read + Send> = match url.split_once("://") {
        Some(("https", _)) => fetch(url, ca_cert)?,
        Some(_) => {
            return Err(Exit::Usage.error(format_args!(
                "opening {from}: a path or a URL with https:// is needed"
            )));
        }
        None if is_cut(url) => {
            return Err(
                Exit::Usage.error(format_args!("opening {from}: a URL begins with https://"))
            );
        }
        None => Box::new(
            File::open(url)
                .map_err(|error| io_error(error, Exit::of_read, format_args!("opening {from}")))?,
        ),
    };
    let mut first = Vec::new();
    (&mut source)
        .take(ZSTD.len() as u64)
        .read_to_end(&mut first)
        .exit(Exit::Io, || format!("reading {from}"))?;
    if first.is_empty() {
        return Err(Exit::Data.error(format_args!("reading {from}: it is empty")));
    }
    if let Some((_, other)) = OTHERS.iter().find(|(magic, _)| first.starts_with(magic)) {
        return Err(Exit::Data.error(format_args!(
            "reading {from}: it is compressed by {other}; compress it with zstd"
        )));
    }
    let is_compressed = first == ZSTD
        || first.len() == 4 && [&[first[0] & 0xf0], &first[1..]].concat() == SKIPPABLE;
    let source = Cursor::new(first).chain(source);
    if !is_compressed {
        return Ok(Box::new(source));
    }
    let decompressing = || format!("decompressing {from}");
    let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(128 << 10, source))
        .exit(Exit::Software, decompressing)?;
    decoder
        .window_log_max(WINDOW_LOG)
        .exit(Exit::Software, decompressing)?;
    // Errors of the decoder appear with the first bytes.
    let mut first = Vec::new();
    (&mut decoder)
        .take(1)
        .read_to_end(&mut first)
        .exit(Exit::Data, || {
            format!(
                "{}; compress it with zstd -19 at most, without --ultra and --long",
                decompressing()
            )
        })?;
    if first.is_empty() {
        return Err(Exit::Data.error(format_args!("{}: it is empty", decompressing())));
    }
    Ok(Box::new(Cursor::new(first).chain(decoder)))
}

/// The printable form of a source: a URL without its user, password and query.
fn public(from: &str) -> String {
    let Some((scheme, rest)) = from.split_once("://") else {
        return if is_cut(from) {
            "a URL".into()
        } else {
            from.to_owned()
        };
    };
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = match host.rsplit_once('@') {
        Some((_, host)) => host,
        // A suffix that is not a port is a password that contains one of these characters.
        None if !host.ends_with(']')
            && host
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.bytes().any(|byte| !byte.is_ascii_digit())) =>
        {
            return format!("{scheme}://");
        }
        None => host,
    };
    format!("{scheme}://{host}{path}")
}

/// Whether this is a URL that lacks a slash, and not a path.
fn is_cut(from: &str) -> bool {
    let scheme = from
        .split_once(':')
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    !from.contains("://") && matches!(scheme.as_deref(), Some("http" | "https"))
}

/// An error message in which URLs are made printable.
fn public_words(text: &str) -> String {
    text.split(' ').map(public).collect::<Vec<_>>().join(" ")
}

fn fetch(url: &str, ca_cert: Option<&Path>) -> anyhow::Result<Box<dyn Read + Send>> {
    let tls = TlsConfig::builder();
    let tls = match ca_cert {
        Some(path) => tls.root_certs(http_client::root_certs(path)?),
        None => tls,
    };
    // The server may name another address, but no other protocol, and not keep us waiting: what
    // arrives is believed for its signature.
    let agent = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .https_only(true)
        .proxy(None)
        .timeout_connect(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .build()
        .new_agent();
    let shown = public(url);
    let response = agent
        .get(url)
        .header("accept-encoding", "identity")
        .call()
        .map_err(|error| match error {
            ureq::Error::StatusCode(404 | 410) => {
                Exit::NoInput.error(format_args!("fetching {shown}: not found on the server"))
            }
            error => {
                let cause = error.to_string().replace(url, &shown);
                Exit::Unavailable.error(format_args!("fetching {shown}: {}", public_words(&cause)))
            }
        })?;
    // The request asks for no encoding, and nothing here decodes one.
    if let Some(encoding) = response
        .headers()
        .get("content-encoding")
        .filter(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        let way_out = "have it send the file as it is";
        return Err(Exit::Unavailable.error(format_args!(
            "fetching {shown}: the server sends it in the encoding {encoding}; {way_out}"
        )));
    }
    Ok(Box::new(response.into_body().into_reader()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_what_is_secret_in_it() {
        for (url, told) in [
            (
                "https://user:SECRET@127.0.0.1:1/i.zst?token=T",
                "https://127.0.0.1:1/i.zst",
            ),
            ("https://SECRET@host", "https://host"),
            ("https://a@b:SECRET@host/a@b#SECRET", "https://host/a@b"),
            ("https://host?SECRET/@x", "https://host"),
            ("http://user:SECRET@[::1]:80/x", "http://[::1]:80/x"),
            ("https://host/x", "https://host/x"),
            ("https://user:SEC/RET@host/x", "https://"),
            ("https://user:SEC?RET@host/x", "https://"),
            ("https:/user:SECRET@host/x", "a URL"),
            ("HTTPS:user:SECRET@host/x", "a URL"),
            ("https://[::1]/x", "https://[::1]/x"),
            ("https://[fe80::a]:8443/x", "https://[fe80::a]:8443/x"),
            ("dir/user@host?x", "dir/user@host?x"),
        ] {
            assert_eq!(public(url), told);
        }
        let words = "configured for https only: http://user:SECRET@host/x?SECRET (redirected)";
        assert_eq!(
            public_words(words),
            "configured for https only: http://host/x (redirected)"
        );
    }
}
