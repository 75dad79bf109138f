//! The expected machines and their expected state: hosts.ini, models.ini and manifests.

use std::collections::{BTreeMap, HashMap};

use campus::hosts;
use jsonpipe::{Common, Exit, Missing};
use manifest::{Base, Keys, Kind, Signed};
use model::{Memory, Model};

use crate::reported::Snapshot;
use crate::request::Options;

/// The expectations.
#[derive(Debug, Default)]
pub struct Roster {
    /// The machines of hosts.ini, in its order.
    pub machines: Vec<(String, hosts::Machine)>,
    by_mac: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
    /// The hardware of the models, by name.
    pub models: BTreeMap<String, Model>,
    /// The versions that the manifests prescribe.
    pub images: Vec<Expected>,
}

/// An image or a base that machines should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The name of a base; `None` for a host image.
    pub base: Option<String>,
    /// The models that it is for; empty for all.
    pub models: Vec<String>,
    /// Its version or generation.
    pub version: u64,
}

impl Roster {
    /// Reads the files. Missing ones are listed in `missing`; status 78 when a file is invalid.
    pub fn read(
        common: &Common,
        options: &Options,
        missing: &mut Vec<Missing>,
    ) -> anyhow::Result<Roster> {
        let mut lacks = |key: &str, reason: &str| {
            missing.push(Missing {
                key: key.into(),
                reason: reason.into(),
            })
        };
        let machines = match hosts::read(common) {
            Err(error) if Exit::of(&error) == Exit::NoInput => {
                lacks(
                    "machines",
                    "there is no hosts.ini: machines that never reported are unknown, and rooms are as machines report them",
                );
                Vec::new()
            }
            machines => machines?,
        };
        let by_mac = machines
            .iter()
            .enumerate()
            .map(|(index, (_, machine))| (machine.mac.to_ascii_lowercase(), index))
            .collect();
        let by_name = machines
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (name.clone(), index))
            .collect();
        Ok(Roster {
            machines,
            by_mac,
            by_name,
            models: model::read_all(common)?.into_iter().collect(),
            images: options
                .manifest
                .iter()
                .map(|path| manifest(common, path))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// The machine of hosts.ini that sent this report: by its Ethernet addresses, otherwise by its
    /// name.
    pub fn find(&self, snapshot: &Snapshot) -> Option<usize> {
        let macs = snapshot
            .interfaces
            .iter()
            .filter(|interface| interface.hardware)
            .filter_map(|interface| interface.mac.as_ref());
        let by_mac = macs
            .filter_map(|mac| self.by_mac.get(&mac.to_ascii_lowercase()))
            .next();
        let short = |name: &str| self.by_name.get(name.split('.').next().unwrap_or_default());
        let by_name = || {
            snapshot
                .hostname
                .as_ref()
                .and_then(|name| self.by_name.get(name).or_else(|| short(name)))
        };
        by_mac.or_else(by_name).copied()
    }

    /// The factory memory of this model.
    pub fn memory_bytes(&self, model: Option<&str>, snapshot: &Snapshot) -> Option<u64> {
        model
            .and_then(|model| self.models.get(model)?.memory_installed)
            .map(Memory::bytes)
            .or(snapshot.memory.expected_bytes)
    }
}

/// A manifest signed by a key of its kind. Status 66 when it or its signature does not exist, 65
/// when the signature is invalid.
fn manifest(common: &Common, path: &std::path::Path) -> anyhow::Result<Expected> {
    let bytes = jsonpipe::read(path)?;
    let beside = path.with_extension(images::Ending::Signature.as_str());
    let signature = jsonpipe::read(&beside)?;
    let signature = manifest::Signature::from_bytes(&signature).ok_or_else(|| {
        Exit::Data.error(format_args!(
            "{}: not a signature of 64 bytes",
            beside.display()
        ))
    })?;
    let signed = Signed { bytes, signature };
    let keys = common.config("keys");
    // The key that verifies it determines its kind.
    let base = Keys::read(&keys, Kind::Base).and_then(|keys| signed.verify::<Base>(&keys));
    let host =
        || Keys::read(&keys, Kind::Host).and_then(|keys| signed.verify::<manifest::Host>(&keys));
    match base {
        Ok(base) => Ok(Expected {
            base: Some(base.name),
            models: base.models,
            version: base.generation,
        }),
        Err(_) => match host() {
            Ok(host) => Ok(Expected {
                base: None,
                models: host.models,
                version: host.version,
            }),
            Err(error) => Err(error.context(format!("{}", path.display()))),
        },
    }
}
