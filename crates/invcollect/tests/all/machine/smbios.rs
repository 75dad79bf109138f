//! Tables of firmware, made byte by byte from DSP0134, as dmidecode reads them.

/// One structure: its formatted part after the header, and its strings.
pub fn structure(kind: u8, handle: u16, body: &[u8], strings: &[&str]) -> Vec<u8> {
    let mut bytes = vec![kind, 4 + body.len() as u8];
    bytes.extend(handle.to_le_bytes());
    bytes.extend(body);
    for string in strings {
        bytes.extend(string.as_bytes());
        bytes.push(0);
    }
    if strings.is_empty() {
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

/// A slot for memory, with what is in it.
#[derive(Clone, Debug)]
pub struct Slot {
    pub label: &'static str,
    /// Empty where the firmware has none.
    pub bank: &'static str,
    /// 0 for an empty one.
    pub mib: u32,
    pub serial: &'static str,
}

impl Slot {
    /// Type 17 of version 2.8: 40 bytes.
    pub fn structure(&self, handle: u16) -> Vec<u8> {
        let size = if self.mib < 0x7fff {
            self.mib as u16
        } else {
            0x7fff
        };
        let extended = if self.mib < 0x7fff { 0 } else { self.mib };
        let mut body = Vec::new();
        body.extend([0x00, 0x10, 0xfe, 0xff, 64, 0, 64, 0]); // the array, no error, widths
        body.extend(size.to_le_bytes());
        let locator = u8::from(!self.label.is_empty());
        let next = 1 + locator + u8::from(!self.bank.is_empty());
        let bank = if self.bank.is_empty() { 0 } else { 1 + locator };
        body.extend([9, 0, locator, bank, 24, 0x80, 0]); // a DIMM, no set, locator, bank, DDR3, synchronous
        body.extend(1600u16.to_le_bytes());
        body.extend([next, next + 1, 0, next + 2, 1]); // maker, serial, no asset tag, part, one rank
        body.extend(extended.to_le_bytes());
        body.extend(1600u16.to_le_bytes());
        body.extend([0; 6]); // voltages are not known
        let names = [self.label, self.bank]
            .into_iter()
            .filter(|name| !name.is_empty());
        let about = ["Hynix", self.serial, "HMT351U6CFR8C"]
            .into_iter()
            .filter(|_| self.mib > 0);
        structure(17, handle, &body, &names.chain(about).collect::<Vec<_>>())
    }
}

/// What a machine's firmware says.
#[derive(Clone, Debug)]
pub struct Tables {
    pub serial: &'static str,
    pub uuid: [u8; 16],
    pub firmware: &'static str,
    pub slots: Vec<Slot>,
}

impl Tables {
    /// An OptiPlex 7010 with two modules in four slots.
    pub fn optiplex() -> Tables {
        let slot = |label, mib, serial| Slot {
            label,
            bank: "",
            mib,
            serial,
        };
        Tables {
            serial: "ABC1234",
            uuid: *b"\x44\x45\x4c\x4c\x42\x00\x10\x43\x80\x31\xb1\xc0\x4f\x33\x32\x32",
            firmware: "A29",
            slots: vec![
                slot("DIMM1", 4096, "0A00B001"),
                slot("DIMM2", 0, ""),
                slot("DIMM3", 4096, "0A00B002"),
                slot("DIMM4", 0, ""),
            ],
        }
    }

    /// The table itself, /sys/firmware/dmi/tables/DMI.
    pub fn table(&self) -> Vec<u8> {
        let mut system = vec![1, 2, 0, 3];
        system.extend(self.uuid);
        system.extend([6, 0, 0]); // woken by the power switch
        let mut table = [
            structure(
                0,
                0,
                &[
                    1, 2, 0, 0xf0, 3, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,
                ],
                &["Dell Inc.", self.firmware, "06/28/2018"],
            ),
            structure(
                1,
                0x100,
                &system,
                &["Dell Inc.", "OptiPlex 7010", self.serial],
            ),
            structure(
                2,
                0x200,
                &[1, 2, 3, 4, 0, 9, 0, 0, 3, 10, 0],
                &["Dell Inc.", "0GY6Y8", "A01", "/ABC1234/CN7220021B/"],
            ),
            structure(
                3,
                0x300,
                &[1, 6, 0, 2, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 1, 0, 0],
                &["Dell Inc.", "ABC1234", "LAB3-07"],
            ),
        ]
        .concat();
        for (at, slot) in self.slots.iter().enumerate() {
            table.extend(slot.structure(0x1100 + at as u16));
        }
        table.extend(structure(127, 0x7f00, &[], &[]));
        table
    }

    /// The entry point of version 3.0, /sys/firmware/dmi/tables/smbios_entry_point, for a table at
    /// `address`.
    pub fn entry_point(&self, address: u64) -> Vec<u8> {
        let mut entry = b"_SM3_\0\x18\x03\x00\x00\x01\x00".to_vec();
        entry.extend((self.table().len() as u32).to_le_bytes());
        entry.extend(address.to_le_bytes());
        entry[5] = entry.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
        entry
    }
}
