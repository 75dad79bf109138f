//! The program that runs a guest, in the words of this crate.
//!
//! The rest of the crate knows guests, orders and events only by these types. The words of QEMU are
//! in `qemu`; another virtualizer implements the same two traits in a file beside it.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream;

use blockers::Finding;
use confined::Identity;
use jsonpipe::Common;
use model::Memory;

use crate::accel::Accel;
use crate::machine::Machine;
use crate::profile::{Profile, Settings};
use crate::request::Volume;
use crate::segment::Segment;

/// A program that runs a guest.
pub trait Virtualizer: Debug {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// The obstacle to guests with these needs, if it is not there, is too old, or lacks something.
    /// It is asked as the user `identity`.
    fn obstacle(&self, identity: Option<Identity>, needs: Needs) -> Option<Finding>;

    /// Checks that it can run a guest on KVM, as the user that will run it; the inner error is the
    /// fault.
    fn try_kvm(&self, common: &Common, identity: &Identity) -> anyhow::Result<Result<(), String>>;

    /// Its command line for a guest, the program first.
    fn command_line(&self, guest: &Parts<'_>) -> Vec<String>;

    /// The connection that controls it; the other end of `stream` is handed to the program.
    fn control(&self, stream: UnixStream) -> Box<dyn Control>;

    /// The messages, if any, by which it admits that the guest's graphics would not work although
    /// it went on.
    fn refusal<'a>(&self, messages: &'a str) -> Option<&'a str>;
}

/// What the machine's guests get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Emulated devices only.
    Nothing,
    /// Devices of the host.
    Devices,
    /// Devices of the host, the integrated graphics among them.
    Graphics,
}

/// The connection to a running guest. Orders are sent without waiting for their effect.
pub trait Control: AsFd + Debug {
    /// Sends an order. A missing reader is noticed when reading.
    fn send(&mut self, order: Order) -> io::Result<()>;

    /// Reads the available bytes, or waits for some; false when the program is gone.
    fn fill(&mut self) -> io::Result<bool>;

    /// The next complete message.
    fn message(&mut self) -> io::Result<Option<Message>>;
}

/// An order to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Accept orders.
    Greet,
    /// Report the guest's status.
    Status,
    /// Let the guest run.
    Run,
    /// Wake the guest up.
    Wake,
    /// Press the guest's power button.
    PressPowerButton,
    /// Switch the guest off.
    Quit,
}

/// A message of the program.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message, before devices exist.
    Greeting,
    /// The answer to an order.
    Done,
    /// The answer to [`Order::Status`].
    Status(Status),
    /// The refusal of an order.
    Refused(String),
    /// An event.
    Event(Event),
}

/// The status of a guest.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// It runs, sleeps, or is about to end.
    Well,
    /// It stands still, because there is no space left for its disk.
    NoRoom,
    /// It stands still for good, with the program's word for it.
    Broken(String),
}

/// The relevant events.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The program is about to end.
    Shutdown(Shutdown),
    /// The disk could not be read or written. If there is no space left for it, the guest stands
    /// still; any other error was passed to the guest, like one of a broken disk.
    DiskFailed {
        /// Whether the guest stands still.
        stopped: bool,
    },
    /// The guest stands still; its status gives the reason.
    Stopped,
    /// The guest went to sleep (ACPI S3).
    Asleep,
    /// It is awake again.
    Awake,
    /// The guest saved its memory to its disk and switches off (ACPI S4).
    Hibernates,
    /// The guest's system reported a crash.
    Crashed,
    /// Any other.
    Other,
}

/// Why the program is about to end.
#[derive(Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Whether the guest asked for it.
    pub by_guest: bool,
    /// Whether it did so without a crash of its system.
    pub well: bool,
    /// The program's reason.
    pub reason: String,
}

/// The inputs of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The accelerator.
    pub accel: Accel,
    /// The host.
    pub machine: &'a Machine,
    /// The guest's machine.
    pub profile: &'a Profile,
    /// The guest's memory.
    pub memory: Memory,
    /// The settings of the program.
    pub settings: &'a Settings,
    /// The guest's disk.
    pub volume: &'a Volume,
    /// The network segment of the room, if the guest is connected to it.
    pub segment: Option<&'a Segment>,
    /// The numbers of the descriptors handed to the program.
    pub descriptors: Descriptors,
}

/// The numbers of the descriptors that the program inherits.
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
