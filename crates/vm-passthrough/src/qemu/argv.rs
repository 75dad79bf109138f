//! QEMU's command line.
//!
//! The order and the spelling follow Figure 4 of the thesis, so that the two can be compared;
//! vm-passthrough-qemu(8) lists the differences and their reasons.

use std::os::fd::RawFd;
use std::path::Path;

use super::Version;
use super::slots;
use crate::accel::Accel;
use crate::machine::Mac;
use crate::profile::{Profile, Rtc};
use crate::request::Volume;
use crate::segment::{self, Segment};
use crate::virtualizer::Parts;

/// QEMU must not start programs, gain rights or change its own priority.
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Descriptor sets, through which QEMU accesses the files handed to it.
const VOLUME_SET: u32 = 1;
const BACKING_SET: u32 = 2;
const CONSOLE_SET: u32 = 3;

/// The enlightenments that KVM itself implements (QEMU's docs/system/i386/hyperv.rst): those that
/// Windows uses without its own Hyper-V, each with those it requires.
const HYPERV: &str = ",hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-vpindex,hv-runtime,hv-synic,hv-time,\
    hv-stimer,hv-frequencies,hv-tlbflush,hv-ipi";

/// The size of stolen memory that an older QEMU shows to the guest, in units of 32 MiB. Without it
/// the guest's graphics has none.
const STOLEN_MEMORY: u32 = 2;

/// The command line, the program first.
pub fn build(binary: &Path, parts: &Parts<'_>, version: Option<Version>) -> Vec<String> {
    let Parts {
        accel,
        machine,
        profile,
        memory,
        settings,
        volume,
        segment,
        descriptors,
    } = *parts;
    let mut line = Line(vec![binary.display().to_string()]);

    line.option("-accel", accelerator(accel));
    line.option("-cpu", cpu(accel, profile));
    line.option("-smp", format!("cores={}", profile.cores));
    line.option("-machine", "pc");
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.option("-sandbox", SANDBOX);
    // The guest's first instruction waits for us, so that no event is missed.
    line.flag("-S");
    // A sleeping guest cannot be woken by its user, and a hibernated one would resume on another
    // machine.
    line.option("-global", "PIIX4_PM.disable_s3=1");
    line.option("-global", "PIIX4_PM.disable_s4=1");
    line.option("-boot", "menu=off");
    if profile.hugepages {
        line.option("--mem-path", handover::MOUNT);
        line.flag("--mem-prealloc");
    }
    line.option("-m", memory.to_string());

    for (device, slot) in slots::place(&machine.devices, machine.integrated_graphics.is_some()) {
        let graphics = if machine.integrated_graphics == Some(device) {
            legacy_mode(version)
        } else {
            String::new()
        };
        line.option(
            "-device",
            format!("vfio-pci-nohotplug,host={device},bus=pci.0,addr=0x{slot:02x}{graphics}"),
        );
    }
    if machine.devices.is_empty() {
        line.option("-device", "VGA,bus=pci.0,addr=0x02");
        line.option("-device", "qemu-xhci,id=usb");
        line.option("-device", "usb-kbd,bus=usb.0");
        line.option("-device", "usb-tablet,bus=usb.0");
        line.option("-audiodev", "none,id=audio");
        line.option("-device", "intel-hda,id=hda");
        line.option("-device", "hda-duplex,bus=hda.0,audiodev=audio");
    }

    line.descriptor(descriptors.volume, VOLUME_SET, &volume.path);
    if let Some((path, _)) = volume.backing() {
        line.descriptor(descriptors.backing, BACKING_SET, path);
    }
    // The disk's work is done beside the loop that also serves the monitor and the network.
    line.option("-object", "iothread,id=io_sys");
    line.option("-device", "virtio-scsi-pci,id=scsi,iothread=io_sys");
    line.option("-drive", drive(volume));
    line.option("-device", "scsi-hd,drive=hd_sys");

    let forward = settings.management_address.filter(|_| profile.rdp);
    let forward = forward.map_or_else(String::new, |address| {
        format!("hostfwd=tcp:{address}:3389-:3389,")
    });
    line.option("-netdev", format!("user,{forward}id=net_sys"));
    line.option(
        "-device",
        format!(
            "virtio-net-pci,netdev=net_sys{}",
            address(machine.mac.map(|mac| mac.of_guest(profile.mac)))
        ),
    );
    if let Some(Segment { group, local }) = segment {
        let (host, port) = (group.ip(), group.port());
        line.option(
            "-netdev",
            format!(
                "dgram,id=net_room,remote.type=inet,remote.host={host},remote.port={port},local.type=inet,local.host={local},local.port={port}"
            ),
        );
        line.option(
            "-device",
            format!(
                "virtio-net-pci,netdev=net_room,host_mtu={}{}",
                segment::MTU,
                address(machine.mac.map(Mac::on_segment))
            ),
        );
    }
    let base = match profile.rtc {
        Rtc::Utc => "utc",
        Rtc::Localtime => "localtime",
    };
    line.option("-rtc", format!("base={base},clock=vm"));

    line.option("-display", "none");
    line.option(
        "-chardev",
        format!("socket,id=monitor,fd={}", descriptors.monitor),
    );
    line.option("-mon", "chardev=monitor,mode=control");
    if let Some(console) = &settings.console {
        line.descriptor(
            descriptors.console,
            CONSOLE_SET,
            &console.display().to_string(),
        );
        // Opened for appending, because QEMU would otherwise truncate it, and a pipe cannot be
        // truncated.
        line.option(
            "-chardev",
            format!("file,id=console,path=/dev/fdset/{CONSOLE_SET},append=on"),
        );
        line.option("-serial", "chardev:console");
    }
    line.0
}

