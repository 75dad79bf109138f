//! `invcollect collect`: the inventory of this machine.

use std::io::Write;
use std::time::SystemTime;

use jsonpipe::{Answer, Common, Document, Pipe, atomic, timestamp};
use model::{Memory, Model};

use crate::firmware::wanted;
use crate::read::machine::{Asked, Machine, PATIENCE};
use crate::read::{
    bases, boot, cctk, devices, disks, dmi, filesystems, firmware, guest, identity, interfaces,
    kernel_log, memory, place, privacy, processor, routes, sensors,
};
use crate::report::Host;
use crate::settings::Settings;
use crate::{TOOL, baseline, glpi, request, settings};

/// `invcollect collect`: status 74, 73 or 77 when the file for GLPI cannot be written; a fault of
/// the machine is never an error.
pub fn collect(common: &Common, pipe: &Pipe, options: &request::Collect) -> anyhow::Result<Answer> {
    let host = host(common, pipe);
    if let Some(path) = &options.glpi {
        let inventory = glpi::inventory(&host)?;
        pipe.note(format_args!(
            "writing the inventory for GLPI to {}",
            path.display()
        ));
        atomic::write(path, 0o600, |file| file.write_all(inventory.as_bytes()))?;
    }
    let mut document = Document::default();
    document.set(TOOL.section, &host)?;
    Ok(Answer::yes(document))
}

/// Reads the machine. An unreadable value is listed in `missing` and does not stop the rest.
pub fn host(common: &Common, pipe: &Pipe) -> Host {
    pipe.note(format_args!(
        "reading the machine below {}",
        common.root.display()
    ));
    let machine = Machine::new(common);
    let now = SystemTime::now();
    let filesystems = filesystems::read(&machine);
    // Everything on a disk, which may be failing or pulled out (a session's disk, for example), is
    // read in parallel with the rest.
    let id = filesystems::ask(
        &machine,
        &filesystems,
        envelope::HOST_ID,
        "id",
        identity::id,
    );
    let image = filesystems::ask(&machine, &filesystems, boot::RECORDS, "image", boot::image);
    let known = filesystems::ask(
        &machine,
        &filesystems,
        baseline::FILE,
        "changes",
        baseline::known,
    );
    let failures = filesystems::ask(
        &machine,
        &filesystems,
        jsonpipe::event_log::PATH,
        guest::FAILURES,
        guest::logged_failures,
    );
    let bases = filesystems::ask(
        &machine,
        &filesystems,
        images::BACKING,
        "bases",
        bases::read,
    );
    let tables = machine.ask(PATIENCE, "system", dmi::read);
    let log = kernel_log::read(&machine).unwrap_or_else(|error| {
        machine.unreadable(guest::FAILURES, "/dev/kmsg", &error);
        kernel_log::Said::default()
    });
    let tables = tables.answer(&machine).unwrap_or_default();
    let mut firmware = tables.firmware;
    let mut chassis = tables.chassis;
    firmware.attributes = firmware::attributes(&machine);
    firmware.wanted = machine
        .within(
            cctk::PATIENCE + PATIENCE,
            "firmware.wanted",
            wanted::of_machine,
        )
        .unwrap_or_default();
    let model = listed_model(&machine, tables.system.model.as_deref());
    if has_switch(&machine, &model) {
        firmware::intrusion(&machine, &firmware.attributes, &mut chassis);
    } else {
        chassis.intrusion_switch = Some(false);
    }
    if let Err(error) = Settings::read(&common.config(settings::FILE)) {
        machine.missing("configuration", format_args!("{error:#}"));
    }
    let mut interfaces = interfaces::read(&machine);
    let mut routes = routes::read(&machine);
    let campus = place::map(&machine);
    let place = campus
        .as_ref()
        .and_then(|campus| place::find(&machine, campus, &interfaces));
    privacy::keep(&machine, campus.as_ref(), &mut interfaces, &mut routes);
    let known = answered(&machine, known);
    let mut host = Host {
        changed: false,
        collected_at: timestamp::rfc3339(now),
        id: answered(&machine, id),
        hostname: identity::hostname(&machine),
        place,
        boot: boot::read(&machine, now, &log),
        image: answered(&machine, image),
        memory: memory::read(
            &machine,
            tables.memory,
            model.memory_installed.map(Memory::bytes),
        ),
        system: tables.system,
        firmware,
        board: tables.board,
        chassis,
        processor: processor::read(&machine),
        disks: disks::read(&machine),
        bases: answered(&machine, bases),
        filesystems,
        unmounted: filesystems::unmounted(&machine),
        interfaces,
        routes,
        // A disk also has a sensor, which does not answer during a reset.
        temperatures: machine
            .within(PATIENCE, "temperatures", sensors::temperatures)
            .unwrap_or_default(),
        devices: devices::read(&machine),
        guest: guest::read(&machine),
        guest_failures: guest::failures(&machine, now, &log, answered(&machine, failures)),
        changes: Vec::new(),
        missing: machine.into_missing(),
    };
    if let Some(known) = known {
        baseline::mark(&mut host, &known);
    }
    host
}

/// What models.ini says of this model; nothing if it does not list it.
fn listed_model(machine: &Machine, name: Option<&str>) -> Model {
    let models = model::read_all(machine.common).unwrap_or_else(|error| {
        machine.missing("configuration", format_args!("{error:#}"));
        Vec::new()
    });
    models
        .into_iter()
        .find_map(|(listed, model)| (Some(listed.as_str()) == name).then_some(model))
        .unwrap_or_default()
}

/// Whether the case may have an intrusion switch. On many boards without one the pin floats.
fn has_switch(machine: &Machine, model: &Model) -> bool {
    let says = model.intrusion_switch;
    if says == Some(false) {
        machine.missing(
            "chassis.opened",
            format_args!(
                "{} says that this model has no intrusion switch",
                model::FILE
            ),
        );
    }
    says != Some(false)
}

fn answered<T: Default>(machine: &Machine, asked: Option<Asked<T>>) -> T {
    asked
        .and_then(|asked| asked.answer(machine))
        .unwrap_or_default()
}
