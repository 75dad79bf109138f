//! NetworkManager's secret agent: the one way by which the password leaves this process.
//!
//! Interface: org.freedesktop.NetworkManager.SecretAgent, NetworkManager's D-Bus reference.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use secrecy::{ExposeSecret, SecretString};
use zbus::message::Header;
use zbus::{ObjectPath, OwnedVariant, Variant, fdo};

use super::bus::{Bus, Owners, Target, failed_call};
use super::network_manager;

const PATH: &str = "/org/freedesktop/NetworkManager/SecretAgent";
const MANAGER: Target<'_> = Target {
    service: network_manager::SERVICE,
    path: "/org/freedesktop/NetworkManager/AgentManager",
    interface: "org.freedesktop.NetworkManager.AgentManager",
};

/// NM_SECRET_AGENT_GET_SECRETS_FLAG_REQUEST_NEW: what we gave before was wrong.
const REQUEST_NEW: u32 = 2;

/// What becomes of a question for the password of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It waits: another link tries the password first, so that a typing error is one failure in
    /// the university's count, and not two. NetworkManager waits for two minutes.
    Withheld,
    /// It is answered.
    Given,
}

/// For which profiles the password is given away. A profile that is not in it gets none.
#[derive(Debug, Default)]
struct Decisions {
    profiles: HashMap<String, Access>,
    waiting: Vec<Waker>,
}

struct SecretAgent {
    owners: Owners,
    access: Arc<Mutex<Decisions>>,
    password: SecretString,
}

type Secrets = HashMap<&'static str, HashMap<&'static str, OwnedVariant>>;

#[zbus::interface(name = "org.freedesktop.NetworkManager.SecretAgent")]
impl SecretAgent {
    async fn get_secrets(
        &self,
        connection: HashMap<String, HashMap<String, OwnedVariant>>,
        _connection_path: ObjectPath<'_>,
        setting_name: &str,
        _hints: Vec<String>,
        flags: u32,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<Secrets> {
        let uuid = connection
            .get("connection")
            .and_then(|setting| setting.get("uuid"))
            .and_then(|uuid| <&str>::try_from(uuid).ok());
        let asked_by = header.sender().map(|sender| sender.as_str());
        let may_ask = setting_name == "802-1x"
            && flags & REQUEST_NEW == 0
            && self.owners.is(network_manager::SERVICE, asked_by);
        let given = match uuid {
            Some(uuid) if may_ask => self.decided(uuid).await,
            _ => false,
        };
        if !given {
            return Err(fdo::Error::AccessDenied(
                "no secret for this request".into(),
            ));
        }
        let password = Variant::from(self.password.expose_secret()).try_to_owned()?;
        Ok(HashMap::from([(
            "802-1x",
            HashMap::from([("password", password)]),
        )]))
    }

    async fn cancel_get_secrets(&self, _connection_path: ObjectPath<'_>, _setting_name: &str) {}

    async fn save_secrets(
        &self,
        _connection: HashMap<String, HashMap<String, OwnedVariant>>,
        _connection_path: ObjectPath<'_>,
    ) {
    }

    async fn delete_secrets(
        &self,
        _connection: HashMap<String, HashMap<String, OwnedVariant>>,
        _connection_path: ObjectPath<'_>,
    ) {
    }
}

impl SecretAgent {
    /// Waits until the password is no longer withheld from a profile; whether it is given.
    async fn decided(&self, uuid: &str) -> bool {
        poll_fn(|context| {
            let mut access = locked(&self.access);
            match access.profiles.get(uuid) {
                Some(Access::Given) => Poll::Ready(true),
                Some(Access::Withheld) => {
                    access.waiting.push(context.waker().clone());
                    Poll::Pending
                }
                None => Poll::Ready(false),
            }
        })
        .await
    }
}

fn locked(access: &Mutex<Decisions>) -> MutexGuard<'_, Decisions> {
    access.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our agent at NetworkManager. It is gone when this is dropped.
#[derive(Debug)]
pub struct Agent {
    bus: Bus,
    id: String,
    access: Arc<Mutex<Decisions>>,
}

impl Agent {
    /// An agent that knows one password, for no profile yet.
    ///
    /// NetworkManager may ask as soon as it is registered, and an answer that does not come costs
    /// the login. So the agent is there before its connection is, and has it for itself.
    pub fn new(owners: &Owners, id: &str, password: SecretString) -> anyhow::Result<Agent> {
        let access = Arc::new(Mutex::new(Decisions::default()));
        let agent = SecretAgent {
            owners: owners.clone(),
            access: Arc::clone(&access),
            password,
        };
        Ok(Agent {
            bus: Bus::serving(PATH, agent)?,
            // Another process that has the same id would keep this one from registering.
            id: format!("labtools.{id}"),
            access,
        })
    }

    /// Tells NetworkManager of it; once more after NetworkManager was started anew.
    pub fn register(&self) -> anyhow::Result<()> {
        self.bus
            .call::<_, ()>(MANAGER, "Register", &self.id)
            .map_err(|error| failed_call(error, "registering as NetworkManager's secret agent"))
    }

    /// Decides on a profile, questions that wait included.
    pub fn set(&self, uuid: &str, decision: Access) {
        self.change(|profiles| {
            profiles.insert(uuid.to_owned(), decision);
        });
    }

    /// Refuses a profile from now on.
    pub fn forget(&self, uuid: &str) {
        self.change(|profiles| {
            profiles.remove(uuid);
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, Access>)) {
        let mut access = locked(&self.access);
        change(&mut access.profiles);
        let waiting = std::mem::take(&mut access.waiting);
        drop(access);
        waiting.into_iter().for_each(Waker::wake);
    }
}
