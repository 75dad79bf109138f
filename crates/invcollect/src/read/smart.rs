//! The health that a disk reports: the SMART verdict of an ATA disk, the health log of an NVMe
//! disk. Both are read-only operations.

#![allow(
    unsafe_code,
    reason = "two ioctls that take a structure with pointers; nix has the ioctl, not the structures"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{O_NONBLOCK, c_void};

use crate::report::Checks;

/// The kernel's own limit for an ATA disk. A shorter one would be harmful: when it expires, the
/// kernel takes the disk for broken and resets its link while it is in use. For the same reason
/// NVMe gets 0, which selects the kernel's own.
const SG_TIMEOUT_MS: u32 = 60_000;

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

/// Opens a disk without waiting for a medium.
fn open(device: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(device)
}

/// The health of an NVMe disk (NVM Express Base Specification, SMART / Health Information log
/// page).
pub fn nvme(device: &Path) -> io::Result<Checks> {
    let file = open(device)?;
    let mut log = [0u8; HEALTH_LOG_BYTES];
    let words = HEALTH_LOG_BYTES as u32 / 4 - 1;
    let mut command = NvmeCommand {
        opcode: 0x02, // get log page
        namespace: u32::MAX,
        address: log.as_mut_ptr() as u64,
        data_bytes: HEALTH_LOG_BYTES as u32,
        words_10_15: [words << 16 | 0x02, 0, 0, 0, 0, 0],
        timeout_ms: 0,
        ..NvmeCommand::default()
    };
    // SAFETY: the structure is laid out as the kernel's; `log` has the given length, and outlives
    // the call, which keeps no pointer.
    let status = unsafe { nvme_admin_command(file.as_raw_fd(), &mut command) }?;
    if status != 0 {
        return Err(io::Error::other(format!(
            "the disk answers with status {status:#x}"
        )));
    }
    Ok(nvme_checks(&log))
}

fn nvme_checks(log: &[u8; HEALTH_LOG_BYTES]) -> Checks {
    const WARNINGS: [(u8, &str, &str); 4] = [
        (0x01, "spare", "its spare room runs out"),
        (0x04, "smart", "it is no longer reliable"),
        (0x08, "read_only", "it can only be read"),
        (
            0x10,
            "backup",
            "what keeps its cache without power has failed",
        ),
    ];
    let warning = |(bit, word, text): (u8, &str, &str)| {
        (
            word.to_owned(),
            (log[0] & bit != 0).then(|| text.to_owned()),
        )
    };
    let worn = (log[5] >= 100).then(|| format!("it has used {} % of its life", log[5]));
    WARNINGS
        .into_iter()
        .map(warning)
        .chain([("worn".to_owned(), worn)])
        .collect()
}

/// Whether an ATA disk predicts its failure (ACS-4, SMART RETURN STATUS). A sleeping disk is left
/// alone: an error.
pub fn ata(device: &Path) -> io::Result<Checks> {
    const CHECK_POWER_MODE: [u8; 16] =
        [0x85, 3 << 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe5, 0];
    // The SMART signature is in bytes 10 and 12, LBA mid and high.
    const SMART_RETURN_STATUS: [u8; 16] = [
        0x85,
        3 << 1,
        0x20,
        0,
        0xda,
        0,
        0,
        0,
        0,
        0,
        0x4f,
        0,
        0xc2,
        0,
        0xb0,
        0,
    ];
    let file = open(device)?;
    if ata_command(&file, CHECK_POWER_MODE)?.sector_count == STANDBY {
        return Err(io::Error::other("it sleeps, and is left alone"));
    }
    let fault = ata_command(&file, SMART_RETURN_STATUS)?.verdict()?;
    Ok(Checks::from([("smart".to_owned(), fault)]))
}

/// The answer of CHECK POWER MODE for a disk that does not spin (ACS-4, 7.3).
const STANDBY: u8 = 0x00;
/// `DRIVER_SENSE`: not an error, only sense data. Set by kernels before 5.14.
const DRIVER_SENSE: u16 = 0x08;
const CHECK_CONDITION: u8 = 0x02;

/// The registers that an ATA disk returns.
#[derive(Debug, PartialEq, Eq)]
struct Registers {
    error: u8,
    sector_count: u8,
    lba_mid: u8,
    lba_high: u8,
    status: u8,
}

