//! The secret agent and the bus, without a network.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use futures_lite::StreamExt;
use jsonpipe::testkit::{Ended, feed};
use tempfile::TempDir;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Message, MessageStream, ObjectPath, Variant};

use super::{ALICE, BINARY, credentials, told};

/// A bus with nobody on it.
struct PrivateBus {
    directory: TempDir,
    daemon: Option<Child>,
}

impl PrivateBus {
    /// A configuration; nothing runs yet.
    fn new() -> PrivateBus {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("bus.conf"),
            format!(
                "<busconfig><listen>unix:path={}</listen><policy context=\"default\"><allow own=\"*\"/>\
                 <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/></policy></busconfig>",
                directory.path().join("bus").display()
            ),
        )
        .unwrap();
        PrivateBus {
            directory,
            daemon: None,
        }
    }

    fn start(&mut self) {
        let mut daemon = Command::new("dbus-daemon")
            .args([
                "--nofork",
                "--nopidfile",
                "--print-address",
                "--config-file",
            ])
            .arg(self.directory.path().join("bus.conf"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new(); // it prints its address once it listens
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(daemon.stdout.take().unwrap()),
            &mut ready,
        )
        .unwrap();
        self.daemon = Some(daemon);
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.directory.path().join("bus").display())
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }
}

#[test]
fn without_a_bus_or_networkmanager_it_says_so() {
    let mut bus = PrivateBus::new();
    let logout = |bus: &PrivateBus| {
        told(Ended::of(
            Command::new(BINARY)
                .arg("logout")
                .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
                .output()
                .unwrap(),
        ))
    };

    let (status, _, stderr) = logout(&bus);
    assert_eq!(status, 69);
    assert!(stderr.contains("connecting to the system bus"), "{stderr}");

    bus.start();
    let (status, _, stderr) = logout(&bus);
    assert_eq!(status, 69);
    assert!(
        stderr.contains("org.freedesktop.NetworkManager")
            && stderr.contains("start NetworkManager"),
        "{stderr}"
    );
    assert_eq!(stderr.matches("no such name").count(), 1, "{stderr}");
}

/// Answers as NetworkManager and wpa_supplicant do, until a profile is activated; refuses that once
/// its own question is answered.
///
/// A fake, because the real NetworkManager asks a little later, and lost the answer of one login in
/// a hundred. This one asks for the password at once, and talks on, so that the tool never finds
/// its socket empty.
async fn eager_networkmanager(address: &str, ready: mpsc::Sender<()>) -> zbus::Result<()> {
    let connection = Builder::address(address).build().await?;
    let mut messages = MessageStream::from(&connection);
    connection
        .request_name("org.freedesktop.NetworkManager")
        .await?;
    connection.request_name("fi.w1.wpa_supplicant1").await?;
    let _ = ready.send(()); // the test is over
    let talking = connection.clone();
    std::thread::spawn(move || {
        let signal = || {
            talking.emit_signal(
                None::<&str>,
                "/",
                "org.freedesktop.NetworkManager",
                "StateChanged",
                &70u32,
            )
        };
        while zbus::block_on(signal()).is_ok() {}
    });
    let path = |path: &'static str| ObjectPath::try_from(path).unwrap();
    let (mut question, mut activation) = (None, None::<Message>);
    while let Some(message) = messages.next().await {
        let message = message?;
        let header = message.header();
        if question.is_some() && header.reply_serial() == question {
            question = None;
        }
        match header
            .member()
            .map(|member| member.as_str())
            .unwrap_or_default()
        {
            "ListConnections" => {
                connection
                    .reply(&header, &Vec::<ObjectPath<'_>>::new())
                    .await?
            }
            "GetDevices" => connection.reply(&header, &vec![path("/device")]).await?,
            "Get" => {
                let (_, property): (String, String) = message.body().deserialize()?;
                let value = match property.as_str() {
                    "ActiveConnections" => Variant::from(Vec::<ObjectPath<'_>>::new()),
                    "DeviceType" => 1u32.into(),
                    "Interface" => "labtools0".into(), // no interface of this machine
                    _ => true.into(),
                };
                connection.reply(&header, &value).await?;
            }
            "Register" => {
                connection.reply(&header, &()).await?;
                let nothing = HashMap::<String, HashMap<String, Variant<'_>>>::new();
                let ask = Message::method_call(
                    "/org/freedesktop/NetworkManager/SecretAgent",
                    "GetSecrets",
                )
                .interface("org.freedesktop.NetworkManager.SecretAgent")
                .destination(header.sender().unwrap().to_owned())
                .build(&(
                    nothing,
                    path("/"),
                    "802-1x",
                    Vec::<String>::new(),
                    0u32,
                ))?;
                question = Some(ask.primary_header().serial_num());
                connection.send(&ask).await?;
            }
            "AddAndActivateConnection2" => activation = Some(message.clone()),
            other if message.message_type() == Type::MethodCall => {
                connection
                    .reply_error(&header, "org.freedesktop.DBus.Error.UnknownMethod", &other)
                    .await?;
            }
            _ => {}
        }
        if let Some(activation) = activation.take_if(|_| question.is_none()) {
            connection
                .reply_error(
                    &activation.header(),
                    "org.freedesktop.NetworkManager.Failed",
                    &"its agent answered",
                )
                .await?;
        }
    }
    Ok(())
}

#[test]
fn the_secret_agent_answers_from_its_first_moment() {
    let mut bus = PrivateBus::new();
    bus.start();
    let (address, (ready, begun)) = (bus.address(), mpsc::channel());
    std::thread::spawn(move || zbus::block_on(eager_networkmanager(&address, ready)));
    begun.recv().unwrap();
    let root = tempfile::tempdir().unwrap();
    let realms = root.path().join("etc/labtools/realms.d");
    fs::create_dir_all(&realms).unwrap();
    fs::write(
        realms.join("ca.pem"),
        include_str!("../../../../../testdata/nm-8021x-login/ca.pem"),
    )
    .unwrap();
    let realm = "[realm.uni-a.example]\neap=ttls\nphase2=pap\nca_cert=ca.pem\ndomain_suffix_match=radius.uni-a.example\n";
    fs::write(realms.join("uni-a.example.ini"), realm).unwrap();
    for number in 1..=30 {
        let mut login = Command::new(BINARY);
        login
            .args(["login", "--root"])
            .arg(root.path())
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
        let (status, _, stderr) = told(feed(login, &credentials(ALICE.0, ALICE.1)));
        assert_eq!(status, 69, "{stderr}");
        assert!(
            stderr.contains("its agent answered"),
            "login {number}: {stderr}"
        );
    }
}
