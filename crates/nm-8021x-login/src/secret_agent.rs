//! NetworkManager's secret agent: the one way by which the password leaves this process.
//!
//! Interface: org.freedesktop.NetworkManager.SecretAgent, NetworkManager's D-Bus reference.

use std::collections::HashMap;

use secrecy::{ExposeSecret, SecretString};
use zbus::message::Header;
use zbus::{ObjectPath, OwnedVariant, Variant, fdo};

use crate::bus::{Bus, Target, failed_call};
use crate::network_manager;

const PATH: &str = "/org/freedesktop/NetworkManager/SecretAgent";
const MANAGER: Target<'_> = Target {
    service: network_manager::SERVICE,
    path: "/org/freedesktop/NetworkManager/AgentManager",
    interface: "org.freedesktop.NetworkManager.AgentManager",
};

/// NM_SECRET_AGENT_GET_SECRETS_FLAG_REQUEST_NEW: what we gave before was wrong.
const REQUEST_NEW: u32 = 2;

struct SecretAgent {
    /// The unique name of NetworkManager: nobody else is answered.
    network_manager: String,
    /// The profile whose password this is: no other is answered for.
    uuid: String,
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
        let ours = uuid == Some(&self.uuid)
            && setting_name == "802-1x"
            && asked_by == Some(&self.network_manager);
        if !ours || flags & REQUEST_NEW != 0 {
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

/// Registers an agent that knows one password for one profile. It is gone with the connection that
/// is returned.
///
/// NetworkManager may ask as soon as it is registered, and an answer that does not come costs the
/// login. So the agent is there before its connection is, and has it for itself.
pub fn register(network_manager: &str, uuid: &str, password: SecretString) -> anyhow::Result<Bus> {
    let agent = SecretAgent {
        network_manager: network_manager.to_owned(),
        uuid: uuid.to_owned(),
        password,
    };
    let bus = Bus::serving(PATH, agent)?;
    // Another process that has the same id would keep this one from registering.
    bus.call::<_, ()>(MANAGER, "Register", &format!("labtools.{uuid}"))
        .map_err(|error| failed_call(error, "registering as NetworkManager's secret agent"))?;
    Ok(bus)
}
