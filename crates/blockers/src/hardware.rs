//! The model of this machine.

use crate::Wish;
use crate::finding::{Finding, Findings, Kind};

pub(crate) fn find(wish: &Wish, findings: &mut Findings) {
    if wish.model.is_some() {
        return;
    }
    let cause = match wish.name {
        Ok(name) => format!("models.ini does not list this model, {name}"),
        Err(reason) => format!("the model is unknown ({reason})"),
    };
    findings.warn(Finding::new(
        Kind::ModelUnknown,
        format_args!("{cause}: the guest gets emulated devices"),
        "add a section for the model to models.ini, as vm-passthrough(8) describes",
    ));
}
