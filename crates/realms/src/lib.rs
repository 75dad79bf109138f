//! The files of `realms.d`: what an institution says of its logins.
//! Belongs here: what is about such a file: reading it, finding it by a user name, listing it,
//! making it from an eap-config, and fetching or publishing a set of them. Not: NetworkManager, the
//! supplicant, a login.

mod eap_config;
mod file;
mod find;
mod list;
mod realm;
mod set;

pub use find::{Realm, find};
pub use list::{CaState, Listing, list};
pub use realm::user_name::UserName;
pub use realm::{Eap, Phase2, is_domain_name as is_realm};
pub use set::import::{Import, import};
pub use set::publish::{Publish, publish};
pub use set::update::update;

/// What NetworkManager takes for wpa_supplicant, of a password too: its
/// src/core/supplicant/nm-supplicant-settings-verify.c. It refuses more when the profile is active,
/// and says why only in its log.
pub const VALUE_MAX_BYTES: usize = 255;
