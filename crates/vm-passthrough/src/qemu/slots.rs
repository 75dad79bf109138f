//! The slots of the guest's PCI bus.

use pci::PciAddress;

/// The slot of the bridge that QEMU makes for integrated graphics in legacy mode. It takes the
/// whole slot.
const BRIDGE_SLOT: u8 = 0x1f;

/// The devices with their slots in the guest: those of the host, because the firmware of graphics
/// expects a fixed address. Beside integrated graphics, a device of slot 1f gets the highest free
/// slot; QEMU fills the bus from the lowest.
pub fn place(devices: &[PciAddress], integrated_graphics: bool) -> Vec<(PciAddress, u8)> {
    let free = (2..BRIDGE_SLOT)
        .rev()
        .find(|slot| devices.iter().all(|device| device.slot() != *slot));
    let slot = |device: &PciAddress| match device.slot() {
        BRIDGE_SLOT if integrated_graphics => free.unwrap_or(BRIDGE_SLOT),
        slot => slot,
    };
    devices
        .iter()
        .map(|device| (*device, slot(device)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(devices: &[&str], integrated_graphics: bool) -> Vec<u8> {
        let devices: Vec<PciAddress> = devices
            .iter()
            .map(|device| device.parse().unwrap())
            .collect();
        place(&devices, integrated_graphics)
            .iter()
            .map(|(_, slot)| *slot)
            .collect()
    }

    #[test]
    fn slot_1f_moves_only_beside_integrated_graphics() {
        assert_eq!(slots(&["00:02.0", "00:1f.3"], true), [0x02, 0x1e]);
        assert_eq!(
            slots(&["00:1f.3", "00:1e.0", "00:1d.0"], true),
            [0x1c, 0x1e, 0x1d]
        );
        assert_eq!(slots(&["00:14.0", "00:1f.3"], false), [0x14, 0x1f]);
    }
}
