# What a guest of 16 bits prints on the first serial port; with LOG also to the memory at es:di.
print:                              # the text at si, up to its zero
    lodsb
    testb %al, %al
    jz done
    call put
    jmp print
hex:                                # the last cl digits of ax
    movw %ax, %bp
digit:
    decb %cl
    js done
    movb %cl, %ch
    shlb $2, %cl
    movw %bp, %ax
    shrw %cl, %ax
    movb %ch, %cl
    andb $15, %al
    addb $'0', %al
    cmpb $'9', %al
    jbe 1f
    addb $('a' - '0' - 10), %al
1:  call put
    jmp digit
put:                                # al
    pushw %dx
    movw $0x3f8, %dx
    outb %al, %dx
    popw %dx
    .ifdef LOG
    stosb
    .endif
done:
    ret
