//! `firmware`: the firmware's settings get the values of firmware.ini. The kernel's driver itself
//! is in scripts/lab/test-firmware; here its files are in a directory, and take everything.

mod cctk;
mod drift;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;

use jsonpipe::testkit::hold;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::machine::Machine;

const LMI: &str = "sys/class/firmware-attributes/thinklmi";
const INI: &str = "etc/labtools/firmware.ini";
const SECRET: &str = "persistent/labtools/secrets/firmware";
const PASSWORD: &str = "sesame-123";

/// A machine with the settings of a Lenovo, which firmware.ini wants otherwise.
pub fn lenovo() -> Machine {
    let machine = Machine::optiplex();
    named(&machine, "OptiPlex 7010", "A20");
    machine.write(
        "etc/labtools/models.ini",
        "[model.OptiPlex 7010]\nbios = A16\n",
    );
    attribute(&machine, "VTdFeature", "Disable", "Disable;Enable");
    attribute(&machine, "WakeOnLAN", "Enable", "Disable,ACOnly,Enable");
    machine.write(&format!("{LMI}/attributes/pending_reboot"), "0\n");
    authentication(&machine, "Admin", "bios-admin", "0");
    authentication(&machine, "Power-on", "power-on", "1");
    policy(&machine, "thinklmi", "VTdFeature=Enable", "false");
    machine
}

pub fn named(machine: &Machine, product: &str, bios: &str) {
    machine.write("sys/class/dmi/id/product_name", format!("{product}\n"));
    machine.write("sys/class/dmi/id/bios_version", format!("{bios}\n"));
}

pub fn policy(machine: &Machine, interface: &str, vt_d: &str, setup_password: &str) {
    machine.write(
        INI,
        format!(
            "[firmware.{interface}]\nvt_d = {vt_d}\nwake_on_lan = WakeOnLAN=Enable\nusb_boot =\nsetup_password = {setup_password}\n"
        ),
    );
}

fn attribute(machine: &Machine, name: &str, value: &str, possible: &str) {
    let directory = format!("{LMI}/attributes/{name}");
    machine.write(&format!("{directory}/current_value"), format!("{value}\n"));
    machine.write(
        &format!("{directory}/possible_values"),
        format!("{possible}\n"),
    );
}

fn authentication(machine: &Machine, name: &str, role: &str, is_enabled: &str) {
    for (file, text) in [
        ("role", role),
        ("is_enabled", is_enabled),
        ("min_password_length", "8"),
        ("max_password_length", "64"),
        ("current_password", ""),
        ("new_password", ""),
    ] {
        machine.write(
            &format!("{LMI}/authentication/{name}/{file}"),
            format!("{text}\n"),
        );
    }
}

fn keep(machine: &Machine, password: &str) {
    machine.write(SECRET, format!("{password}\n"));
    fs::set_permissions(machine.path(SECRET), fs::Permissions::from_mode(0o600)).unwrap();
}

fn value(machine: &Machine, name: &str) -> String {
    machine.read(&format!("{LMI}/attributes/{name}/current_value"))
}

#[test]
fn a_dry_run_reports_and_writes_nothing() {
    let machine = lenovo();
    let ended = machine.run(&["firmware", "--dry-run"]);
    assert_eq!((ended.status, &*ended.stderr), (1, ""));
    let expected = json!({
        "schema": 1, "changed": false, "interface": "thinklmi", "model": "OptiPlex 7010",
        "settings": [
            {"setting": "vt_d", "attribute": "VTdFeature", "wanted": "Enable", "was": "Disable", "is": "Disable"},
            {"setting": "wake_on_lan", "attribute": "WakeOnLAN", "wanted": "Enable", "was": "Enable", "is": "Enable"},
        ],
        "pending_reboot": false,
    });
    assert_eq!(ended.section("firmware"), expected);
    assert_eq!(value(&machine, "VTdFeature"), "Disable\n");
    assert!(!machine.path("run/labtools/firmware.lock").exists());
}

#[test]
fn what_differs_is_written_and_nothing_else() {
    let machine = lenovo();
    let ended = machine.run(&["firmware"]);
    assert_eq!((ended.status, &*ended.stderr), (0, ""));
    let firmware = ended.section("firmware");
    assert_eq!(
        (&firmware["changed"], &firmware["settings"][0]["is"]),
        (&json!(true), &json!("Enable"))
    );
    assert_eq!(value(&machine, "VTdFeature"), "Enable");
    assert_eq!(value(&machine, "WakeOnLAN"), "Enable\n", "not written");
    let again = machine.run(&["firmware"]);
    assert_eq!(
        (again.status, &again.section("firmware")["changed"]),
        (0, &json!(false))
    );
}

