//! QEMU's command line.
//!
//! The order and the spelling follow Figure 4 of the thesis, so that the two can be compared;
//! vm-passthrough(8) lists the differences and their reasons.

use std::os::fd::RawFd;

use crate::accel::Accel;
use crate::child::SANDBOX;
use crate::hugepages;
use crate::machine::Machine;
use crate::profile::{Profile, Rtc, Settings};
use crate::request::Volume;

/// Descriptor sets, through which QEMU accesses the files handed to it.
const VOLUME_SET: u32 = 1;
const BACKING_SET: u32 = 2;
const CONSOLE_SET: u32 = 3;

/// The inputs of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The accelerator.
    pub accel: Accel,
    /// The host.
    pub machine: &'a Machine,
    /// The guest's machine.
    pub profile: &'a Profile,
    /// The settings of QEMU.
    pub settings: &'a Settings,
    /// The guest's disk.
    pub volume: &'a Volume,
    /// The numbers of the descriptors handed to QEMU.
    pub descriptors: Descriptors,
}

/// The numbers of the descriptors that QEMU inherits.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    /// Its monitor.
    pub monitor: RawFd,
    /// The disk.
    pub volume: RawFd,
    /// The base that the disk is an overlay of.
    pub backing: RawFd,
    /// The output of the first serial port.
    pub console: RawFd,
}

impl Descriptors {
    /// The numbers, unless the caller already uses them.
    pub const PLANNED: Descriptors = Descriptors {
        monitor: 10,
        volume: 11,
        backing: 12,
        console: 13,
    };
}

/// The command line, the program first.
pub fn build(parts: &Parts<'_>) -> Vec<String> {
    let Parts {
        accel,
        machine,
        profile,
        settings,
        volume,
        descriptors,
    } = *parts;
    let mut line = Line(vec![settings.binary.display().to_string()]);

    line.option("-accel", accel.name());
    line.option("-cpu", accel.cpu());
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
        line.option("--mem-path", hugepages::MOUNT);
        line.flag("--mem-prealloc");
    }
    line.option("-m", profile.memory.to_string());

    for device in &machine.devices {
        let slot = device.slot();
        line.option(
            "-device",
            format!("vfio-pci-nohotplug,host={device},bus=pci.0,addr=0x{slot:02x}"),
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
    line.option("-device", "virtio-scsi-pci,id=scsi");
    line.option("-drive", drive(volume));
    line.option("-device", "scsi-hd,drive=hd_sys");

    let forward = settings.management_address.filter(|_| profile.rdp);
    let forward = forward.map_or_else(String::new, |address| {
        format!("hostfwd=tcp:{address}:3389-:3389,")
    });
    line.option("-netdev", format!("user,{forward}id=net_sys"));
    let mac = machine
        .mac
        .map_or_else(String::new, |mac| format!(",mac={mac}"));
    line.option("-device", format!("virtio-net-pci,netdev=net_sys{mac}"));
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

/// The disk, by its set of descriptors.
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
        "if=none,id=hd_sys,{file}=/dev/fdset/{VOLUME_SET},format={format},auto-read-only=off"
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
