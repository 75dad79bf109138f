//! This machine's way to the network: the system bus, NetworkManager and wpa_supplicant on it, the
//! profile of a login, the secret agent that gives the password away, wireless networks, and EAPOL
//! frames.
//!
//! It does what it is told to, and says what it hears. It knows nothing of attempts and sessions.

pub mod bus;
pub mod eapol;
pub mod network_manager;
pub mod profile;
pub mod secret_agent;
pub mod supplicant;
pub mod wireless;