#[test]
fn the_shipped_file_is_read() {
    let machine = lenovo();
    machine.write(
        INI,
        include_str!("../../../../scripts/host/etc/firmware.ini"),
    );
    attribute(
        &machine,
        "BootDeviceListF12Option",
        "Enable",
        "Disable;Enable",
    );
    let ended = machine.run(&["firmware", "--dry-run"]);
    let firmware = ended.section("firmware");
    let settings = firmware["settings"].as_array().unwrap();
    let names: Vec<_> = settings.iter().map(|one| &one["setting"]).collect();
    assert_eq!(names, ["vt_d", "wake_on_lan", "usb_boot", "setup_password"]);
    assert_eq!(ended.status, 1);
}

/// Some firmware of Lenovo's has its choices behind the value.
#[test]
fn choices_behind_a_value_are_no_part_of_it() {
    let machine = lenovo();
    let text = "Enable;[Optional:Disable,Enable]";
    attribute(&machine, "VTdFeature", text, "Disable;Enable");
    assert_eq!(machine.run(&["firmware", "--dry-run"]).status, 0);
}

#[test]
fn the_password_goes_along_and_does_not_stay() {
    let machine = lenovo();
    authentication(&machine, "Admin", "bios-admin", "1");
    keep(&machine, PASSWORD);
    policy(&machine, "thinklmi", "VTdFeature=Enable", "true");
    let ended = machine.run(&["firmware", "-v"]);
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(!(ended.stdout + &ended.stderr).contains(PASSWORD));
    let at = |file: &str| machine.read(&format!("{LMI}/authentication/Admin/{file}"));
    assert_eq!(at("current_password"), "\n", "it was taken back");
    assert_eq!(at("new_password"), "\n", "none was set");
    assert_eq!(value(&machine, "VTdFeature"), "Enable");
}

