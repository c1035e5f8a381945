# Selectors: descriptors.rs.
.set CODE32, 0x08
.set DATA, 0x10
.set CODE64, 0x18

.set PE, 1 << 0
.set MP, 1 << 1
.set NE, 1 << 5
.set WP, 1 << 16
.set PG, 1 << 31
.set PAE_OSFXSR_OSXMMEXCPT, 0x620
.set EFER, 0xc0000080
.set LME_NXE, 0x900
.set PRESENT_WRITE_USER, 7
.set LARGE, 0x80

.set BLOCK_BYTES, 2048

.section .boot, "awx"
.code16
.global boot_start
boot_start:
    cli
    cld
    .byte 0xea                  # JMP FAR: CS is 0 or 7C0h
    .short real_mode, 0

# Filled in when the ISO is made (mkisofs, -boot-info-table).
.org boot_start + 12
image_block:
    .long 0
image_bytes:
    .long 0
.org boot_start + 64

# INT 13h, AH = 42h: what to read next.
packet:
    .byte 16, 0
    .short 1                    # blocks
    .short 0x7c00               # offset
packet_segment:
    .short BLOCK_BYTES / 16
packet_block:
    .quad 0

real_mode:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    sti
    # The BIOS has loaded the first block; some load no more than 32 KiB. The rest, block by block:
    mov eax, dword ptr [image_block]
    inc eax
    mov dword ptr [packet_block], eax
    mov ecx, dword ptr [image_bytes]
    dec ecx
    shr ecx, 11
read_block:
    push ecx
    push dx
    mov si, offset packet
    mov ah, 0x42
    int 0x13
    jc stop
    pop dx
    pop ecx
    inc dword ptr [packet_block]
    add word ptr [packet_segment], BLOCK_BYTES / 16
    loop read_block
    cli
    in al, 0x92                 # A20 on; bit 0 would reset
    or al, 2
    and al, 0xfe
    out 0x92, al
    lgdt [{gdt_pointer}]
    mov eax, cr0
    or al, PE
    mov cr0, eax
    .byte 0xea
    .short protected_mode, CODE32

stop:
    cli
    hlt
    jmp stop

.code32
protected_mode:
    mov ax, DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x7c00
    mov edi, offset bss_start
    mov ecx, offset bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd
    # One table of the top level, one of the next, four of large pages, which follow each other.
    mov edi, offset {page_tables}
    lea eax, [edi + 0x1000 + PRESENT_WRITE_USER]
    mov [edi], eax
    xor ecx, ecx
1:  add eax, 0x1000
    mov [edi + ecx * 8 + 0x1000], eax
    inc ecx
    cmp ecx, 4
    jb 1b
    mov eax, PRESENT_WRITE_USER | LARGE
    xor ecx, ecx
2:  mov [edi + ecx * 8 + 0x2000], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 4 * 512
    jb 2b
    mov eax, PAE_OSFXSR_OSXMMEXCPT
    mov cr4, eax
    mov cr3, edi
    mov ecx, EFER
    xor edx, edx
    mov eax, LME_NXE
    wrmsr
    mov eax, cr0
    and eax, 0x10
    or eax, PE | MP | NE | WP | PG
    mov cr0, eax
    .byte 0xea
    .long long_mode
    .short CODE64

.code64
long_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov rsp, offset {stack} + {STACK_SIZE}
    call topic_main
