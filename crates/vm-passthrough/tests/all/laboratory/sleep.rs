//! Guests that sleep, or hibernate, although they are not offered it.

use nix::sys::signal::Signal;
use serde_json::json;

use super::boot::{UP, then};
use super::machine::Machine;

#[test]
fn a_guest_is_told_that_it_cannot_sleep() {
    let machine = Machine::new(then::TELL_OF_SLEEP);
    let mut session = machine.start();
    session.qemu_is_gone();
    assert_eq!(session.heard, [UP, "00\n"].concat());
    assert_eq!(session.end().section("guest")["ended"], "shutdown");
}

const SLEEPS: &str = "vm-passthrough: the guest went to sleep and was woken, because the user cannot; switch sleep off in it\n";

#[test]
fn a_guest_that_sleeps_all_the_same_is_woken() {
    let mut machine = Machine::new(then::SLEEP);
    machine.settings += "shutdown_seconds=0\n";
    let mut session = machine.start();
    session.is_up(3); // this one knows no way to wake up but to boot
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    assert_eq!(
        (ended.stderr.as_str(), &ended.section("guest")["ended"]),
        (SLEEPS, &json!("stopped"))
    );
    machine.is_as_before();
}

#[test]
fn a_guest_that_sleeps_at_the_power_button_is_woken_and_shuts_down() {
    let mut machine = Machine::new(then::SLEEP_AT_THE_BUTTON);
    machine.settings += "shutdown_seconds=30\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(
        (ended.signal, ended.stderr.as_str()),
        (Some(Signal::SIGTERM as i32), SLEEPS)
    );
    assert_eq!(
        (&guest["ended"], guest.get("ended_reason")),
        (&json!("stopped"), None)
    );
    machine.is_as_before();
}

#[test]
fn a_guest_that_misses_the_power_button_is_asked_again() {
    let mut machine = Machine::new(then::MISS_THE_BUTTON);
    machine.settings += "shutdown_seconds=30\n";
    let mut session = machine.start();
    session.is_up(1);
    session.signal(Signal::SIGTERM);
    let ended = session.end();
    let guest = ended.section("guest");
    assert_eq!(
        (
            ended.stderr.as_str(),
            &guest["ended"],
            guest.get("ended_reason")
        ),
        ("", &json!("stopped"), None)
    );
    machine.is_as_before();
}

#[test]
fn a_guest_that_hibernates_all_the_same_ends_and_that_is_said() {
    let machine = Machine::new(then::HIBERNATE);
    let ended = machine.run();
    assert_eq!(
        (ended.status, &ended.section("guest")["ended"]),
        (0, &json!("shutdown"))
    );
    let said = "the guest went into hibernation, and its next start goes on there; switch hibernation off in it";
    assert_eq!(ended.stderr, format!("vm-passthrough: {said}\n"));
    machine.is_as_before();
}
