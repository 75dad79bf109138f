//! Firmware that does what the start of a 64-bit kernel needs, then ends QEMU with a proof.
//!
//! A nested KVM may run real mode and fail later: one seen here stops with an internal error at the
//! first exception in 64-bit mode, another translates all of a kernel, slower than QEMU would. So
//! the firmware passes through protected mode to 64-bit mode and there takes an exception, uses
//! model-specific registers, page tables and SSE, enters user mode and comes back by a system call,
//! and counts down.

#![expect(unsafe_code, reason = "the assembler's labels")]

use std::arch::global_asm;

/// The size of the smallest firmware that QEMU accepts. It ends at 4 GiB.
const SIZE: usize = 64 << 10;

/// The size of the code at its beginning, padded.
const CODE_SIZE: usize = 512;

/// The number that the firmware writes to QEMU's isa-debug-exit device at port 0xf4 at its end.
const PROOF: u8 = 0x2a;

/// The exit status that QEMU makes of it.
pub const PROOF_STATUS: i32 = (PROOF as i32) << 1 | 1;

// The code copies itself to LOW, where page tables of 2 MiB pages map it: the first two MiB, for the
// kernel and the user.
global_asm!(
    r#"
    .pushsection .rodata.labtools_firmware, "a", @progbits
    .set HIGH, 0xffff0000   # where the firmware begins
    .set LOW, 0x8000        # the copy; the stack ends there
    .set TABLES, 0x10000    # three page tables, one page each
    .set IDT, 0x13000
    .set CODE32, 0x08
    .set DATA, 0x10
    .set CODE64, 0x18
    .set USER, 0x20         # SYSRET wants user data 8 and user code 16 bytes after it

    .globl labtools_firmware
    .code16
labtools_firmware:
.Lfirmware:
    lgdtl %cs:(10f - .Lfirmware)
    movl $0x11, %eax                            # PE ET
    movl %eax, %cr0
    ljmpl $CODE32, $(HIGH + 1f - .Lfirmware)

    .code32
1:  movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $LOW, %esp
    movl $HIGH, %esi
    movl $LOW, %edi
    movl $(20f - .Lfirmware), %ecx
    cld
    rep movsb
    lgdtl LOW + 11f - .Lfirmware
    ljmpl $CODE32, $(LOW + 2f - .Lfirmware)

2:  movl $TABLES, %edi
    xorl %eax, %eax
    movl $(3 * 4096 / 4), %ecx
    rep stosl
    movl $(TABLES + 0x1007), TABLES             # present, writable, user
    movl $(TABLES + 0x2007), TABLES + 0x1000
    movl $0x87, TABLES + 0x2000                 # and large
    movl %cr4, %eax
    orl $0x620, %eax                            # PAE OSFXSR OSXMMEXCPT
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx                      # EFER
    rdmsr
    orl $0x101, %eax                            # LME SCE
    wrmsr
    movl $0x80010013, %eax                      # PG WP ET MP PE
    movl %eax, %cr0
    ljmpl $CODE64, $(LOW + 3f - .Lfirmware)

    .code64
3:  xorl %eax, %eax
    cpuid
    leaq 6f(%rip), %rax                         # an exception: the gate of vector 3
    movl $IDT, %edi
    movw %ax, 48(%rdi)
    movw $CODE64, 50(%rdi)
    movl $0x8e00, 52(%rdi)
    movq $0, 56(%rdi)
    lidt 12f(%rip)
    xorl %ebp, %ebp
    int3
    cmpl $1, %ebp
    jne 9f
    movl $0xc0000101, %ecx                      # GS base, which points to a processor's own data
    movl $IDT, %eax
    xorl %edx, %edx
    wrmsr
    movzwl %gs:50, %eax
    cmpl $CODE64, %eax
    jne 9f
    swapgs
    swapgs
    movq %cr3, %rax                             # flushes of the translations
    movq %rax, %cr3
    invlpg 0
    fninit
    movaps %xmm0, %xmm1
    movl $0xc0000081, %ecx                      # STAR
    xorl %eax, %eax
    movl $(USER << 16 | CODE64), %edx
    wrmsr
    movl $0xc0000082, %ecx                      # LSTAR
    leaq 5f(%rip), %rax
    xorl %edx, %edx
    wrmsr
    leaq 4f(%rip), %rcx
    movl $2, %r11d
    sysretq
4:  movl $0x600d, %ebp                          # user mode
    syscall
5:  cmpl $0x600d, %ebp                          # the kernel again
    jne 9f
    movl $50000000, %ecx
7:  decl %ecx
    jnz 7b
    movb ${proof}, %al
    outb %al, $0xf4
9:  hlt
    jmp 9b
6:  incl %ebp                                   # the exception's handler
    iretq

    .balign 8
8:  .quad 0
    .quad 0x00cf9b000000ffff                    # CODE32
    .quad 0x00cf93000000ffff                    # DATA
    .quad 0x00af9b000000ffff                    # CODE64
    .quad 0                                     # USER
    .quad 0x00cff3000000ffff
    .quad 0x00affb000000ffff
10: .word 10b - 8b - 1
    .long HIGH + 8b - .Lfirmware
11: .word 10b - 8b - 1
    .long LOW + 8b - .Lfirmware
12: .word 0x3ff
    .quad IDT
20:
    .org .Lfirmware + {size}
    .popsection
    "#,
    proof = const PROOF,
    size = const CODE_SIZE,
    options(att_syntax)
);

unsafe extern "C" {
    static labtools_firmware: [u8; CODE_SIZE];
}

/// The firmware, for QEMU's option -bios. It needs `-device isa-debug-exit,iobase=0xf4,iosize=1`.
pub fn image() -> Vec<u8> {
    let mut image = vec![0; SIZE];
    // SAFETY: the assembler puts CODE_SIZE bytes at this label, which nothing writes.
    image[..CODE_SIZE].copy_from_slice(unsafe { &labtools_firmware });
    // The processor's first instruction: a jump to the beginning, for the 16-bit pointer wraps.
    image[SIZE - 16..][..3].copy_from_slice(&[0xe9, 0x0d, 0x00]);
    image
}
