# unified-kernel.bash: the file that UEFI starts, sourced by what makes a host's image or its stick.
# shellcheck shell=bash

stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub # of systemd-boot-efi

unified_kernel() { # unified_kernel COMMAND_LINE KERNEL INITRD OUTPUT: of these files, one that is the same whenever it is made
    local at
    objcopy --add-section .cmdline="$1" --change-section-vma .cmdline=0x30000 --add-section .linux="$2" --change-section-vma .linux=0x2000000 \
        --add-section .initrd="$3" --change-section-vma .initrd=0x4000000 $stub "$4"
    # objcopy writes the time, and a checksum over it, into the header; nothing reads them.
    for at in 0x88 0xd8; do printf '\0\0\0\0' | dd of="$4" bs=1 seek=$((at)) conv=notrunc status=none; done
}
