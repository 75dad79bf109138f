# The first sector of a CD-ROM, in the place of Windows' setup, on the machine of build-guest-windows: it reports as build.ps1 does,
# in lines of JSON on the first serial port, and powers off.
#
#   {"step":"media"}
#   {"programs":{"devices":"00.0 8086:1237 ...","medium":"LABTOOLS 000000be","disk":"0a000000","empty":" "}}
#   {"memory":{...}}
#   {"finished":true}
#
# "medium" is the other drive: its label, and its length in sectors of 2 KiB. "disk" is the length of the disk in sectors of 512
# bytes; its first sector then begins with the first line. With BROKEN, a step fails after the first; with VANISHED,
# the machine powers off there.
    .code16
    .set ORIGIN, 0x7c00             # the BIOS puts it there
    .set SECTOR, 0x8000             # what is read from the other drive
    .set PACKET, 0x7b00             # for the BIOS's extended read and write
    .set LOG, 0x9000                # all that was printed
    .set LABEL, 40                  # in the volume descriptor, sector 16 (ECMA-119)
    .set LENGTH, 80
start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $ORIGIN, %sp
    movw $LOG, %di
    movw $(ORIGIN + step - start), %si
    call print
    .ifdef BROKEN
    movw $(ORIGIN + error - start), %si
    call print
    jmp off
    .endif
    .ifdef VANISHED
    jmp off
    .endif

    movw $(ORIGIN + devices - start), %si
    call print
    movl $0x80000000, %ebx          # bus 0, slot 0, function 0
device:
    movw $0xcf8, %dx
    movl %ebx, %eax
    outl %eax, %dx
    movw $0xcfc, %dx
    inl %dx, %eax
    cmpw $0xffff, %ax
    je next
    pushl %eax
    movw %bx, %ax
    shrw $11, %ax
    movb $2, %cl
    call hex
    movb $'.', %al
    call put
    movw %bx, %ax
    shrw $8, %ax
    andw $7, %ax
    movb $1, %cl
    call hex
    movb $' ', %al
    call put
    popw %ax                        # the vendor
    movb $4, %cl
    call hex
    movb $':', %al
    call put
    popw %ax                        # the device
    movb $4, %cl
    call hex
    movb $' ', %al
    call put
next:
    addl $0x100, %ebx
    testl $0x10000, %ebx
    jz device

    movw $(ORIGIN + medium - start), %si
    call print
    movb $0xe0, %dl                 # the BIOS numbers CD-ROMs from here on
drive:
    movl $16, %eax
    movw $SECTOR, %bx
    movb $0x42, %ah
    call transfer
    cmpl $0x5442414c, SECTOR + LABEL # "LABT"
    je found
    incb %dl
    cmpb $0xe4, %dl
    jne drive
found:
    movw $(SECTOR + LABEL), %si
    movb $0, SECTOR + LABEL + 8
    call print
    movb $' ', %al
    call put
    movw SECTOR + LENGTH + 2, %ax
    movb $4, %cl
    call hex
    movw SECTOR + LENGTH, %ax
    movb $4, %cl
    call hex

    movw $(ORIGIN + disk - start), %si
    call print
    movb $0x80, %dl
    movb $0x48, %ah                 # the parameters of the drive
    movw $PACKET, %si
    movw $30, (%si)
    int $0x13
    movw PACKET + 18, %ax           # its sectors
    movb $4, %cl
    call hex
    movw PACKET + 16, %ax
    movb $4, %cl
    call hex
    movw $(ORIGIN + last - start), %si
    call print
    movb $0x80, %dl
    xorl %eax, %eax
    movw $LOG, %bx
    movb $0x43, %ah
    call transfer
    movw $(ORIGIN + finished - start), %si
    call print
off:
    movw $0x604, %dx                # ACPI of a PIIX4
    movw $0x2000, %ax               # soft off
    outw %ax, %dx
    hlt

transfer:                           # ah: 42h reads, 43h writes; a sector at the low byte of eax, drive dl, memory bx
    pushw %ax
    movzbl %al, %eax
    movw $PACKET, %si
    movw $16, (%si)
    movw $1, 2(%si)
    movw %bx, 4(%si)
    movw $0, 6(%si)
    movl %eax, 8(%si)
    movl $0, 12(%si)
    popw %ax
    movb $0, %al
    int $0x13
    ret
    .include "serial.S"

step: .asciz "{\"step\":\"media\"}\n"
    .ifdef BROKEN
error: .asciz "{\"step\":\"msi \\\"a&b\\\"\",\"error\":\"msiexec.exe ended with 1603\"}\n"
    .endif
devices: .asciz "{\"programs\":{\"devices\":\""
medium: .asciz "\",\"medium\":\""
disk: .asciz "\",\"disk\":\""
last: .asciz "\",\"empty\":\" \"}}\n"
finished: .asciz "{\"memory\":{\"before_bytes\":2700000000,\"after_bytes\":1600000000}}\n{\"finished\":true}\n"
    .org 2048
