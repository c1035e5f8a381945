# From a start-up message to ap_main: an application processor begins at the page that the message names, with a jump to here.

.set CODE32, 0x08
.set DATA, 0x10
.set CODE64, 0x18

.set PE, 1 << 0
.set MP, 1 << 1
.set ET, 1 << 4
.set NE, 1 << 5
.set WP, 1 << 16
.set PG, 1 << 31
.set PAE_OSFXSR_OSXMMEXCPT, 0x620
.set EFER, 0xc0000080
.set LME_NXE, 0x900

# Offsets in smp::Registers, which is at this offset in the page of the start-up message.
.set RECORD, 0x800
.set STACK_END, 0x800

.section .low.smp, "awx"
.code16
# Copied to a page of its own, where it notes the registers: nothing here depends on the address.
.global probe_begin
probe_begin:
    mov dword ptr cs:[RECORD + 0], eax
    mov dword ptr cs:[RECORD + 4], ebx
    mov dword ptr cs:[RECORD + 8], ecx
    mov dword ptr cs:[RECORD + 12], edx
    mov dword ptr cs:[RECORD + 16], esi
    mov dword ptr cs:[RECORD + 20], edi
    mov dword ptr cs:[RECORD + 24], ebp
    mov dword ptr cs:[RECORD + 28], esp
    mov word ptr cs:[RECORD + 32], cs
    mov word ptr cs:[RECORD + 34], ds
    mov word ptr cs:[RECORD + 36], es
    mov word ptr cs:[RECORD + 38], fs
    mov word ptr cs:[RECORD + 40], gs
    mov word ptr cs:[RECORD + 42], ss
    mov ax, cs
    mov ss, ax
    mov sp, STACK_END
    pushfd
    pop eax
    mov dword ptr cs:[RECORD + 44], eax
    mov eax, cr0
    mov dword ptr cs:[RECORD + 48], eax
    mov eax, cr2
    mov dword ptr cs:[RECORD + 52], eax
    mov eax, cr3
    mov dword ptr cs:[RECORD + 56], eax
    mov eax, cr4
    mov dword ptr cs:[RECORD + 60], eax
    mov eax, dr6
    mov dword ptr cs:[RECORD + 64], eax
    mov eax, dr7
    mov dword ptr cs:[RECORD + 68], eax
    sidt cs:[RECORD + 72]
    sgdt cs:[RECORD + 80]
    mov ecx, EFER
    rdmsr
    mov dword ptr cs:[RECORD + 88], eax
    .byte 0xea
    .short ap_real_mode, 0
.global probe_end
probe_end:

.global ap_real_mode
ap_real_mode:
    cli
    cld
    xor ax, ax
    mov ds, ax
    lgdt [{gdt_pointer}]
    mov eax, PE | ET
    mov cr0, eax
    .byte 0xea
    .short ap_protected_mode, CODE32

.code32
ap_protected_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, PAE_OSFXSR_OSXMMEXCPT
    mov cr4, eax
    mov eax, offset {page_tables}
    mov cr3, eax
    mov ecx, EFER
    xor edx, edx
    mov eax, LME_NXE
    wrmsr
    mov eax, PE | MP | ET | NE | WP | PG
    mov cr0, eax
    .byte 0xea
    .long ap_long_mode
    .short CODE64

.code64
ap_long_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    # Stacks stand in the order of the initial APIC IDs, from 1 on.
    mov eax, 1
    cpuid
    shr ebx, 24
    mov edi, ebx
    imul rsp, rdi, {STACK_SIZE}
    add rsp, offset {stacks}
    call {ap_main}
    ud2
