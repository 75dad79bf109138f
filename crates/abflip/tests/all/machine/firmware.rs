//! A fake of the firmware's variables: a directory stands for efivarfs, so nothing acts on them,
//! and none is immutable.

use std::fs;
use std::path::PathBuf;

use super::{DISK_GUID, ESP_A, ESP_B, Machine, PARTITION, guid};

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

impl Machine {
    fn variable(&self, name: &str) -> PathBuf {
        self.root()
            .join(format!("sys/firmware/efi/efivars/{name}-{GLOBAL}"))
    }

    /// Sets a variable.
    pub fn set_variable(&self, name: &str, content: &[u8]) {
        let path = self.variable(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [&[7, 0, 0, 0], content].concat()).unwrap();
    }

    pub fn has_variable(&self, name: &str) -> bool {
        self.variable(name).exists()
    }

    /// An entry that starts a file of the first, or second, EFI system partition.
    pub fn set_entry(&self, number: u16, description: &str, esp: u32, file: &str) {
        self.set_variable(
            &format!("Boot{number:04X}"),
            &load_option(description, esp, file),
        );
    }

    /// As `abflip try` leaves it: slot b is recorded to be on trial, and the firmware starts it at
    /// the next boot.
    pub fn arm_by_uefi(&self) {
        self.set_entry(7, "labtools trial", 1, "\\EFI\\labtools\\try.efi");
        self.set_variable("BootNext", &7u16.to_le_bytes());
        let path = self.root().join("var/lib/labtools/slots.json");
        let mut records: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        records["trial"] = serde_json::json!({
            "disk_guid": DISK_GUID, "slot": "b", "image": {"version": 7, "sha256": "00"}, "armed": true,
        });
        fs::write(path, records.to_string()).unwrap();
    }
}

/// An EFI_LOAD_OPTION that is active (UEFI specification 2.10, section 3.1.3).
fn load_option(description: &str, esp: u32, file: &str) -> Vec<u8> {
    let utf16 = |text: &str| {
        text.encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>()
    };
    let node = |kind: u8, sub: u8, content: &[u8]| {
        [
            &[kind, sub][..],
            &(content.len() as u16 + 4).to_le_bytes(),
            content,
        ]
        .concat()
    };
    let sectors = PARTITION / 512;
    let partition = [
        &esp.to_le_bytes()[..],
        &(u64::from(esp) * sectors).to_le_bytes(),
        &sectors.to_le_bytes(),
        &guid(if esp == 1 { ESP_A } else { ESP_B }),
        &[2, 2],
    ];
    let path = [
        node(4, 1, &partition.concat()),
        node(4, 4, &utf16(file)),
        node(0x7f, 0xff, &[]),
    ]
    .concat();
    [
        &1u32.to_le_bytes()[..],
        &(path.len() as u16).to_le_bytes(),
        &utf16(description),
        &path,
    ]
    .concat()
}
