# The way of another CPU from its start-up message to the Rust code.

# The first part is copied to a page below 1 MiB, where the CPU begins in real mode. It enters long mode at once, by the
# entry code's page tables, which map that page and the image.
.section .rodata.start_up, "a"
.code16
.global start_up_begin, start_up_end
start_up_begin:
    cli
    cld
    mov eax, 0x20               # CR4: PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080         # EFER: LME, NXE
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, 0x80010011         # CR0: PG, WP, ET, PE; caches on
    mov cr0, eax
    # LGDT with a base of 32 bits, from the code segment; then the jump to 64-bit code.
    .byte 0x2e, 0x66, 0x0f, 0x01, 0x16
    .short start_up_gdt_pointer - start_up_begin
    .byte 0x66, 0xea
    .long start_up64
    .short 8
start_up_gdt_pointer:
    .short 15
    .long boot_gdt
start_up_end:

.section .text.entry, "ax"
.code64
start_up64:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov rax, [start_up_tables]
    mov cr3, rax
    # The CPU that takes the word starts with it; one that comes too late finds nothing.
    xor edi, edi
    xchg rdi, [start_up_cpu]
    test rdi, rdi
    jz 2f
    mov rsp, [rdi + 8]
    xor ebp, ebp
    call rust_start_up
2:  cli
    hlt
    jmp 2b

.section .data.entry, "aw"
.align 8
# The top page table, and the `PerCpu` that waits for its CPU.
.global start_up_tables, start_up_cpu
start_up_tables:
    .quad 0
start_up_cpu:
    .quad 0
