# A disk of one sector: a guest that prints the PCI devices that it has, and waits for its power button.
#
#   GUEST 02.0 1234:1111      for each
#   GUEST waiting
#
    .code16
    .set ORIGIN, 0x7c00             # the BIOS puts it there
start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw $0x602, %dx                # ACPI of a PIIX4: the button is felt from now on
    movw $0x100, %ax
    outw %ax, %dx

    movl $0x80000000, %edi          # bus 0, slot 0, function 0
device:
    movw $0xcf8, %dx
    movl %edi, %eax
    outl %eax, %dx
    movw $0xcfc, %dx
    inl %dx, %eax
    cmpw $0xffff, %ax
    je next
    movl %eax, %ebx
    movw $(ORIGIN + prefix - start), %si
    call print
    movl %edi, %eax
    shrw $11, %ax
    movb $2, %cl
    call hex
    movb $'.', %al
    call put
    movl %edi, %eax
    shrw $8, %ax
    andw $7, %ax
    movb $1, %cl
    call hex
    movb $' ', %al
    call put
    movw %bx, %ax
    movb $4, %cl
    call hex
    movb $':', %al
    call put
    shrl $16, %ebx
    movw %bx, %ax
    movb $4, %cl
    call hex
    movb $'\n', %al
    call put
next:
    addl $0x100, %edi
    testl $0x10000, %edi
    jz device

    movw $(ORIGIN + waiting - start), %si
    call print
    movw $0x600, %dx
button:
    inw %dx, %ax
    testb $1, %ah
    jz button
    movw $0x604, %dx
    movw $0x2000, %ax               # soft off
    outw %ax, %dx
    hlt

    .include "serial.S"

prefix: .asciz "GUEST "
waiting: .asciz "GUEST waiting\n"
    .org 510
    .word 0xaa55
