//! What the process that was called and the one that holds the session say to each other, on a
//! socket that nobody else has: the order and the password, the outcome, and that it was delivered.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use jsonpipe::{Common, Exit, ExitContext};
use realms::Realm;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Longer than an order with every value at its longest.
const MAX_BYTES: usize = 1 << 16;

/// Ends the password, which can hold none.
const END: u8 = 0;

/// A login that may begin.
#[derive(Debug, Deserialize, Serialize)]
pub struct Order {
    /// What the RADIUS server is told.
    pub identity: String,
    /// Whom to trust, and whom the session is named for.
    pub realm: Realm,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// The root directory.
    pub root: PathBuf,
}

impl Order {
    /// Hands it over, with the password, which is copied nowhere on this side.
    pub fn write(&self, to: &mut UnixStream, password: &SecretString) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)?;
        to.write_all(password.expose_secret().as_bytes())?;
        to.write_all(&[END])
    }

    /// Takes it.
    pub fn read(from: &mut impl Read) -> anyhow::Result<(Order, SecretString)> {
        let mut bytes = Zeroizing::new(vec![0; MAX_BYTES]);
        let mut length = 0;
        while bytes[..length].last() != Some(&END) {
            match from.read(&mut bytes[length..]) {
                Ok(0) => return Err(Exit::Software.error("reading the order: it is torn")),
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).exit(Exit::Io, || "reading the order"),
            }
        }
        let (line, password) = bytes[..length - 1]
            .split_at_checked(
                bytes
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(length),
            )
            .exit(Exit::Software, || "reading the order: it has no password")?;
        let order = serde_json::from_slice(line).exit(Exit::Software, || "reading the order")?;
        let password = str::from_utf8(&password[1..])
            .exit(Exit::Software, || "reading the order: not UTF-8")?;
        Ok((order, SecretString::from(password)))
    }

    /// The flags of this process that the work needs.
    pub fn common(&self) -> Common {
        Common {
            verbose: false,
            log: false,
            root: self.root.clone(),
            config: None,
        }
    }
}

/// How it went.
#[derive(Debug, Deserialize, Serialize)]
pub struct Outcome {
    /// The exit status.
    pub status: u8,
    /// What to complain of, beside an answer or instead of one.
    pub error: String,
    /// The section `login`, where there is one.
    pub login: Option<Box<RawValue>>,
}

impl Outcome {
    /// An answer.
    pub fn answer(exit: Exit, login: &impl Serialize) -> anyhow::Result<Outcome> {
        Ok(Outcome {
            status: exit as u8,
            error: String::new(),
            login: Some(serde_json::value::to_raw_value(login)?),
        })
    }

    /// None.
    pub fn failure(error: &anyhow::Error) -> Outcome {
        Outcome {
            status: Exit::of(error) as u8,
            error: format!("{error:#}"),
            login: None,
        }
    }

    /// Adds what to complain of.
    pub fn complain<'a>(&mut self, complaints: impl Iterator<Item = &'a anyhow::Error>) {
        let said = (!self.error.is_empty()).then(|| self.error.clone());
        let more = complaints.map(|why| format!("{why:#}"));
        self.error = said.into_iter().chain(more).collect::<Vec<_>>().join("; ");
    }

    /// Says it.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)
    }

    /// Parses what was said, to the end of the line.
    pub fn parse(line: &[u8]) -> Option<Outcome> {
        serde_json::from_slice(line).ok()
    }

    /// The name of the session in its answer.
    pub fn session(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            session: Option<String>,
        }
        let named = serde_json::from_str::<Named>(self.login.as_ref()?.get());
        named.ok()?.session
    }

    /// The error that it tells of.
    pub fn into_error(self) -> anyhow::Error {
        let exit = match Exit::of_number(self.status) {
            Exit::Done | Exit::No | Exit::Usage => Exit::Software, // none of an error
            exit => exit,
        };
        exit.error(self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::profile;

    #[test]
    fn order_arrives_with_its_password_however_it_is_cut() {
        let order = Order {
            identity: "Alice@a.example".into(),
            realm: profile::tests::realm(),
            started_at: "2026-11-29T00:00:00Z".into(),
            root: "/".into(),
        };
        for password in ["x", "a\nb\"\\", "é\u{1f511}"] {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            order.write(&mut ours, &password.into()).unwrap();
            drop(ours);
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).unwrap();
            let mut slowly = OneByOne(&bytes);
            let (read, secret) = Order::read(&mut slowly).unwrap();
            assert_eq!(
                (read.identity, secret.expose_secret()),
                (order.identity.clone(), password)
            );
            for cut in 0..bytes.len() {
                assert!(Order::read(&mut &bytes[..cut]).is_err(), "{cut}");
            }
        }
    }

    struct OneByOne<'a>(&'a [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(1);
            self.0.read(&mut into[..most])
        }
    }
}
