//! HTTPS servers on the loopback, and the certificates for them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A CA, and the certificate of a server at 127.0.0.1 that it signed.
pub struct Certificates(PathBuf);

impl Certificates {
    pub fn make(directory: &Path) -> Certificates {
        let script = r#"
            key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            openssl req -x509 $key -subj "/CN=NOC" -keyout ca.key -out ca.pem
            openssl req $key -subj "/CN=realms" -keyout server.key |
              openssl x509 -req -CA ca.pem -CAkey ca.key -extfile <(echo subjectAltName=IP:127.0.0.1) -out server.pem"#;
        let made = Command::new("bash")
            .args(["-euc", script])
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Certificates(directory.to_owned())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// openssl's own server, of the files in a directory. It ends with this value.
pub struct Real {
    child: Child,
    pub address: SocketAddr,
}

impl Real {
    pub fn start(certificates: &Certificates, directory: &Path) -> Real {
        Real::start_with(certificates, directory, &[])
    }

    /// With more options of s_server.
    pub fn start_with(certificates: &Certificates, directory: &Path, options: &[&str]) -> Real {
        let mut child = Command::new("openssl")
            .args(["s_server", "-WWW", "-accept", "127.0.0.1:0", "-cert"])
            .arg(certificates.path("server.pem"))
            .arg("-key")
            .arg(certificates.path("server.key"))
            .args(options)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok())
            .expect("openssl says where it listens");
        // It goes on to say what is asked for.
        thread::spawn(move || lines.for_each(drop));
        Real { child, address }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server does that openssl's cannot be made to do.
#[derive(Clone)]
pub enum Fault {
    /// Promises more of the file than it sends.
    Torn,
    /// Ends the file before its end, and calls that the end.
    Short,
    /// Never ends.
    Endless,
    /// Sends them to another address.
    Redirect,
    /// Says 404.
    Absent,
    /// Closes after the question.
    Silent,
}

/// Starts a server of a directory, with a fault at one file. It ends with the test.
pub fn faulty(
    certificates: &Certificates,
    directory: &Path,
    file: &str,
    fault: Fault,
) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(certificates.path("server.pem"))
        .unwrap()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (directory, file) = (directory.to_owned(), file.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            // The client may leave at any moment.
            let _ = reply(&mut stream, &directory, &file, &fault);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

fn reply(
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    directory: &Path,
    faulty: &str,
    fault: &Fault,
) -> std::io::Result<()> {
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        question.push(byte[0]);
    }
    let question = String::from_utf8(question).unwrap();
    let name = question.split(' ').nth(1).unwrap().trim_start_matches('/');
    let bytes = std::fs::read(directory.join(name))?;
    let whole = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    if name != faulty {
        stream.write_all(whole.as_bytes())?;
        return stream.write_all(&bytes);
    }
    let open = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    match fault {
        Fault::Torn => {
            stream.write_all(whole.as_bytes())?;
            stream.write_all(&bytes[..bytes.len() / 2])
        }
        Fault::Short => {
            stream.write_all(open.as_bytes())?;
            stream.write_all(&bytes[..bytes.len() / 2])
        }
        Fault::Endless => {
            stream.write_all(open.as_bytes())?;
            loop {
                stream.write_all(&[b' '; 65536])?;
            }
        }
        Fault::Redirect => stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        ),
        Fault::Absent => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        Fault::Silent => Ok(()),
    }
}
