# A disk of one sector: a guest that writes this sector into the next one, and switches off.
#
    .code16
    .set ORIGIN, 0x7c00             # the BIOS puts it there, and the number of its disk into dl
start:
    xorw %ax, %ax
    movw %ax, %ds
    movw $(ORIGIN + sector - start), %si
    movb $0x43, %ah                 # extended write
    int $0x13
    movw $0x604, %dx                # ACPI of a PIIX4
    movw $0x2000, %ax               # soft off
    outw %ax, %dx
    hlt

    .balign 4
sector:
    .byte 16, 0
    .word 1                         # one
    .word ORIGIN, 0                 # this
    .quad 1                         # its number
    .org 510
    .word 0xaa55
