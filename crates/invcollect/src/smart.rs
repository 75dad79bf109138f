//! What a disk says of its own health: SMART's verdict of an ATA disk, the health log of an NVMe one. Both are only read.

#![allow(unsafe_code, reason = "two ioctls that take a structure with pointers; nix has the ioctl, not the structures")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::libc::c_void;

const TIMEOUT_MS: u32 = 2000;

/// `struct nvme_passthru_cmd` of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words_2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_bytes: u32,
    data_bytes: u32,
    words_10_15: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

/// `struct sg_io_hdr` of scsi/sg.h.
#[repr(C)]
struct SgRequest {
    interface: i32,
    direction: i32,
    command_bytes: u8,
    sense_max_bytes: u8,
    vectors: u16,
    data_bytes: u32,
    data: *mut c_void,
    command: *const u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack_id: i32,
    user: *mut c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_bytes: u8,
    host_status: u16,
    driver_status: u16,
    residue: i32,
    duration: u32,
    info: u32,
}

nix::ioctl_readwrite!(
    /// NVME_IOCTL_ADMIN_CMD
    nvme_admin_command, b'N', 0x41, NvmeCommand
);
nix::ioctl_readwrite_bad!(
    /// SG_IO
    sg_io, 0x2285, SgRequest
);

const HEALTH_LOG_BYTES: usize = 512;

/// The faults that an NVMe disk tells (NVM Express Base Specification, SMART / Health Information log page).
pub fn nvme(device: &Path) -> io::Result<Vec<String>> {
    let file = File::open(device)?;
    let mut log = [0u8; HEALTH_LOG_BYTES];
    let words = HEALTH_LOG_BYTES as u32 / 4 - 1;
    let mut command = NvmeCommand {
        opcode: 0x02, // get log page
        namespace: u32::MAX,
        address: log.as_mut_ptr() as u64,
        data_bytes: HEALTH_LOG_BYTES as u32,
        words_10_15: [words << 16 | 0x02, 0, 0, 0, 0, 0],
        timeout_ms: TIMEOUT_MS,
        ..NvmeCommand::default()
    };
    // SAFETY: the structure is laid out as the kernel's; `log` is as long as it says, and outlives the call, which keeps no pointer.
    let status = unsafe { nvme_admin_command(file.as_raw_fd(), &mut command) }?;
    if status != 0 {
        return Err(io::Error::other(format!("the disk answers with status {status:#x}")));
    }
    Ok(nvme_faults(&log))
}

fn nvme_faults(log: &[u8; HEALTH_LOG_BYTES]) -> Vec<String> {
    const WARNINGS: [(u8, &str); 4] = [
        (0x01, "its spare room runs out"),
        (0x04, "it is no longer reliable"),
        (0x08, "it can only be read"),
        (0x10, "what keeps its cache without power has failed"),
    ];
    let warnings = WARNINGS.iter().filter(|(bit, _)| log[0] & bit != 0).map(|(_, text)| (*text).to_owned());
    let worn = (log[5] >= 100).then(|| format!("it has used {} % of its life", log[5]));
    warnings.chain(worn).collect()
}

/// Whether an ATA disk says that it is about to fail (ACS-4, SMART RETURN STATUS); `None` when SMART is off.
pub fn ata(device: &Path) -> io::Result<Option<Vec<String>>> {
    let file = File::open(device)?;
    // ATA PASS-THROUGH (16), no data, the registers wanted back (SAT-4, 12.2.2).
    let mut command = [0x85, 3 << 1, 0x20, 0, 0xda, 0, 0, 0, 0, 0, 0x4f, 0, 0xc2, 0, 0xb0, 0u8];
    let mut sense = [0u8; 32];
    let mut request = SgRequest {
        interface: 'S' as i32,
        direction: -1, // no data
        command_bytes: command.len() as u8,
        sense_max_bytes: sense.len() as u8,
        vectors: 0,
        data_bytes: 0,
        data: std::ptr::null_mut(),
        command: command.as_mut_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: TIMEOUT_MS,
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_bytes: 0,
        host_status: 0,
        driver_status: 0,
        residue: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the structure is laid out as the kernel's; command and sense are as long as it says, and outlive the call, which keeps
    // no pointer.
    unsafe { sg_io(file.as_raw_fd(), &mut request) }?;
    Ok(ata_faults(&sense))
}

/// By the registers that the disk gives back, in a descriptor of the sense data.
fn ata_faults(sense: &[u8; 32]) -> Option<Vec<String>> {
    let [0x72 | 0x73, _, _, _, _, _, _, _, 0x09, 0x0c, ..] = sense else { return None };
    match (sense[17], sense[19]) {
        (0x4f, 0xc2) => Some(Vec::new()),
        (0xf4, 0x2c) => Some(vec!["SMART says that it is about to fail".to_owned()]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<NvmeCommand>(), size_of::<SgRequest>()), (72, 88));
    }

    #[test]
    fn warnings_of_nvme_are_faults() {
        let mut log = [0; HEALTH_LOG_BYTES];
        log[0] = 0x02; // warm, which is no fault
        log[5] = 99;
        assert_eq!(nvme_faults(&log), Vec::<String>::new());
        (log[0], log[5]) = (0x0c, 101);
        assert_eq!(nvme_faults(&log), ["it is no longer reliable", "it can only be read", "it has used 101 % of its life"]);
    }

    #[test]
    fn the_verdict_of_ata_is_in_its_registers() {
        let mut sense = [0; 32];
        assert_eq!(ata_faults(&sense), None);
        sense[..10].copy_from_slice(&[0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12]);
        (sense[17], sense[19]) = (0x4f, 0xc2);
        assert_eq!(ata_faults(&sense), Some(Vec::new()));
        (sense[17], sense[19]) = (0xf4, 0x2c);
        assert_eq!(ata_faults(&sense).unwrap().len(), 1);
        (sense[17], sense[19]) = (0, 0);
        assert_eq!(ata_faults(&sense), None);
    }
}
