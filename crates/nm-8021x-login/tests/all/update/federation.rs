//! A federation's server, and a machine that believes it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use jsonpipe::testkit::Ended;
use manifest::{Realms, Signed, SigningKey};
use tempfile::TempDir;

use super::server::{Certificates, Fault, Real, faulty};
use crate::import::{Machine, SET, STATE, testdata};

/// A federation's server, and a machine that believes it.
pub struct Federation {
    pub machine: Machine,
    /// What is published.
    pub directory: TempDir,
    /// The keys, and the certificates of the web server.
    pub secrets: TempDir,
    pub certificates: Certificates,
}

impl Federation {
    /// One of uni-a to uni-e, whose set is published.
    pub fn new() -> Federation {
        let machine = Machine::new();
        let secrets = tempfile::tempdir().unwrap();
        let certificates = Certificates::make(secrets.path());
        let federation = Federation {
            machine,
            directory: tempfile::tempdir().unwrap(),
            secrets,
            certificates,
        };
        for name in ["realms", "other"] {
            federation.key(name);
        }
        let public = federation.secrets.path().join("realms.pub");
        let keys = federation.machine.path("etc/labtools/keys");
        fs::create_dir_all(&keys).unwrap();
        fs::copy(public, keys.join("realms-1.pub")).unwrap();
        for name in ["uni-a", "uni-b", "uni-c", "uni-d", "uni-e"] {
            federation.add(name, name);
        }
        assert_eq!(federation.publish().status, 0);
        federation
    }

    fn key(&self, name: &str) {
        let script = "openssl genpkey -algorithm ed25519 -out $0.key && chmod 600 $0.key && openssl pkey -in $0.key -pubout -out $0.pub";
        let made = Command::new("bash")
            .args(["-euc", script, name])
            .current_dir(self.secrets.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    /// Puts a file of the test data among those to be published.
    pub fn add(&self, name: &str, from: &str) {
        let from = testdata().join(format!("in/{from}.eap-config"));
        fs::copy(from, self.file(name)).unwrap();
    }

    /// Changes a file of them; some are no UTF-8.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text: String = fs::read(self.file(name))
            .unwrap()
            .into_iter()
            .map(char::from)
            .collect();
        assert!(text.contains(from));
        let bytes: Vec<u8> = text.replace(from, to).chars().map(|c| c as u8).collect();
        fs::write(self.file(name), bytes).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.eap-config"))
    }

    pub fn publish_with(&self, key: &str, arguments: &[&str]) -> Ended {
        let mut command = self.machine.command("publish-realms", arguments);
        command.arg("--key").arg(self.secrets.path().join(key));
        command.arg(self.directory.path());
        Ended::of(command.output().unwrap())
    }

    pub fn publish(&self) -> Ended {
        self.publish_with("realms.key", &[])
    }

    /// Signs what no `publish-realms` would.
    pub fn sign(&self, key: &str, change: impl FnOnce(&mut Realms)) {
        let path = self.directory.path().join("realms.json");
        let mut set: Realms = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut set);
        let key = SigningKey::read(&self.secrets.path().join(key)).unwrap();
        let signed = Signed::seal(&set, &key).unwrap();
        fs::write(&path, &signed.bytes).unwrap();
        fs::write(path.with_extension("sig"), signed.signature.to_bytes()).unwrap();
    }

    /// Signs the files as they are now, each for the realms that it was for.
    pub fn sign_present_files(&self) {
        let directory = self.directory.path().to_owned();
        self.sign("realms.key", |set| {
            set.generation += 1;
            for file in &mut set.files {
                let path = directory.join(&file.name);
                let sum = Command::new("sha256sum")
                    .arg(&path)
                    .output()
                    .unwrap()
                    .stdout;
                let sum = String::from_utf8(sum).unwrap();
                file.sha256 = manifest::Digest::parse(&sum[..64]).unwrap();
                file.size_bytes = fs::metadata(path).unwrap().len();
            }
        });
    }

    pub fn update_from(&self, address: impl std::fmt::Display, arguments: &[&str]) -> Ended {
        let ca = self.certificates.path("ca.pem");
        fs::copy(ca, self.machine.path("etc/labtools/noc.pem")).unwrap();
        self.machine.write(
            "etc/labtools/nm-8021x-login.ini",
            format!("[update]\nurl=https://{address}\nca_cert=noc.pem\n"),
        );
        let command = &mut self.machine.command("update-realms", arguments);
        Ended::of(command.output().unwrap())
    }

    /// From openssl's server.
    pub fn update(&self) -> Ended {
        let server = Real::start(&self.certificates, self.directory.path());
        self.update_from(server.address, &["-v"])
    }

    /// From a server with a fault.
    pub fn update_with(&self, file: &str, fault: Fault) -> Ended {
        let server = faulty(&self.certificates, self.directory.path(), file, fault);
        self.update_from(server, &[])
    }

    /// All that an update can change.
    pub fn state(&self) -> (Vec<String>, Vec<(String, String)>) {
        let files = match self.machine.path(SET).exists() {
            true => self.machine.files(SET),
            false => Vec::new(),
        };
        (self.machine.names(STATE), files)
    }
}
