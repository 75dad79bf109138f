//! The machine according to the firmware's tables: all of them, or the part that the kernel shows
//! to every user.

use envelope::identity::{is_name, is_uuid_of_one};

use crate::read::machine::Machine;
use crate::read::smbios::{self, EntryPoint, Tables};
use crate::report::{Board, Chassis, Firmware, System};

const TABLE: &str = "/sys/firmware/dmi/tables/DMI";
const ENTRY_POINT: &str = "/sys/firmware/dmi/tables/smbios_entry_point";
const FIELDS: &str = "/sys/class/dmi/id";

/// Reads them, and records missing values with their reasons.
pub fn read(machine: &Machine) -> Tables {
    let table = match machine.bytes(TABLE) {
        Ok(table) => table,
        Err(error) => {
            machine.unreadable("memory.installed_bytes", TABLE, &error);
            let tables = fields(machine);
            for (key, is_known) in [
                ("system", tables.system != System::default()),
                ("firmware", tables.firmware != Firmware::default()),
                ("board", tables.board != Board::default()),
                ("chassis", tables.chassis != Chassis::default()),
            ] {
                if !is_known {
                    machine.unreadable(key, TABLE, &error);
                }
            }
            return tables;
        }
    };
    let entry_point = machine
        .bytes(ENTRY_POINT)
        .map(|bytes| EntryPoint::read(&bytes))
        .unwrap_or_default();
    let mut tables = smbios::parse(&entry_point, &table);
    if tables.memory.is_none() {
        let reason = tables.damage.map_or_else(
            || "no memory device in it".to_owned(),
            |damage| format!("damaged: {damage}"),
        );
        machine.missing("memory.installed_bytes", format_args!("{TABLE}: {reason}"));
    }
    if tables.damage.is_some() {
        complete(&mut tables, fields(machine));
    }
    for (key, value) in [
        ("system.serial", &tables.system.serial),
        ("system.uuid", &tables.system.uuid),
    ] {
        if value.is_none() {
            machine.missing(key, "the firmware has none, or one that many machines have");
        }
    }
    tables
}

/// The kernel read the tables at boot, before any damage, and keeps some of the strings.
fn fields(machine: &Machine) -> Tables {
    let field = |name: &str| machine.value(format!("{FIELDS}/{name}"));
    let serial = |name: &str| smbios::serial(&machine.bytes(format!("{FIELDS}/{name}")).ok()?);
    let kind: Option<u8> = field("chassis_type")
        .and_then(|kind| kind.parse().ok())
        .filter(|kind| *kind > 2);
    Tables {
        firmware: Firmware {
            vendor: field("bios_vendor"),
            version: field("bios_version"),
            date: field("bios_date"),
            ..Firmware::default()
        },
        system: System {
            manufacturer: field("sys_vendor"),
            model: machine.value(model::PRODUCT_NAME),
            serial: serial("product_serial"),
            uuid: field("product_uuid")
                .map(|uuid| uuid.to_ascii_lowercase())
                .filter(|uuid| is_uuid_of_one(uuid)),
        },
        board: Board {
            manufacturer: field("board_vendor"),
            product: field("board_name"),
            serial: serial("board_serial"),
        },
        chassis: Chassis {
            manufacturer: field("chassis_vendor"),
            kind,
            kind_name: kind.and_then(smbios::kinds::chassis),
            serial: serial("chassis_serial"),
            asset_tag: field("chassis_asset_tag").filter(|tag| is_name(tag)),
            ..Chassis::default()
        },
        ..Tables::default()
    }
}

/// Completes a damaged table from the fields.
fn complete(tables: &mut Tables, fields: Tables) {
    let fill = |into: &mut Option<String>, from: Option<String>| *into = into.take().or(from);
    fill(&mut tables.firmware.vendor, fields.firmware.vendor);
    fill(&mut tables.firmware.version, fields.firmware.version);
    fill(&mut tables.firmware.date, fields.firmware.date);
    fill(&mut tables.system.manufacturer, fields.system.manufacturer);
    fill(&mut tables.system.model, fields.system.model);
    fill(&mut tables.system.serial, fields.system.serial);
    fill(&mut tables.system.uuid, fields.system.uuid);
    fill(&mut tables.board.manufacturer, fields.board.manufacturer);
    fill(&mut tables.board.product, fields.board.product);
    fill(&mut tables.board.serial, fields.board.serial);
    fill(
        &mut tables.chassis.manufacturer,
        fields.chassis.manufacturer,
    );
    fill(&mut tables.chassis.serial, fields.chassis.serial);
    fill(&mut tables.chassis.asset_tag, fields.chassis.asset_tag);
    tables.chassis.kind = tables.chassis.kind.or(fields.chassis.kind);
    tables.chassis.kind_name = tables.chassis.kind.and_then(smbios::kinds::chassis);
}
