//! `invcollect firmware`: gives the firmware's settings the values of firmware.ini.
//!
//! Everything is validated before the first write: the model, its BIOS, and each name and value.
//! Then each setting that differs is written, and read back. Settings do not depend on each other,
//! so one that the firmware refuses does not keep the others from their values, and none is undone.

mod interface;
mod password;
mod policy;
pub mod wanted;

use std::fs::File;

use jsonpipe::{Answer, Common, Document, Exit, Pipe, lock, sabotaged, shown, signals};

use crate::firmware::interface::Interface;
use crate::firmware::password::Password;
use crate::firmware::policy::{Policy, SETUP_PASSWORD};
use crate::firmware::wanted::Reading;
use crate::read::cctk;
use crate::read::machine::Machine;
use crate::report::{self, Setting};
use crate::supported;

const SECTION: &str = "firmware";
const LOCK: &str = "/run/labtools/firmware.lock";

/// `invcollect firmware`: status 1 when a setting has another value than firmware.ini wants.
pub fn firmware(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let ending = signals::defer()?;
    let lock = lock(common, dry_run)?;
    let machine = Machine::new(common);
    let model = supported::model(common, pipe)?;
    let policies = policy::read_all(common)?;
    cctk::forget(&machine);
    let (mut interface, policy) = Interface::find(&machine, &policies, Some(&model))?;
    let mut settings = read(&machine, &interface, policy)?;
    let sets_password = !dry_run
        && settings.iter().any(Setting::differs)
        && write(&machine, &mut interface, pipe, &mut settings)?;
    let changed = sets_password
        || settings
            .iter()
            .any(|setting| setting.is.as_ref() != Some(&setting.was));
    let differs = settings.iter().any(Setting::differs);
    let mut document = Document::default();
    document.set(
        SECTION,
        &report::Settings {
            changed,
            interface: interface.name().to_owned(),
            model,
            settings,
            pending_reboot: interface.pending_reboot(&machine),
        },
    )?;
    drop(lock);
    let answer = Answer::yes(document).staying(changed).holding(ending);
    Ok(if differs { answer.but_no() } else { answer })
}

/// One run at a time: another one would take the password from the kernel.
fn lock(common: &Common, dry_run: bool) -> anyhow::Result<Option<File>> {
    if dry_run {
        return Ok(None);
    }
    lock::take(
        common,
        LOCK,
        "another run holds it; try again when that has ended",
    )
    .map(Some)
}

/// The wanted settings as they are. Status 78 when the firmware does not have one of them, or does
/// not take its value; the message has all such faults.
fn read(machine: &Machine, interface: &Interface, policy: &Policy) -> anyhow::Result<Vec<Setting>> {
    let (mut settings, mut faults) = (Vec::new(), Vec::new());
    for reading in wanted::read_all(machine, interface, policy) {
        let Reading {
            setting,
            attribute,
            wanted,
            is,
        } = reading;
        match is {
            Err(why) if Exit::of(&why) == Exit::Config => {
                faults.push(format!("{setting}: {why:#}"))
            }
            Err(error) => return Err(error),
            Ok(is) => {
                let possible = interface.possible(machine, &attribute);
                if !possible.is_empty() && !possible.iter().any(|value| value == wanted) {
                    faults.push(format!(
                        "{setting}: {attribute} takes {}, not {wanted}",
                        possible.join(", ")
                    ));
                }
                settings.push(Setting {
                    setting,
                    attribute: shown(&attribute).into_owned(),
                    wanted: wanted.to_owned(),
                    was: is.clone(),
                    is: Some(is),
                    failed: None,
                });
            }
        }
    }
    if faults.is_empty() {
        return Ok(settings);
    }
    Err(Exit::Config.error(format_args!(
        "{}: {}: {}",
        machine.common.config(policy::FILE).display(),
        interface.name(),
        faults.join("; ")
    )))
}

/// Writes what differs, the password last, and reads it back. Returns whether the firmware took a
/// new password, which not every driver shows at once.
fn write(
    machine: &Machine,
    interface: &mut Interface,
    pipe: &Pipe,
    settings: &mut [Setting],
) -> anyhow::Result<bool> {
    let directory = interface.setup_password(machine).map(|(path, _)| path);
    let is_locked = match &directory {
        Some(directory) => wanted::is_set(machine, directory)?,
        None => false,
    };
    let is_password = |one: &Setting| one.setting == SETUP_PASSWORD;
    let password = match &directory {
        Some(directory) if is_locked || settings.iter().any(is_password) => {
            Some(Password::read(machine, directory)?)
        }
        _ => None,
    };
    let unlocked = match &password {
        Some(password) if is_locked => Some(password.unlock(machine, pipe)?),
        _ => None,
    };
    let (mut is_refused, mut sets_password) = (false, false);
    for one in settings.iter_mut().filter(|one| one.differs()) {
        // After a few wrong passwords a firmware takes none until it is switched off.
        if is_refused {
            one.failed = Some("not tried, after the firmware refused the one before".into());
            continue;
        }
        pipe.note(format_args!("writing {}: {}", one.attribute, one.wanted));
        let written = match &password {
            Some(password) if is_password(one) => password.set(machine),
            _ => interface.write(machine, &one.attribute, &one.wanted),
        };
        match written {
            Ok(()) => sets_password |= is_password(one),
            Err(error) => {
                is_refused = error.kind() == std::io::ErrorKind::PermissionDenied;
                one.failed = Some(format!("writing it: {error}"));
            }
        }
    }
    drop(unlocked);
    read_back(machine, interface, directory.as_deref(), settings);
    Ok(sets_password)
}

/// Reads back what differed; `directory` is that of the setup password.
fn read_back(
    machine: &Machine,
    interface: &mut Interface,
    directory: Option<&str>,
    settings: &mut [Setting],
) {
    let refreshed = interface.refresh(machine);
    for one in settings.iter_mut().filter(|one| one.differs()) {
        let is = match (&refreshed, directory) {
            _ if sabotaged("skip-read-back") => Ok(one.wanted.clone()),
            (Err(error), _) => Err(format!("reading it back: {error}")),
            (Ok(()), Some(directory)) if one.setting == SETUP_PASSWORD => {
                wanted::is_set(machine, directory)
                    .map(wanted::word)
                    .map_err(|e| format!("{e:#}"))
            }
            (Ok(()), _) => wanted::value(machine, interface, &one.attribute, &one.wanted)
                .map_err(|e| format!("{e:#}")),
        };
        one.read_back(is);
    }
}

impl Setting {
    fn differs(&self) -> bool {
        self.is.as_ref() != Some(&self.wanted)
    }

    /// Takes in the value after the write; a failed write stays the reason.
    fn read_back(&mut self, is: Result<String, String>) {
        let reason = match &is {
            Ok(is) if *is == self.wanted => None,
            // think-lmi reads it once.
            Ok(_) if self.setting == SETUP_PASSWORD => Some(
                "the firmware took it, and does not show it yet; check it after the next boot"
                    .into(),
            ),
            Ok(_) => Some("the firmware took it, and has another value now".into()),
            Err(error) => Some(error.clone()),
        };
        if let Some(reason) = reason {
            self.failed.get_or_insert(reason);
        }
        self.is = is.ok();
    }
}
