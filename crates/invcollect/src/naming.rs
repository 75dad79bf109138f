//! `invcollect name`: gives this machine its name, by hosts.ini and the Ethernet addresses of its
//! wired ports, and keeps its room for the login screen.
//!
//! All machines have one image, which has a list of all, or none. A machine that the list does not
//! name has a name of its address. No fault of the list is a reason not to boot.

use std::fs;
use std::io::Write;

use campus::hosts::{self, is_mac};
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Missing, Pipe, atomic};
use serde::Serialize;

use crate::read::identity;
use crate::read::interfaces;
use crate::read::machine::Machine;
use crate::report::Interface;

/// The document, for the seat.
const FILE: &str = "/run/labtools/machine.json";

/// The section `machine`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Named {
    /// Whether the kernel had another name.
    changed: bool,
    /// Its name: in hosts.ini, otherwise of the address of a port; absent without a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its building in hosts.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    building: Option<String>,
    /// Its room in hosts.ini.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    /// Why a key is absent, or is not what hosts.ini has.
    missing: Vec<Missing>,
}

/// `invcollect name`: status 1 when hosts.ini is wrong, or names two machines by the ports of this
/// one: the machine then has a name of its address; and when no port is found: it then keeps its
/// name.
/// Status 73, 74 or 77 when the kernel does not take the name, or the file cannot be written; the
/// name then is as before.
pub fn name(common: &Common, pipe: &Pipe, dry_run: bool) -> anyhow::Result<Answer> {
    let machine = Machine::new(common);
    let interfaces = interfaces::read(&machine);
    let before = identity::hostname(&machine);
    let mut named = Named::default();
    let mut fault = named.find(common, &interfaces);
    named.missing.extend(machine.into_missing());
    if named.name.is_none() {
        let reasons = named.missing.iter().map(|lack| lack.reason.as_str());
        fault = Some(reasons.collect::<Vec<_>>().join("; "));
    }
    let new = named
        .name
        .as_ref()
        .filter(|name| Some(*name) != before.as_ref())
        .cloned();
    named.changed = new.is_some();
    let mut document = Document::default();
    document.set("machine", &named)?;
    if !dry_run {
        set(common, new.as_deref())?;
        if let Err(error) = keep(common, &document) {
            let old = before.filter(|_| new.is_some());
            let _ = set(common, old.as_deref()); // the first error counts
            return Err(error);
        }
    }
    let answer = match fault {
        Some(reason) => {
            pipe.warn(format_args!("naming this machine: {reason}"));
            Answer::no(document)
        }
        None => Answer::yes(document),
    };
    Ok(answer.staying(!dry_run && new.is_some()))
}

impl Named {
    /// Fills in what hosts.ini and the ports tell. Returns the fault of the list, if it has one.
    fn find(&mut self, common: &Common, interfaces: &[Interface]) -> Option<String> {
        let mut fault = None;
        match entry(common, interfaces) {
            Ok((name, host)) => {
                self.name = Some(name);
                (self.building, self.room) = (Some(host.building), Some(host.room));
                return None;
            }
            Err(NoEntry::Absent(reason)) => self.lacks("room", reason),
            Err(NoEntry::Fault(reason)) => {
                fault = Some(reason.clone());
                self.lacks("room", reason);
            }
        }
        self.name = of_address(interfaces);
        if self.name.is_none() {
            self.lacks("name", "no port of this machine was found".into());
        }
        fault
    }

    fn lacks(&mut self, key: &str, reason: String) {
        self.missing.push(Missing {
            key: key.into(),
            reason,
        });
    }
}

/// Why hosts.ini has no entry of this machine.
#[derive(Debug, PartialEq, Eq)]
enum NoEntry {
    /// It need not have one.
    Absent(String),
    /// A person has to mend it.
    Fault(String),
}

/// The entry of this machine in hosts.ini: the one with the address of a wired port.
fn entry(common: &Common, interfaces: &[Interface]) -> Result<(String, hosts::Machine), NoEntry> {
    let path = common.config("hosts.ini");
    let path = path.display();
    let listed = hosts::read(common).map_err(|error| match Exit::of(&error) {
        Exit::NoInput => NoEntry::Absent(format!("no {path}")),
        _ => NoEntry::Fault(format!("{error:#}")),
    })?;
    let is_ours = |host: &hosts::Machine| {
        ports(interfaces)
            .any(|(is_wireless, mac)| !is_wireless && mac.eq_ignore_ascii_case(&host.mac))
    };
    let mut ours = listed.into_iter().filter(|(_, host)| is_ours(host));
    let Some(entry) = ours.next() else {
        let reason = format!("{path} has no address of a wired port of this machine");
        return Err(NoEntry::Absent(reason));
    };
    if let Some((other, _)) = ours.next() {
        let name = &entry.0;
        return Err(NoEntry::Fault(format!(
            "{path}: {name} and {other} both have the address of a port of this machine"
        )));
    }
    Ok(entry)
}

/// The built-in ports, each with its permanent address and whether it is wireless. A removable one
/// may be a user's.
fn ports(interfaces: &[Interface]) -> impl Iterator<Item = (bool, &str)> {
    interfaces
        .iter()
        .filter(|interface| interface.hardware && !interface.removable)
        .map(|interface| (interface.wireless, interface.subject()))
        .filter(|(_, mac)| is_mac(mac))
}

/// A name of the last three bytes of an address: of a wired port, if there is one. The smallest
/// address, for ports are found in no certain order.
fn of_address(interfaces: &[Interface]) -> Option<String> {
    let (_, mac) = ports(interfaces)
        .map(|(is_wireless, mac)| (is_wireless, mac.to_ascii_lowercase()))
        .min()?;
    let bytes: Vec<&str> = mac.split(':').skip(3).collect();
    Some(format!("lab-{}", bytes.concat()))
}

/// Gives the kernel the name, if there is one to give.
fn set(common: &Common, name: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = name else { return Ok(()) };
    let path = common.path(identity::HOSTNAME);
    fs::write(&path, name).map_err(|error| {
        let doing = format_args!("writing {}", path.display());
        jsonpipe::io_error(error, Exit::of_change, doing)
    })
}

/// Writes the document where the seat finds it.
fn keep(common: &Common, document: &Document) -> anyhow::Result<()> {
    let path = common.path(FILE);
    let directory = path.parent().exit(Exit::Software, || FILE.to_owned())?;
    atomic::create_directory(directory, 0o700)?;
    atomic::write(&path, 0o600, |file| writeln!(file, "{document}"))
}
