//! The time of each step.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use pci::PciAddress;
use serde::Serialize;

/// One step and its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The step: `modules`, `huge_pages`, `console`, `park`, `bind` and `groups` take, in this order;
    /// `groups_back`, `device_back`, `console_back` and `huge_pages_back` give back.
    pub step: &'static str,
    /// The device, in the steps of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<PciAddress>,
    /// Its time.
    pub seconds: f64,
    /// The processor time of this process and its ended children.
    pub cpu_seconds: f64,
}

/// The steps so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Steps(pub(crate) Vec<Step>);

impl Steps {
    /// Runs one, and records its time, whether it fails or not.
    pub(crate) fn run<T>(
        &mut self,
        step: &'static str,
        device: Option<PciAddress>,
        work: impl FnOnce() -> T,
    ) -> T {
        let (since, before) = (Instant::now(), processor_seconds());
        let result = work();
        self.0.push(Step {
            step,
            device,
            seconds: rounded(since.elapsed().as_secs_f64()),
            cpu_seconds: rounded(processor_seconds() - before),
        });
        result
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn processor_seconds() -> f64 {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok()) // cannot fail with these arguments
        .map(|usage| usage.user_time() + usage.system_time())
        .map(|time| time.num_microseconds() as f64 / 1e6)
        .sum()
}