/// The kernel would keep the password if the process ended at once. The setting is a pipe, so the
/// process waits in the middle of its work.
#[test]
fn a_signal_waits_until_the_password_is_taken_back() {
    let machine = lenovo();
    authentication(&machine, "Admin", "bios-admin", "1");
    keep(&machine, PASSWORD);
    let password = format!("{LMI}/authentication/Admin/current_password");
    let setting = format!("{LMI}/attributes/VTdFeature/current_value");
    machine.never_answers(&setting);
    let setting = machine.path(&setting);
    let mut tool = machine
        .command(&["firmware"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    fs::write(&setting, "Disable\n").unwrap();
    while machine.read(&password) != PASSWORD {
        assert_eq!(tool.try_wait().unwrap(), None);
        thread::yield_now();
    }
    kill(Pid::from_raw(tool.id().cast_signed()), Signal::SIGTERM).unwrap();
    let driver = thread::spawn({
        let setting = setting.clone();
        move || {
            let _ = fs::read(&setting).and_then(|value| fs::write(&setting, value));
        }
    });
    let ended = tool.wait().unwrap();
    // A process that ended at once left the other side of the pipe waiting.
    while !driver.is_finished() {
        let mut both = fs::OpenOptions::new();
        drop(both.read(true).write(true).open(&setting).unwrap());
        thread::yield_now();
    }
    assert_eq!(machine.read(&password), "\n");
    assert_eq!(ended.signal(), Some(libc::SIGTERM));
}

#[test]
fn a_password_is_set_where_there_is_none() {
    let machine = lenovo();
    keep(&machine, PASSWORD);
    policy(&machine, "thinklmi", "VTdFeature=Enable", "true");
    let ended = machine.run(&["firmware"]);
    let at = |file: &str| machine.read(&format!("{LMI}/authentication/Admin/{file}"));
    assert_eq!(
        (at("new_password"), at("current_password")),
        (PASSWORD.into(), "\n".into())
    );
    // A directory does not show it, and neither does think-lmi before the next boot.
    let expected = json!({
        "setting": "setup_password", "attribute": "Admin", "wanted": "set", "was": "unset", "is": "unset",
        "failed": "the firmware took it, and does not show it yet; check it after the next boot",
    });
    assert_eq!(
        (ended.status, &ended.section("firmware")["settings"][2]),
        (1, &expected)
    );
}

/// Each of these is found before the first write.
#[test]
fn nothing_is_written_on_a_refusal() {
    let refused = |prepare: &dyn Fn(&Machine), status: i32, complaint: &str| {
        let machine = lenovo();
        prepare(&machine);
        let complaint = complaint.replace("ROOT", machine.root().to_str().unwrap());
        machine.run(&["firmware"]).refused(status, &complaint);
        assert_eq!(value(&machine, "VTdFeature"), "Disable\n", "{complaint}");
    };
    let models = |text: &'static str| {
        move |machine: &Machine| machine.write("etc/labtools/models.ini", text)
    };
    let with =
        |vt_d: &'static str| move |machine: &Machine| policy(machine, "thinklmi", vt_d, "false");
    let secret = |text: &'static str| {
        move |machine: &Machine| {
            policy(machine, "thinklmi", "VTdFeature=Enable", "true");
            keep(machine, text);
        }
    };
    refused(
        &models("[model.OptiPlex 7010]\nbios = A29\n"),
        78,
        "checking the model: the BIOS of this OptiPlex 7010 is A20; update it to A29 or later first",
    );
    refused(
        &models("[model.OptiPlex 9020]\n"),
        78,
        "checking the model: ROOT/etc/labtools/models.ini does not list OptiPlex 7010",
    );
    refused(
        &|machine: &Machine| named(machine, "", "A20"),
        78,
        "checking the model: the firmware names no product",
    );
    refused(
        &|machine: &Machine| machine.remove(INI),
        66,
        "reading ROOT/etc/labtools/firmware.ini: ",
    );
    refused(
        &|machine: &Machine| policy(machine, "cctk", "", "false"),
        78,
        "ROOT/etc/labtools/firmware.ini: no section [firmware.thinklmi], and this machine has that interface",
    );
    refused(
        &with("VTdFeature=Enable, VMX=Enable"),
        78,
        "ROOT/etc/labtools/firmware.ini: thinklmi: vt_d: this firmware has no VMX",
    );
    refused(
        &with("VTdFeature=On"),
        78,
        "ROOT/etc/labtools/firmware.ini: thinklmi: vt_d: VTdFeature takes Disable, Enable, not On",
    );
    refused(
        &|machine: &Machine| policy(machine, "thinklmi", "VTdFeature=Enable", "true"),
        66,
        "reading ROOT/persistent/labtools/secrets/firmware: ",
    );
    for text in ["", "with blank", "a,b-sesame", "a;b-sesame", "pässword-ü"] {
        refused(
            &secret(text),
            78,
            "reading ROOT/persistent/labtools/secrets/firmware: expected a line of letters, digits and signs of ASCII",
        );
    }
    refused(
        &secret("short"),
        78,
        "reading ROOT/persistent/labtools/secrets/firmware: this firmware takes no password of that length",
    );
    let open = |machine: &Machine| {
        secret(PASSWORD)(machine);
        fs::set_permissions(machine.path(SECRET), fs::Permissions::from_mode(0o644)).unwrap();
    };
    refused(
        &open,
        78,
        "reading ROOT/persistent/labtools/secrets/firmware: others may use it",
    );
}

#[test]
fn without_an_interface_it_is_69() {
    let machine = lenovo();
    machine.remove("sys/class/firmware-attributes");
    let complaint =
        "reading the firmware's settings: no /sys/class/firmware-attributes, and no cctk";
    machine.run(&["firmware"]).refused(69, complaint);
}

/// Not known to be older: it is said, and no reason to refuse.
#[test]
fn a_bios_that_cannot_be_compared_is_a_warning() {
    let machine = lenovo();
    named(&machine, "OptiPlex 7010", "M1AKT4BA");
    let ended = machine.run(&["firmware"]);
    assert_eq!(ended.status, 0);
    assert!(
        ended
            .stderr
            .contains("the BIOS is M1AKT4BA, which cannot be compared with A16"),
        "{ended:?}"
    );
}

#[test]
fn one_run_at_a_time() {
    let machine = lenovo();
    machine.directory("run/labtools");
    let held = hold(&machine.path("run/labtools/firmware.lock"));
    assert_eq!(machine.run(&["firmware"]).status, 75);
    assert_eq!(machine.run(&["firmware", "--dry-run"]).status, 1);
    drop(held);
    assert_eq!(machine.run(&["firmware"]).status, 0);
}

#[test]
fn the_man_page_examples_work() {
    let page = include_str!("../../../../man/invcollect-firmware.8");
    jsonpipe::testkit::man_page_examples_work(crate::machine::BINARY, page, lenovo().root());
}

fn wanted(machine: &Machine) -> Value {
    machine.host()["firmware"]["wanted"].take()
}
