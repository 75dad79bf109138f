//! The files of `realms.d`: what an institution says of its logins.
//! Belongs here: what is about such a file: reading it, finding it by a user name, listing it,
//! making it from an eap-config, and fetching or publishing a set of them. Not: NetworkManager, the
//! supplicant, a login.

mod authorities;
mod bundle;
mod description;
mod eap_config;
mod file;
mod find;
mod gate;
mod import;
mod list;
mod methods;
mod publish;
mod realm;
mod report;
mod server;
mod set;
mod update;
mod user_name;
mod xml;

pub use find::{Realm, find};
pub use import::{Import, import};
pub use list::{CaState, Listing, list};
pub use publish::{Publish, publish};
pub use realm::{Eap, Phase2, is_domain_name as is_realm};
pub use update::update;
pub use user_name::UserName;

/// What NetworkManager takes for wpa_supplicant, of a password too: its
/// src/core/supplicant/nm-supplicant-settings-verify.c. It refuses more when the profile is active,
/// and says why only in its log.
pub const VALUE_MAX_BYTES: usize = 255;
