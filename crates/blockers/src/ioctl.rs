//! The properties that KVM gives its guests, which only ioctls answer. None of them changes anything.
#![allow(unsafe_code, reason = "ioctls without a safe wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{self, c_int};

/// KVM_CAP_X86_DISABLE_EXITS, and its bit KVM_X86_DISABLE_EXITS_APERFMPERF (Linux 6.17).
const DISABLE_EXITS: c_int = 143;
const EXITS_APERF_MPERF: c_int = 1 << 4;

/// `struct kvm_msrs` with one entry (linux/kvm.h).
#[repr(C)]
struct Register {
    count: u32,
    pad: u32,
    index: u32,
    reserved: u32,
    data: u64,
}

nix::ioctl_write_int_bad!(kvm_create_vm, nix::request_code_none!(0xae, 0x01));
nix::ioctl_write_int_bad!(kvm_create_vcpu, nix::request_code_none!(0xae, 0x41));
nix::ioctl_write_int_bad!(kvm_check_extension, nix::request_code_none!(0xae, 0x03));
// The size in the number is that of the head, without the entries.
nix::ioctl_readwrite_bad!(
    kvm_get_msrs,
    nix::request_code_readwrite!(0xae, 0x88, 8),
    Register
);

/// Opens a device node; a node that is not a device is an error.
fn open(node: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(node)
}

/// A virtual machine with one processor, which never runs.
#[derive(Debug)]
pub(crate) struct Processor {
    kvm: File,
    processor: OwnedFd,
    /// The kernel keeps the machine while its processor is open; this states it.
    _machine: OwnedFd,
}

impl Processor {
    /// Makes the machine on the KVM at `node`.
    pub fn new(node: &Path) -> io::Result<Processor> {
        let kvm = open(node)?;
        let create = |fd: BorrowedFd, request: unsafe fn(c_int, c_int) -> nix::Result<c_int>| {
            // SAFETY: the descriptor is open, and the argument is a number: the machine's type, the
            // processor's number.
            let made = unsafe { request(fd.as_raw_fd(), 0) }?;
            // SAFETY: the kernel has just opened this descriptor for us alone.
            Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(made) })
        };
        let machine = create(kvm.as_fd(), kvm_create_vm)?;
        let processor = create(machine.as_fd(), kvm_create_vcpu)?;
        Ok(Processor {
            kvm,
            processor,
            _machine: machine,
        })
    }

    /// Whether KVM can show guests the values of APERF and MPERF that the host reads.
    pub fn offers_frequency(&self) -> bool {
        // SAFETY: the descriptor is KVM's, and the argument is the number of a capability.
        let offer = unsafe { kvm_check_extension(self.kvm.as_raw_fd(), DISABLE_EXITS) };
        offer.is_ok_and(|bits| bits & EXITS_APERF_MPERF != 0)
    }

    /// The value of a model-specific register, or `None` when KVM has none for guests.
    pub fn register(&self, index: u32) -> Option<u64> {
        let mut register = Register {
            count: 1,
            pad: 0,
            index,
            reserved: 0,
            data: 0,
        };
        // SAFETY: the descriptor is a processor's, and the structure holds as many entries as its
        // count says.
        let read = unsafe { kvm_get_msrs(self.processor.as_raw_fd(), &mut register) };
        matches!(read, Ok(1)).then_some(register.data)
    }
}
