//! QEMU's command line.
//!
//! The order and the spelling are those of Figure 4 of the thesis, so that the two can be laid side
//! by side; vm-passthrough(8) lists where and why it differs.

use std::os::fd::RawFd;

use crate::accel::Accel;
use crate::child::SANDBOX;
use crate::hugepages;
use crate::machine::Machine;
use crate::profile::{Profile, Rtc, Settings};
use crate::request::Volume;

/// Sets of descriptors, by which QEMU knows the files that it is handed.
const VOLUME_SET: u32 = 1;
const BACKING_SET: u32 = 2;
const CONSOLE_SET: u32 = 3;

/// What the command line is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// What runs the guest's instructions.
    pub accel: Accel,
    /// The host.
    pub machine: &'a Machine,
    /// The guest's machine.
    pub profile: &'a Profile,
    /// How QEMU is started.
    pub settings: &'a Settings,
    /// The guest's disk.
    pub volume: &'a Volume,
    /// Under which numbers QEMU finds what it is handed.
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
    /// Where the first serial port goes.
    pub console: RawFd,
}

impl Descriptors {
    /// What they are unless the caller leaves these numbers open.
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
    // The guest's first instruction waits for us, so that no event of its life is missed.
    line.flag("-S");
    // A guest that sleeps has nobody to wake it, and one that hibernates wakes up on another
    // machine than it knew.
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
        // Appended to, for QEMU would truncate it otherwise, and a pipe cannot be truncated.
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
/// `auto-read-only=off`, because QEMU would otherwise first open the disk for reading only, and the
/// set has no such descriptor. Where the document names a base, what the disk's own header says of
/// it is not followed.
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

    /// Hands over an open file; the path is there for people only.
    fn descriptor(&mut self, fd: RawFd, set: u32, path: &str) {
        let path = path.replace(',', ",,");
        self.option("-add-fd", format!("fd={fd},set={set},opaque={path}"));
    }
}
