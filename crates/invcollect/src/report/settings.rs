//! The section `firmware`.

use serde::Serialize;

/// The answer of `firmware`.
#[derive(Debug, Serialize)]
pub struct Settings {
    /// Whether a setting has another value than before, or a password was set.
    pub changed: bool,
    /// The kernel's name of the driver, or `cctk`.
    pub interface: String,
    /// The model, as models.ini has it.
    pub model: String,
    /// The wanted settings, in the order of firmware.ini's keys, the setup password last.
    pub settings: Vec<Setting>,
    /// Whether changes, these or earlier ones, take effect at the next boot; absent where the
    /// interface does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_reboot: Option<bool>,
}

/// A setting of the firmware that firmware.ini wants.
#[derive(Debug, Serialize)]
pub struct Setting {
    /// Its key in firmware.ini: `vt_d`.
    pub setting: &'static str,
    /// Its name in the interface: `VTdFeature`.
    pub attribute: String,
    /// The value in firmware.ini; `set` for the setup password.
    pub wanted: String,
    /// The value before.
    pub was: String,
    /// The value now, as it was read back; absent when that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// Why it is not the wanted one, after a write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}
