//! firmware.ini: the values that the firmware's settings must have.

use std::collections::HashSet;

use jsonpipe::{Common, Exit, ini, is_hidden};
use serde::Deserialize;

/// The file's name in the configuration directory.
pub const FILE: &str = "firmware.ini";
const KIND: &str = "firmware";

/// The key of the setup password, and the word for it in the documents.
pub const SETUP_PASSWORD: &str = "setup_password";

/// `[firmware.INTERFACE]`, or `[firmware.INTERFACE.MODEL]` in its place for one model. INTERFACE is
/// the kernel's name of a driver, or `cctk`. A list is empty where the firmware has no such setting.
#[derive(Debug, Deserialize)]
pub struct Policy {
    /// Devices can be handed to guests.
    vt_d: Vec<Assignment>,
    /// The machine can be woken.
    wake_on_lan: Vec<Assignment>,
    /// The machine boots from USB only for those who know the setup password.
    usb_boot: Vec<Assignment>,
    /// A setup password is set.
    pub setup_password: bool,
}

/// A setting of the firmware and its value: `VTdFeature=Enable`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Assignment {
    /// The name, in the interface's spelling.
    pub attribute: String,
    /// The value, in the interface's spelling.
    pub value: String,
}

impl Policy {
    /// The settings, each under its key.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &Assignment)> {
        let keys = [
            ("vt_d", &self.vt_d),
            ("wake_on_lan", &self.wake_on_lan),
            ("usb_boot", &self.usb_boot),
        ];
        keys.into_iter()
            .flat_map(|(key, list)| list.iter().map(move |setting| (key, setting)))
    }
}

/// All policies by the rest of their section's name. Status 66 when the file does not exist, 78
/// when it is invalid.
pub fn read_all(common: &Common) -> anyhow::Result<Vec<(String, Policy)>> {
    let path = common.config(FILE);
    let policies: Vec<(String, Policy)> = ini::read_table(&path, KIND)?;
    for (name, policy) in &policies {
        let mut known = HashSet::new();
        for (key, Assignment { attribute, .. }) in policy.settings() {
            if !known.insert(attribute) {
                return Err(Exit::Config.error(format_args!(
                    "{}: {KIND}.{name}.{key}: {attribute} is given twice",
                    path.display()
                )));
            }
        }
    }
    Ok(policies)
}

/// The policy for an interface: that of the model, if there is one.
pub fn choose<'a>(
    policies: &'a [(String, Policy)],
    interface: &str,
    model: Option<&str>,
) -> Option<&'a Policy> {
    let named = |wanted: &str| {
        let found = policies.iter().find(|(name, _)| name == wanted);
        found.map(|(_, policy)| policy)
    };
    model
        .and_then(|model| named(&format!("{interface}.{model}")))
        .or_else(|| named(interface))
}

impl TryFrom<String> for Assignment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (attribute, value) = text
            .split_once('=')
            .ok_or("expected a setting and its value such as VTdFeature=Enable")?;
        let (attribute, value) = (attribute.trim(), value.trim());
        // It is the name of a directory, and of an option.
        if attribute.is_empty()
            || attribute.starts_with(['.', '-'])
            || attribute.contains(|c| c == '/' || is_hidden(c))
        {
            return Err("no name of a setting");
        }
        // cctk sets passwords by names such as setuppwd.
        if attribute.to_ascii_lowercase().ends_with("pwd") {
            return Err("no password may stand here; see invcollect-firmware(8)");
        }
        // A semicolon ends a command of think-lmi to its firmware.
        if value.is_empty() || value.contains(|c| c == ';' || is_hidden(c)) {
            return Err("no value of a setting");
        }
        Ok(Assignment {
            attribute: attribute.to_owned(),
            value: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "wake_on_lan =\nusb_boot =\nsetup_password = true\n";

    fn read(text: &str) -> Result<Vec<(String, Policy)>, String> {
        jsonpipe::testkit::configured(FILE, text, read_all)
    }

    #[test]
    fn the_models_policy_comes_before_the_interfaces() {
        let policies = read(&format!(
            "[firmware.thinklmi]\nvt_d = VTdFeature=Enable, A = b=c\n{REST}\
             [firmware.thinklmi.M 7.2]\nvt_d =\n{REST}"
        ))
        .unwrap();
        let chosen = |interface, model| {
            let policy = choose(&policies, interface, model)?;
            let each = policy.settings();
            let each = each.map(|(key, one)| format!("{key} {} {}", one.attribute, one.value));
            Some(each.collect::<Vec<_>>())
        };
        let general = Some(vec!["vt_d VTdFeature Enable".into(), "vt_d A b=c".into()]);
        assert_eq!(chosen("thinklmi", None), general);
        assert_eq!(chosen("thinklmi", Some("M 7")), general);
        assert_eq!(chosen("thinklmi", Some("M 7.2")), Some(Vec::new()));
        assert_eq!(chosen("cctk", None), None);
    }

    #[test]
    fn a_fault_is_named_by_its_key() {
        for (setting, message) in [
            ("VTdFeature", "vt_d[0]: expected a setting and its value"),
            ("A=b, =c", "vt_d[1]: no name of a setting"),
            ("../A=b", "vt_d[0]: no name of a setting"),
            ("a/b=c", "vt_d[0]: no name of a setting"),
            ("--A=b", "vt_d[0]: no name of a setting"),
            ("A=", "vt_d[0]: no value of a setting"),
            ("A=b;C", "vt_d[0]: no value of a setting"),
            ("A=b\u{200b}", "vt_d[0]: no value of a setting"),
            ("SetupPwd=sesame", "vt_d[0]: no password may stand here"),
            ("A=b, A=c", "vt_d: A is given twice"),
        ] {
            let error = read(&format!("[firmware.x]\nvt_d = {setting}\n{REST}")).unwrap_err();
            let expected = format!("firmware.x.{message}");
            assert!(error.starts_with(&expected), "{setting:?}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
        let error = read("[firmware.x]\nvt_d =\n").unwrap_err();
        assert!(error.contains("wake_on_lan"), "{error}");
    }
}
