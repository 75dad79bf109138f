//! The hardware of this machine, against its model.

use jsonpipe::Common;
use model::{Amount, Difference, Model};
use pci::Id;

use crate::Wish;
use crate::finding::{Finding, Findings, Kind};

pub(crate) fn find(common: &Common, wish: &Wish, findings: &mut Findings) -> anyhow::Result<()> {
    match wish.model {
        Some(model) => differences(common, model, findings),
        None => {
            unknown_model(wish, findings);
            Ok(())
        }
    }
}

fn unknown_model(wish: &Wish, findings: &mut Findings) {
    let cause = match wish.name {
        Ok(name) => format!("models.ini does not list this model, {name}"),
        Err(reason) => format!("the model is unknown ({reason})"),
    };
    findings.warn(Finding::new(
        Kind::ModelUnknown,
        format_args!("{cause}: the guest gets emulated devices"),
        "add its section to models.ini; vm-passthrough probe writes one",
    ));
}

fn differences(common: &Common, model: &Model, findings: &mut Findings) -> anyhow::Result<()> {
    for difference in model::differences(common, model)? {
        match difference {
            Difference::NoDevice { listed } => findings.block(
                Finding::new(
                    Kind::DeviceMissing,
                    format_args!("models.ini lists {} here, but there is no device", either(&listed.ids)),
                    "switch it on in the firmware's setup; if it was there since the boot, echo 1 >/sys/bus/pci/rescan; where the model lacks it, remove it from the model's devices",
                )
                .device(listed.address),
            ),
            Difference::OtherDevice { listed, found } => findings.block(
                Finding::new(
                    Kind::DeviceDiffers,
                    format_args!("it is {found}, but models.ini lists {} here", either(&listed.ids)),
                    "check the machine: a board or a processor of another model was put in, or the firmware names the wrong model; add the id to the model only after a test",
                )
                .device(listed.address),
            ),
            Difference::ExtraGraphics { address, id } => findings.block(
                Finding::new(
                    Kind::ExtraGraphics,
                    format_args!("a graphics card, {id}, that the model does not have: the screen may be connected to it, and the integrated graphics be off"),
                    "take the card out, or use another machine",
                )
                .device(address),
            ),
            Difference::LessMemory { found, factory } => findings.block(
                Finding::new(
                    Kind::MemoryInstalled,
                    format_args!("{}, but the model has {factory} from the factory", amount(found)),
                    "put the missing module in, or, if all machines of the model have so much, change memory_installed in models.ini",
                )
                .setting("memory_installed"),
            ),
            Difference::OlderBios { found, tested } => findings.block(
                Finding::new(
                    Kind::BiosOld,
                    format_args!("the BIOS is {found}, older than {tested}, the oldest that was tested with this model"),
                    format_args!("update the BIOS to {tested} or a newer one"),
                )
                .setting("bios"),
            ),
            Difference::OtherBios { found, tested } => findings.warn(
                Finding::new(
                    Kind::BiosUnknown,
                    format_args!("the BIOS is {found}, and whether it is older than {tested} is unknown"),
                    "test a guest with it, and set bios in models.ini to its version",
                )
                .setting("bios"),
            ),
            Difference::OtherProcessor { found, listed } => findings.warn(
                Finding::new(
                    Kind::ProcessorDiffers,
                    format_args!("the processor is {found}, not the model's {listed}"),
                    "test a guest with it; nothing else depends on it",
                )
                .setting("processor"),
            ),
            Difference::Unknown { key, reason } => findings.warn(
                Finding::new(
                    Kind::NotLookedAt,
                    format_args!("{key} of the model was not compared: {reason}"),
                    "look at it yourself",
                )
                .setting(key),
            ),
        }
    }
    Ok(())
}

fn either(ids: &[Id]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(" or ")
}

fn amount(found: Amount) -> String {
    match found {
        Amount::Modules(bytes) => format!("{}M of memory are installed", bytes >> 20),
        Amount::Usable(bytes) => format!("the kernel has {}M of memory", bytes >> 20),
    }
}
