# A disk of one sector: a guest that writes this sector into the next one, says so on the first serial line, and waits for its power
# button. A second time it finds what it wrote, says so, and switches off.
#
#   GUEST writes
#   GUEST kept
#
    .code16
    .set ORIGIN, 0x7c00             # the BIOS puts it there, and the number of its disk into dl
    .set NEXT, 0x8000
start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movb %dl, ORIGIN + drive - start
    movw $(ORIGIN + there - start), %si
    movb $0x42, %ah                 # extended read
    int $0x13
    movw $(ORIGIN + kept - start), %si
    cmpw $0xaa55, NEXT + 510
    je say
    movb ORIGIN + drive - start, %dl
    movw $(ORIGIN + here - start), %si
    movw $0x4300, %ax               # extended write
    int $0x13
    movw $(ORIGIN + writes - start), %si
say:
    movw $0x3f8, %dx
    lodsb
    testb %al, %al
    jz said
    outb %al, %dx
    jmp say
said:
    cmpw $0xaa55, NEXT + 510
    je off
    cli
    movw $0x602, %dx                # ACPI of a PIIX4: the button is felt from now on
    movw $0x100, %ax
    outw %ax, %dx
    movw $0x600, %dx
button:
    inw %dx, %ax
    testb $1, %ah
    jz button
off:
    movw $0x604, %dx
    movw $0x2000, %ax               # soft off
    outw %ax, %dx
    hlt

drive: .byte 0
writes: .asciz "GUEST writes\n"
kept: .asciz "GUEST kept\n"
    .balign 4
here:
    .byte 16, 0
    .word 1                         # one
    .word ORIGIN, 0                 # this
    .quad 1                         # its number
there:
    .byte 16, 0
    .word 1
    .word NEXT, 0
    .quad 1
    .org 510
    .word 0xaa55
