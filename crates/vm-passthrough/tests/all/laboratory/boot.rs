//! Disks of one sector, whose few instructions do what a test needs.

/// What a guest says when it is up.
pub const UP: &str = "guest is up\n";

/// What a guest does once it is up.
pub mod then {
    /// Writes its boot sector to sector 1 and shuts down.
    pub const WRITE_AND_SHUT_DOWN: &[&[u8]] = &[WRITE, SHUT_DOWN];
    /// Waits for the power button and shuts down.
    pub const WAIT_FOR_THE_BUTTON: &[&[u8]] = &[WAIT, SHUT_DOWN];
    /// Waits until sector 1 was written and shuts down.
    pub const WAIT_FOR_SECTOR_1: &[&[u8]] = &[READ_UNTIL_WRITTEN, SHUT_DOWN];
    /// Starts again and again.
    pub const REBOOT: &[&[u8]] = &[&[0xb0, 0xfe, 0xe6, 0x64, 0xf4]]; // mov al, 0xfe; out 0x64, al; hlt
    /// Does not listen to anybody.
    pub const STAND_STILL: &[&[u8]] = &[&[0xfa, 0xf4, 0xeb, 0xfd]]; // cli; again: hlt; jmp again
    /// Goes to sleep.
    pub const SLEEP: &[&[u8]] = &[&[
        0xba, 0x04, 0x06, // mov dx, 0x604: ACPI's power control
        0xb8, 0x00, 0x24, // mov ax, 0x2400: S3
        0xef, 0xfb, 0xf4, // out dx, ax; sti; hlt
    ]];
    /// Waits for the power button, and sleeps at the first, of which it makes a note; at the second
    /// it shuts down.
    pub const SLEEP_AT_THE_BUTTON: &[&[u8]] = &[WAIT, UNLESS_NOTED, NOTE_AND_SLEEP, SHUT_DOWN];
    const UNLESS_NOTED: &[u8] = &[
        0xb0, 0x60, 0xe6, 0x70, 0xe4,
        0x71, // mov al, 0x60; out 0x70, al; in al, 0x71: the memory of the clock
        0x3c, 0x5a, 0x74, 0x0c, // cmp al, 0x5a; jz behind the next 12
    ];
    const NOTE_AND_SLEEP: &[u8] = &[
        0xb0, 0x5a, 0xe6, 0x71, // mov al, 0x5a; out 0x71, al
        0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef,
        0xf4, // mov dx, 0x604; mov ax, 0x2400; out dx, ax; hlt
    ];
    /// Waits for the power button, takes the first press for nothing, and shuts down at the second.
    pub const MISS_THE_BUTTON: &[&[u8]] = &[WAIT, FORGET, WAIT, SHUT_DOWN];
    const FORGET: &[u8] = &[0xb8, 0x00, 0x01, 0xef]; // mov ax, 0x100; out dx, ax
    /// Hibernates.
    pub const HIBERNATE: &[&[u8]] = &[&[0xba, 0x04, 0x06, 0xb8, 0x00, 0x28, 0xef, 0xf4]]; // S4, as S3 above
    /// Tells by 0 or 1 whether QEMU offers it S3, and S4, and shuts down.
    pub const TELL_OF_SLEEP: &[&[u8]] = &[TELL, SHUT_DOWN];
    const TELL: &[u8] = &[
        0x1e, 0x07, // push ds; pop es
        0xba, 0x10, 0x05, 0xb8, 0x19, 0x00,
        0xef, // mov dx, 0x510; mov ax, 0x19; out dx, ax: the directory of QEMU's files
        0x42, 0xb9, 0x04, 0x00, 0xec, 0xe2,
        0xfd, // inc dx; mov cx, 4; again: in al, dx; loop again: past their number
        0xb9, 0x04, 0x00, 0xec, 0xe2, 0xfd, // entry: the same: past its size
        0xec, 0x88, 0xc7, 0xec, 0x88,
        0xc3, // in al, dx; mov bh, al; in al, dx; mov bl, al: its key
        0xec, 0xec, // in al, dx; in al, dx
        0xbf, 0x00, 0x80, 0xb9, 0x38, 0x00, 0xf3,
        0x6c, // mov di, 0x8000; mov cx, 56; rep insb: its name
        0xbe, 0x40, 0x7d, 0xbf, 0x00, 0x80, 0xb9, 0x12,
        0x00, // mov si, 0x7d40; mov di, 0x8000; mov cx, 18
        0xf3, 0xa6, 0x75, 0xdd, // repe cmpsb; jne entry
        0x4a, 0x89, 0xd8, 0xef, 0x42, // dec dx; mov ax, bx; out dx, ax; inc dx
        0xec, 0xec, 0xec, 0xec, 0x88, 0xc4, 0xec, 0x88,
        0xc3, // S0 to S2; S3 to ah, S4 to bl: bit 7 says that it is there
        0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
        0x88, 0xe0, 0xc0, 0xe8, 0x07, 0x04, 0x30,
        0xee, // mov al, ah; shr al, 7; add al, '0'; out dx, al
        0x88, 0xd8, 0xc0, 0xe8, 0x07, 0x04, 0x30, 0xee, // mov al, bl; the same
        0xb0, 0x0a, 0xee, // mov al, 10; out dx, al
    ];
    /// Shuts down.
    pub const SHUT_DOWN: &[u8] = &[
        0xba, 0x04, 0x06, // mov dx, 0x604: ACPI's power control
        0xb8, 0x00, 0x20, // mov ax, 0x2000: soft off
        0xef, 0xf4, // out dx, ax; hlt
    ];
    const WRITE: &[u8] = &[
        0xbe, 0x20, 0x7d, // mov si, 0x7d20: the packet
        0xb8, 0x00, 0x43, // mov ax, 0x4300: extended write
        0xcd, 0x13, // int 0x13
    ];
    const READ_UNTIL_WRITTEN: &[u8] = &[
        0xbe, 0x30, 0x7d, // again: mov si, 0x7d30: the packet
        0xb8, 0x00, 0x42, // mov ax, 0x4200: extended read
        0xcd, 0x13, // int 0x13
        0x80, 0x3e, 0x00, 0x7e, 0x00, // cmp byte [0x7e00], 0
        0x74, 0xf1, // jz again
    ];
    const WAIT: &[u8] = &[
        0xfa, // cli
        0xba, 0x00, 0x06, // mov dx, 0x600
        0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa, // again: in ax, dx; test ah, 1; jz again
    ];
}