/// Sends ATA PASS-THROUGH (16) without data, and requests the registers (SAT-4, 12.2.2).
fn ata_command(file: &File, command: [u8; 16]) -> io::Result<Registers> {
    let mut sense = [0u8; 32];
    let mut request = SgRequest {
        interface: 'S' as i32,
        direction: -1, // no data
        command_bytes: command.len() as u8,
        sense_max_bytes: sense.len() as u8,
        vectors: 0,
        data_bytes: 0,
        data: std::ptr::null_mut(),
        command: command.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: SG_TIMEOUT_MS,
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
    // SAFETY: the structure is laid out as the kernel's; command and sense have the given lengths,
    // and outlive the call, which keeps no pointer.
    unsafe { sg_io(file.as_raw_fd(), &mut request) }?;
    registers(
        (request.host_status, request.driver_status, request.status),
        &sense,
    )
}

/// The registers, from a descriptor of the sense data: the command that requests them ends with a
/// check condition.
fn registers((host, driver, status): (u16, u16, u8), sense: &[u8; 32]) -> io::Result<Registers> {
    if host != 0 || ![0, DRIVER_SENSE].contains(&driver) || ![0, CHECK_CONDITION].contains(&status)
    {
        return Err(io::Error::other(format!(
            "the command failed (host {host:#x}, driver {driver:#x}, status {status:#x})"
        )));
    }
    let [0x72 | 0x73, _, _, _, _, _, _, _, 0x09, 0x0c, ..] = sense else {
        return Err(io::Error::other(
            "the disk does not give its registers back",
        ));
    };
    Ok(Registers {
        error: sense[11],
        sector_count: sense[13],
        lba_mid: sense[17],
        lba_high: sense[19],
        status: sense[21],
    })
}

impl Registers {
    /// The fault that SMART reports, if any; an error when there is no verdict.
    fn verdict(&self) -> io::Result<Option<String>> {
        const ERROR: u8 = 0x01;
        const DEVICE_FAULT: u8 = 0x20;
        const ABORTED: u8 = 0x04;
        match (self.lba_mid, self.lba_high) {
            _ if self.status & DEVICE_FAULT != 0 => {
                Ok(Some("it reports a device fault".to_owned()))
            }
            _ if self.status & ERROR != 0 && self.error & ABORTED != 0 => {
                Err(io::Error::other("SMART is off"))
            }
            _ if self.status & ERROR != 0 => Err(io::Error::other(format!(
                "the disk answers with error {:#x}",
                self.error
            ))),
            (0x4f, 0xc2) => Ok(None),
            (0xf4, 0x2c) => Ok(Some("SMART says that it is about to fail".to_owned())),
            _ => Err(io::Error::other("the disk gives no verdict")),
        }
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
        let faults = |log: &_| {
            nvme_checks(log)
                .into_iter()
                .filter(|(_, fault)| fault.is_some())
                .map(|(word, _)| word)
        };
        let mut log = [0; HEALTH_LOG_BYTES];
        log[0] = 0x02; // warm, which is not a fault
        log[5] = 99;
        assert_eq!((faults(&log).count(), nvme_checks(&log).len()), (0, 5));
        (log[0], log[5]) = (0x0c, 101);
        assert_eq!(
            faults(&log).collect::<Vec<_>>(),
            ["read_only", "smart", "worn"]
        );
    }

    #[test]
    fn the_verdict_of_ata_is_in_its_registers() {
        const DONE: (u16, u16, u8) = (0, 0, CHECK_CONDITION);
        let mut sense = [0; 32];
        sense[..10].copy_from_slice(&[0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12]);
        sense[21] = 0x50; // ready
        let verdict = |mid, high, mut sense: [u8; 32]| {
            (sense[17], sense[19]) = (mid, high);
            registers(DONE, &sense).unwrap().verdict()
        };
        assert_eq!(verdict(0x4f, 0xc2, sense).unwrap(), None);
        assert!(verdict(0xf4, 0x2c, sense).unwrap().is_some());
        assert!(verdict(0, 0, sense).is_err());
        (sense[11], sense[21]) = (0x04, 0x51);
        assert_eq!(
            verdict(0x4f, 0xc2, sense).unwrap_err().to_string(),
            "SMART is off"
        );
    }

    /// A failed transport leaves the sense data unchanged, and proves nothing about the disk.
    #[test]
    fn a_command_that_failed_is_an_error() {
        let mut sense = [0; 32];
        assert!(registers((0, 0, 0), &sense).is_err(), "no registers");
        sense[..10].copy_from_slice(&[0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12]);
        sense[13] = 0xff;
        assert_eq!(
            registers((0, DRIVER_SENSE, CHECK_CONDITION), &sense)
                .unwrap()
                .sector_count,
            0xff
        );
        for status in [
            (3, 0, 0),
            (0, 6, 0),
            (0, 0, 8),
            (1, DRIVER_SENSE, CHECK_CONDITION),
        ] {
            let error = registers(status, &sense).unwrap_err().to_string();
            assert!(error.starts_with("the command failed"), "{error}");
        }
    }
}
