# The two multiboot headers and the way from 32-bit protected mode to the Rust code in long mode.

.section .multiboot, "a"

# Multiboot 1 (QEMU's -kernel): flags 0 (modules on page boundaries), 1 (memory map), 16 (addresses follow).
.set MB1_FLAGS, 0x00010003
.align 4
multiboot1_header:
    .long 0x1badb002
    .long MB1_FLAGS
    .long -(0x1badb002 + MB1_FLAGS)
    .long multiboot1_header
    .long image_start
    .long image_data_end
    .long image_end
    .long entry32

# Multiboot 2 (GRUB on BIOS and UEFI). Without EFI tags GRUB leaves the boot services and enters in 32-bit mode.
.align 8
multiboot2_header:
    .long 0xe85250d6
    .long 0
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
.align 8
    .short 1, 0                 # information request: command line, modules, memory map
    .long 20
    .long 1, 3, 6
.align 8
    .short 4, 1                 # console: optional; EGA text is understood
    .long 12
    .long 2
.align 8
    .short 5, 1                 # framebuffer: optional
    .long 20
    .long 1024, 768, 32
.align 8
    .short 6, 0                 # modules on page boundaries
    .long 8
.align 8
    .short 0, 0
    .long 8
multiboot2_header_end:

.section .text.entry, "ax"
.code32
.global entry32
entry32:
    cli
    cld
    mov esi, eax
    mov edi, ebx
    rdtsc
    mov dword ptr [entry_tsc], eax
    mov dword ptr [entry_tsc + 4], edx
    mov esp, offset boot_stack_top

    # Long mode and no-execute pages: CPUID 80000001h, EDX bits 29 and 20.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    and edx, 0x20100000
    cmp edx, 0x20100000
    jne no_long_mode

    # The first 4 GiB, identity-mapped by 2 MiB pages, until the Rust code builds its own tables.
    mov dword ptr [boot_pml4], offset boot_pdpt + 3
    mov eax, offset boot_pd + 3
    mov ecx, 0
2:  mov dword ptr [boot_pdpt + ecx * 8], eax
    add eax, 0x1000
    inc ecx
    cmp ecx, 4
    jb 2b
    mov eax, 0x83
    mov ecx, 0
3:  mov dword ptr [boot_pd + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jb 3b

    mov eax, cr4
    or eax, 0x20                # PAE
    and eax, 0xffffefff         # not LA57
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080         # EFER: LME, NXE
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, cr0
    or eax, 0x80010001          # PG, WP, PE
    and eax, 0x9fffffff         # caches on
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    push 8
    mov eax, offset entry64
    push eax
    retf

no_long_mode:
    # Nothing is set up: the text goes to COM1 and to the VGA text screen.
    mov esi, offset no_long_mode_text
    mov edi, 0xb8000
4:  lodsb
    test al, al
    jz 6f
    mov ah, 0x4f
    mov word ptr [edi], ax
    add edi, 2
    mov bl, al
    mov ecx, 100000
5:  mov dx, 0x3fd
    in al, dx
    test al, 0x20
    loopz 5b
    mov al, bl
    mov dx, 0x3f8
    out dx, al
    jmp 4b
6:  hlt
    jmp 6b

.code64
entry64:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov rsp, offset boot_stack_top
    xor ebp, ebp
    mov eax, esi
    mov esi, edi
    mov edi, eax
    call rust_entry
    ud2

.section .rodata.entry, "a"
no_long_mode_text:
    .asciz "Bulkhead: this CPU has no 64-bit mode with no-execute pages; use a 64-bit CPU with AMD-V (SVM)\r\n"
.align 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
boot_gdt_pointer:
    .short 15
    .long boot_gdt

.section .data.entry, "aw"
.align 8
.global entry_tsc
entry_tsc:
    .quad 0

.section .bss.entry, "aw", @nobits
.align 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd: .skip 4 * 4096

# The boot CPU's stacks, each above a guard page that the final page tables leave out.
.global boot_stack_guard, boot_stack_top, nmi_stack_guard, nmi_stack_top
.global double_fault_stack_guard, double_fault_stack_top, machine_check_stack_guard, machine_check_stack_top
boot_stack_guard: .skip 4096 + 128 * 1024
boot_stack_top:
nmi_stack_guard: .skip 4096 + 32 * 1024
nmi_stack_top:
double_fault_stack_guard: .skip 4096 + 32 * 1024
double_fault_stack_top:
machine_check_stack_guard: .skip 4096 + 32 * 1024
machine_check_stack_top:
