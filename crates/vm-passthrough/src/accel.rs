//! The accelerator of a guest.

use confined::Identity;
use jsonpipe::{Common, Pipe};
use serde::Serialize;

use crate::virtualizer::Virtualizer;

/// The accelerator that runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The processor itself.
    Kvm,
    /// The virtualizer's translator.
    Tcg,
}

/// The accelerator of a guest.
pub fn decide(
    common: &Common,
    virtualizer: &dyn Virtualizer,
    identity: &Identity,
    pipe: &Pipe,
) -> anyhow::Result<Accel> {
    Ok(match virtualizer.try_kvm(common, identity)? {
        Ok(()) => Accel::Kvm,
        Err(fault) => {
            pipe.note(format_args!("{fault}; the guest is emulated"));
            Accel::Tcg
        }
    })
}
