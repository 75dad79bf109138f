//! Where an image comes from: a file, a pipe or a server; as it is, or compressed with zstd.

use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use std::time::Duration;

use jsonpipe::{Exit, ExitContext, io_error};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

/// What every frame of zstd begins with (RFC 8878, section 3.1.1).
const ZSTD: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// 8 MiB, which every decoder has to have room for (RFC 8878, section 3.1.1.1.2), and `zstd -1` to `-19` need.
const WINDOW_LOG: u32 = 23;

/// A server that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Opens a file, a FIFO, `/dev/fd/N` or an https URL, and looks at its first bytes; what is read from it is the image itself. `ca_cert`
/// is the CA of the server's certificate, instead of those of the web.
///
/// Status 66 when it is not there, 69 when the server cannot be reached or trusted, 65 when there is nothing in it.
pub fn open(from: &str, ca_cert: Option<&Path>) -> anyhow::Result<Box<dyn Read + Send>> {
    let mut source: Box<dyn Read + Send> = match from.split_once("://") {
        Some(("https", _)) => fetch(from, ca_cert)?,
        Some(_) => return Err(Exit::Usage.error(format_args!("opening {from}: a path or a URL with https:// is needed"))),
        None => Box::new(File::open(from).map_err(|error| io_error(error, Exit::of_read, format_args!("opening {from}")))?),
    };
    let mut first = Vec::new();
    (&mut source).take(ZSTD.len() as u64).read_to_end(&mut first).exit(Exit::Io, || format!("reading {from}"))?;
    if first.is_empty() {
        return Err(Exit::Data.error(format_args!("reading {from}: it is empty")));
    }
    let compressed = first == ZSTD;
    let source = Cursor::new(first).chain(source);
    if !compressed {
        return Ok(Box::new(source));
    }
    let decompressing = || format!("decompressing {from}");
    let mut decoder =
        zstd::Decoder::with_buffer(BufReader::with_capacity(128 << 10, source)).exit(Exit::Software, decompressing)?;
    decoder.window_log_max(WINDOW_LOG).exit(Exit::Software, decompressing)?;
    // What the decoder has to say against it, it says here.
    let mut first = Vec::new();
    (&mut decoder)
        .take(1)
        .read_to_end(&mut first)
        .exit(Exit::Data, || format!("{}; compress it with zstd -19 at most, without --ultra and --long", decompressing()))?;
    Ok(Box::new(Cursor::new(first).chain(decoder)))
}

fn fetch(url: &str, ca_cert: Option<&Path>) -> anyhow::Result<Box<dyn Read + Send>> {
    let tls = TlsConfig::builder();
    let tls = match ca_cert {
        Some(path) => tls.root_certs(certificates(path)?),
        None => tls,
    };
    // What a server is not to choose: another protocol, and to keep us waiting.
    let agent = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .https_only(true)
        .proxy(None)
        .timeout_connect(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .build()
        .new_agent();
    let response = agent.get(url).call().map_err(|error| match error {
        ureq::Error::StatusCode(404 | 410) => Exit::NoInput.error(format_args!("fetching {url}: the server does not have it")),
        error => Exit::Unavailable.error(format_args!("fetching {url}: {error}")),
    })?;
    Ok(Box::new(response.into_body().into_reader()))
}

/// The certificates in a file, in PEM. Status 78 when there is none.
fn certificates(path: &Path) -> anyhow::Result<RootCerts> {
    let reading = || format!("reading the CA's certificate in {}", path.display());
    let pem = fs::read(path).exit(Exit::Config, reading)?;
    let items = ureq::tls::parse_pem(&pem).collect::<Result<Vec<_>, _>>().exit(Exit::Config, reading)?;
    let certificates: Vec<Certificate<'static>> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Exit::Config.error(format_args!("{}: there is none", reading())));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