/// A disk of one sector, which the BIOS loads at 0x7c00 and runs.
pub fn boot_sector(then: &[&[u8]]) -> Vec<u8> {
    let say = [
        0x31, 0xc0, 0x8e, 0xd8, 0x52, // xor ax, ax; mov ds, ax; push dx: the drive's number
        0xba, 0x02, 0x06, 0xb8, 0x00, 0x01,
        0xef, // mov dx, 0x602; mov ax, 0x100; out dx, ax: the button is felt from now on
        0xbe, 0x00, 0x7d, // mov si, 0x7d00: the message
        0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
        0xac, 0x84, 0xc0, 0x74, 0x03, // again: lodsb; test al, al; jz done
        0xee, 0xeb, 0xf8, // out dx, al; jmp again
        0x5a, // done: pop dx
    ];
    let mut code = say.to_vec();
    code.extend(then.concat());
    let mut sector = vec![0; 512];
    sector[..code.len()].copy_from_slice(&code);
    sector[0x100..][..UP.len()].copy_from_slice(UP.as_bytes());
    // The packet: 16 bytes, 1 sector, from 0000:7c00, to sector 1.
    sector[0x120..][..16].copy_from_slice(&[16, 0, 1, 0, 0x00, 0x7c, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // The same to 0000:7e00, for reading.
    sector[0x130..][..16].copy_from_slice(&[16, 0, 1, 0, 0x00, 0x7e, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    sector[0x140..][..18].copy_from_slice(b"etc/system-states\0");
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
