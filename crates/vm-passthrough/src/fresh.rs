//! `is-fresh`: whether the host is fit for the next guest without a restart.

use jsonpipe::{Answer, Common, Document, Missing, Pipe};

use crate::TOOL;
use crate::profile::{Host, Reboot};
use crate::report::Fresh;

/// From here on memory counts as fragmented: most of what is free is of no use for huge pages.
/// Between sessions nearly all memory is free, and a fresh host has an index near 0.
const FRAGMENTED: f64 = 0.5;

/// Compares the memory of the host with what `[host]` in vm-passthrough.ini asks for.
pub(crate) fn run(common: &Common, pipe: &Pipe) -> anyhow::Result<Answer> {
    let reboot_between_sessions = Host::read(common)?.reboot_between_sessions;
    let fragmentation = handover::fragmentation(common);
    let fresh = is_fresh(reboot_between_sessions, fragmentation);
    if !fresh {
        pipe.note("the next guest wants a restart of the host");
    }
    let mut document = Document::default();
    document.set(
        TOOL.section,
        &Fresh {
            changed: false,
            fresh,
            reboot_between_sessions,
            fragmentation,
            missing: match fragmentation {
                Some(_) => Vec::new(),
                None => vec![Missing {
                    key: "fragmentation".into(),
                    reason: "/proc/buddyinfo does not have it".into(),
                }],
            },
        },
    )?;
    Ok(if fresh {
        Answer::yes(document)
    } else {
        Answer::no(document)
    })
}

fn is_fresh(policy: Reboot, fragmentation: Option<f64>) -> bool {
    match policy {
        Reboot::Never => true,
        Reboot::Fragmented => fragmentation.is_none_or(|index| index < FRAGMENTED),
        Reboot::Always => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fragmented_depends_on_the_memory() {
        for (policy, expected) in [
            (Reboot::Never, [true, true, true]),
            (Reboot::Fragmented, [true, false, true]),
            (Reboot::Always, [false, false, false]),
        ] {
            let found = [Some(0.499), Some(0.5), None].map(|index| is_fresh(policy, index));
            assert_eq!(found, expected, "{policy:?}");
        }
    }
}
