//! Integrated graphics of Intel: its firmware works at one address, and not before Sandy Bridge.

use pci::Device;

use crate::finding::{Finding, Findings, Kind};
use crate::sysfs::Taken;

const INTEL: u16 = 0x8086;

/// The integrated graphics before Sandy Bridge: i810 to Ironlake, from Linux's
/// include/drm/i915_pciids.h, which names them by generation. Later ones are not in this list.
const BEFORE_SANDY_BRIDGE: [u16; 35] = [
    0x7121, 0x7123, 0x7125, 0x1132, // i810, i815
    0x3577, 0x2562, 0x3582, 0x358e, 0x2572, // i830, i845, i85x, i865
    0x2582, 0x258a, 0x2592, 0x2772, 0x27a2, 0x27ae, // i915, i945
    0x2972, 0x2982, 0x2992, 0x29a2, 0x2a02, 0x2a12, // i965
    0x29b2, 0x29c2, 0x29d2, // G33
    0x2a42, 0x2e02, 0x2e12, 0x2e22, 0x2e32, 0x2e42, 0x2e92, // GM45, G45
    0xa001, 0xa011, 0x0042, 0x0046, // Pineview, Ironlake
];

pub(crate) fn find(taken: &Taken, findings: &mut Findings) {
    for device in taken.devices.iter().filter(|device| is_integrated(device)) {
        if BEFORE_SANDY_BRIDGE.contains(&device.id.device) {
            findings.block(
                Finding::new(
                    Kind::GraphicsOld,
                    format_args!("integrated graphics {} is older than Sandy Bridge (2011), and cannot be handed over", device.id),
                    "replace the machine",
                )
                .device(device.address),
            );
        }
        if !device.address.is_integrated_graphics() {
            findings.block(
                Finding::new(
                    Kind::GraphicsAddress,
                    "integrated graphics works in the guest at 00:02.0 only, where its firmware looks for it, and the guest's address is the host's",
                    "list the device at 00:02.0 in the model's devices",
                )
                .device(device.address),
            );
        }
    }
}

/// Intel's graphics on the first bus is part of the processor or of the chipset.
pub(crate) fn is_integrated(device: &Device) -> bool {
    device.is_display() && device.id.vendor == INTEL && device.address.bus() == 0
}
