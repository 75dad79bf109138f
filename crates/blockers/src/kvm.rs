//! KVM: whether it is there, and whether it gives guests the registers that their graphics drivers
//! divide by. None of this prevents a hand-over.

use jsonpipe::Common;
use nix::unistd::geteuid;
use pci::Device;

use crate::finding::{Finding, Findings, Kind};
use crate::ioctl::Processor;
use crate::sysfs::Taken;

const NODE: &str = "/dev/kvm";
/// The numbers of the registers (Intel's manual, volume 4), and the bits that must not be zero:
/// the second byte of PLATFORM_INFO is the ratio of the clock.
const REGISTERS: [(&str, u32, u64); 3] = [
    ("APERF", 0xe8, u64::MAX),
    ("MPERF", 0xe7, u64::MAX),
    ("PLATFORM_INFO", 0xce, 0xff00),
];

pub(crate) fn find(common: &Common, kvm: Result<(), &str>, taken: &Taken, findings: &mut Findings) {
    let node = common.path(NODE);
    if let Err(fault) = kvm {
        findings.warn(kvm_fault(fault, node.exists()));
        return;
    }
    if !taken.devices.iter().any(Device::is_display) {
        return;
    }
    match Processor::new(&node) {
        Ok(processor) => registers(&processor, findings),
        Err(error) => findings.warn(Finding::new(
            Kind::NotLookedAt,
            format_args!("the registers that KVM gives guests are unknown: {error}"),
            if geteuid().is_root() {
                "look at the kernel's messages"
            } else {
                "run the check as root"
            },
        )),
    }
}

fn kvm_fault(fault: &str, exists: bool) -> Finding {
    if exists && !geteuid().is_root() {
        return Finding::new(
            Kind::NotLookedAt,
            format_args!("KVM was not tried as the user of QEMU: {fault}"),
            "run the check as root",
        );
    }
    let way_out = if exists {
        "look at the kernel's messages; on a virtual machine, switch on nested virtualization"
    } else {
        "switch on virtualization (VT-x or AMD-V) in the firmware's setup, and load the module kvm_intel or kvm_amd"
    };
    Finding::new(
        Kind::KvmMissing,
        format_args!("{fault}: the guest is emulated, which is many times slower"),
        way_out,
    )
}

fn registers(processor: &Processor, findings: &mut Findings) {
    let wrong: Vec<String> = REGISTERS
        .iter()
        .filter_map(|(name, index, bits)| match processor.register(*index) {
            None => Some(format!("{name} is missing")),
            Some(value) if value & bits == 0 => Some(format!("{name} reads 0x{value:x}")),
            Some(_) => None,
        })
        .collect();
    if wrong.is_empty() {
        return;
    }
    let offer = if processor.offers_frequency() {
        "this kernel can show guests APERF and MPERF (KVM_X86_DISABLE_EXITS_APERFMPERF), but QEMU does not ask for it"
    } else {
        "neither this kernel nor QEMU has an option for it"
    };
    findings.warn(Finding::new(
        Kind::KvmRegisters,
        format_args!(
            "in guests {}, and the graphics driver of Windows divides by them in full screen",
            wrong.join(", ")
        ),
        format_args!("change KVM as vm-passthrough-qemu(8) describes; {offer}"),
    ));
}