/// QEMU's name of an accelerator.
pub fn accelerator(accel: Accel) -> &'static str {
    match accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    }
}

/// The guest's processor model. Translating all the extensions of `max` takes up to twice the
/// time.
pub fn processor(accel: Accel) -> &'static str {
    match accel {
        Accel::Kvm => "host",
        Accel::Tcg => "qemu64",
    }
}

/// The guest's processor. Hyper-V's interfaces are KVM's.
fn cpu(accel: Accel, profile: &Profile) -> String {
    let hyperv = match accel {
        Accel::Kvm if profile.hyperv => HYPERV,
        _ => "",
    };
    format!("{}{hyperv}", processor(accel))
}

/// The options for integrated graphics, whose legacy mode QEMU 7.2 chooses by the slot.
fn legacy_mode(version: Option<Version>) -> String {
    match version {
        Some(version) if version < Version::STOLEN_MEMORY_OF_THE_HOST => {
            format!(",x-igd-gms={STOLEN_MEMORY:#x}")
        }
        _ => ",x-igd-legacy-mode=on".into(),
    }
}

/// The address of a network card, or QEMU's own.
fn address(mac: Option<Mac>) -> String {
    mac.map_or_else(String::new, |mac| format!(",mac={mac}"))
}

/// The disk, by its set of descriptors.
///
/// The host's cache takes the guest's writes, and its flushes reach the disk. The guest's TRIM does
/// not: it would give back the space that the volume holds for the user.
///
/// `auto-read-only=off`, because QEMU would otherwise first open the disk read-only, and the set
/// has no such descriptor. If the document names a base, the base in the disk's own header is
/// ignored.
fn drive(volume: &Volume) -> String {
    let file = if volume.is_device() {
        "file.driver=host_device,file.filename"
    } else {
        "file"
    };
    let format = volume.format.driver();
    let mut drive = format!(
        "if=none,id=hd_sys,{file}=/dev/fdset/{VOLUME_SET},format={format},cache=writeback,discard=ignore,auto-read-only=off"
    );
    if let Some((_, format)) = volume.backing() {
        let driver = format.driver();
        drive += &format!(
            ",backing.driver={driver},backing.file.driver=file,backing.file.filename=/dev/fdset/{BACKING_SET}"
        );
    }
    drive
}

struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn option(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }

    /// Hands over an open file; the path is only informative.
    fn descriptor(&mut self, fd: RawFd, set: u32, path: &str) {
        let path = path.replace(',', ",,");
        self.option("-add-fd", format!("fd={fd},set={set},opaque={path}"));
    }
}
