; A guest that attacks the machine it runs on, booted by the BIOS from an El Torito image without emulation.
;
; It writes "HOSTILE ready" to COM1 and reads a word of eight hexadecimal digits, least significant first. BOOT_NEXT starts the
; BIOS's next boot device. Any other word is a seed, and the same seed attacks in the same way:
;     bits 3:0    what is attacked: the table ".attacks" of attacks.asm; 15 is everything in turn
;     bits 5:4    mode: 0 protected mode without paging, 1 two-level paging, 2 PAE, 3 long mode
;     bit 6       half of the page tables' entries are garbage
; Faults and endless loops of its own end a step only. After the last step it writes "HOSTILE survived" if it can, and resets the
; machine in one of many ways.

BITS 16
ORG 0x7c00

IMAGE_BYTES     equ 16384           ; El Torito loads it all
COM1            equ 0x3f8
LOCAL_APIC      equ 0xfee00000
IO_APIC         equ 0xfec00000
HPET            equ 0xfed00000
BOOT_NEXT       equ 0xffffffff
STEPS           equ 2000
STACK_TOP       equ 0x7000
IDT             equ 0x10000         ; gates of 8 bytes, of 16 in long mode
BROKEN_IDT      equ 0x11000
CODE            equ 0x12000         ; instructions made up
CODE_BYTES      equ 48
GDT             equ 0x13000
GDT_BYTES       equ 512
GARBAGE_GDT     equ 64              ; offset of the first made-up descriptor
GARBAGE         equ 0x14000         ; random bytes, task states among them
GARBAGE_BYTES   equ 0x3000
PRD_TABLE       equ 0x40000
FW_CFG_COMMAND  equ 0x50000
PML4            equ 0x60000
PDPT            equ 0x61000
DIRECTORIES     equ 0x62000         ; four: pages of 2 MiB
DIRECTORY_32    equ 0x66000         ; pages of 4 MiB
TABLES          equ 0x68000         ; garbage to walk through
TABLE_PAGES     equ 24
MILLISECOND     equ 1193            ; of the 8254's clock
PATIENCE_TICKS  equ 40              ; interrupts after which a step is given up

CODE_32         equ 8
DATA            equ 16
CODE_64         equ 24
TASK            equ 32

    jmp 0:enter
enter:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, STACK_TOP
    in al, 0x92                     ; A20 on; bit 0 would reset
    or al, 2
    and al, 0xfe
    out 0x92, al
    lgdt [boot_gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp CODE_32:protected

BITS 16
; Back in real mode, for the BIOS.
boot_next:
    mov ax, DATA_16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp 0:.real
.real:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    lidt [bios_idt_pointer]
    mov al, 0x11                    ; the 8259 pair and the 8254 as the BIOS had them
    out 0x20, al
    out 0xa0, al
    mov al, 0x08
    out 0x21, al
    mov al, 0x70
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov ax, [bios_masks]
    out 0x21, al
    mov al, ah
    out 0xa1, al
    mov al, 0x34
    out 0x43, al
    xor al, al
    out 0x40, al
    out 0x40, al
    sti
    int 0x18

BITS 32
protected:
    mov ax, DATA
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov esp, STACK_TOP
    in al, 0x21
    mov [bios_masks], al
    in al, 0xa1
    mov [bios_masks + 1], al
    mov edi, attacks_32.fault
    mov ebp, attacks_32.interrupt
    call make_idt_32
    lidt [attacks_32.idt_pointer]
    call attacks_32.start_timer
    call attacks_32.open_serial
    mov esi, ready
    call attacks_32.print
    sti                             ; Bochs 3.0 keeps the host's interrupts from a hypervisor whose guest's are off
    call read_word
    cli
    cmp eax, BOOT_NEXT
    jne attack
    jmp CODE_16:boot_next

attack:
    mov [seed], eax
    mov ecx, eax
    and eax, 15
    mov [attacked], eax
    imul ecx, ecx, 0x9e3779b1       ; neighbouring seeds begin far apart; never 0 for seeds below 2^31
    xor ecx, 0x2545f491
    mov [random_state], ecx
    mov dword [steps], STEPS

    mov edi, GARBAGE
    mov ecx, GARBAGE_BYTES / 4
.garbage:
    call attacks_32.random
    stosd
    loop .garbage
    call make_gdt
    lgdt [attacks_32.gdt_pointer]
    mov ax, TASK
    ltr ax
    call make_page_tables

    mov eax, cr4
    or eax, CR4_PSE | CR4_OSFXSR | CR4_OSXMMEXCPT
    mov cr4, eax
    mov eax, 1                      ; XSAVE, if it is there
    cpuid
    test ecx, 1 << 26
    jz .modes
    mov eax, cr4
    or eax, CR4_OSXSAVE
    mov cr4, eax
.modes:
    mov eax, cr4
    mov [kept_cr4], eax
    mov eax, [seed]
    shr eax, 4
    and eax, 3
    jz flat
    dec eax
    jz two_level
    mov ecx, [kept_cr4]
    or ecx, CR4_PAE
    mov [kept_cr4], ecx
    mov cr4, ecx
    dec eax
    mov ecx, PDPT
    jz paged
    mov ecx, EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov edi, attacks_64.fault
    mov ebp, attacks_64.interrupt
    call make_idt_64
    mov ecx, PML4
    call turn_paging_on
    jmp CODE_64:attacks_64.step
two_level:
    mov ecx, DIRECTORY_32
paged:
    call turn_paging_on
    jmp attacks_32.step
flat:
    mov eax, cr0
    mov [kept_cr0], eax
    jmp attacks_32.step

CR4_PSE         equ 1 << 4
CR4_PAE         equ 1 << 5
CR4_OSFXSR      equ 1 << 9
CR4_OSXMMEXCPT  equ 1 << 10
CR4_OSXSAVE     equ 1 << 18
EFER            equ 0xc0000080
EFER_LME        equ 1 << 8

; ecx: CR3.
turn_paging_on:
    mov [kept_cr3], ecx
    mov cr3, ecx
    mov eax, cr0
    or eax, 1 << 31
    mov [kept_cr0], eax
    mov cr0, eax
    ret

; The descriptors that are needed, and made-up ones behind them: mostly task states and gates, in garbage.
make_gdt:
    mov esi, gdt
    mov edi, GDT
    mov ecx, GARBAGE_GDT / 4
    rep movsd
.garbage:
    call attacks_32.random          ; limit, base 15:0
    stosd
    and word [edi - 2], 0x3fff
    or word [edi - 2], 0x4000
    call attacks_32.random          ; base 23:16, attributes
    and eax, 0x000f7f00
    or eax, 0x00018000
    stosd
    cmp edi, GDT + GDT_BYTES
    jb .garbage
    ret

; edi: handler of exceptions; ebp: of interrupts.
make_idt_32:
    mov ebx, IDT
    xor ecx, ecx
.gate:
    mov eax, edi
    cmp ecx, 32
    jb .exception
    mov eax, ebp
.exception:
    mov [ebx], ax
    mov word [ebx + 2], CODE_32
    mov ax, 0x8e00
    mov [ebx + 4], eax
    add ebx, 8
    inc ecx
    cmp ecx, 256
    jb .gate
    ret

make_idt_64:
    mov ebx, IDT
    xor ecx, ecx
.gate:
    mov eax, edi
    cmp ecx, 32
    jb .exception
    mov eax, ebp
.exception:
    mov [ebx], ax
    mov word [ebx + 2], CODE_64
    mov ax, 0x8e00
    mov [ebx + 4], eax
    xor eax, eax
    mov [ebx + 8], eax
    mov [ebx + 12], eax
    add ebx, 16
    inc ecx
    cmp ecx, 256
    jb .gate
    ret

; All memory at its own address; if the seed says so, half of it is garbage, but for the guest's own.
make_page_tables:
    mov edi, PML4
    mov ecx, (TABLES - PML4) / 4
    xor eax, eax
    rep stosd
    mov dword [PML4], PDPT | 7
    mov edi, PDPT
    mov eax, DIRECTORIES | 1
.pointer:
    mov [edi], eax
    add edi, 8
    add eax, 0x1000
    cmp eax, DIRECTORY_32
    jb .pointer
    mov edi, DIRECTORIES
    xor ebx, ebx
.entry:
    call .garbled
    jc .next
    lea eax, [ebx + 0xe7]
    mov [edi], eax
.next:
    add edi, 8
    add ebx, 0x200000
    jnz .entry
    mov edi, DIRECTORY_32
.entry_32:
    call .garbled
    jc .next_32
    lea eax, [ebx + 0xe7]
    mov [edi], eax
.next_32:
    add edi, 4
    add ebx, 0x400000
    jnz .entry_32
    mov edi, TABLES
.table:
    call .entry_of_garbage
    add edi, 4
    call attacks_32.random
    test eax, 3
    jnz .low
    call attacks_32.random
    mov [edi], eax
.low:
    add edi, 4
    cmp edi, TABLES + TABLE_PAGES * 0x1000
    jb .table
    ret

; The entry at edi, that maps ebx: carry if it is garbage.
.garbled:
    test ebx, ebx
    jz .proper
    test dword [seed], 1 << 6
    jz .proper
    call attacks_32.random
    test eax, 1
    jz .proper
    call .entry_of_garbage
    stc
    ret
.proper:
    clc
    ret
.entry_of_garbage:
    call attacks_32.random
    test eax, 1
    jz .anywhere
    mov ecx, TABLE_PAGES
    call attacks_32.below
    shl eax, 12
    add eax, TABLES
    jmp .flags
.anywhere:
    call attacks_32.address
    and eax, 0xfffff000
.flags:
    mov [edi], eax
    call attacks_32.random
    and eax, 0xfff
    or eax, 1
    or [edi], eax
    ret

; eax: eight hexadecimal digits from COM1, the last first.
read_word:
    xor ebx, ebx
    mov ecx, 8
.digit:
    mov edx, COM1 + 5
.empty:
    mov dword [ticks], 0
    in al, dx
    test al, 1
    jz .empty
    mov edx, COM1
    in al, dx
    sub al, '0'
    cmp al, 10
    jb .decimal
    sub al, 'a' - '0' - 10
.decimal:
    movzx eax, al
    and eax, 15
    or ebx, eax
    ror ebx, 4
    loop .digit
    mov eax, ebx
    ret

attacks_32:
%include "attacks.asm"
BITS 64
attacks_64:
%include "attacks.asm"

; Address ranges: base, mask of the offset.
device_memory:
    dd 0xfee00000, 0xfff            ; local APIC
    dd 0xfec00000, 0xff             ; I/O APIC
    dd 0xfed00000, 0x3ff            ; HPET
    dd 0xa0000, 0x1ffff             ; VGA
    dd 0xc0000, 0x3ffff             ; ROMs
    dd 0xffe00000, 0x1fffff
    dd 0xfd000000, 0xffffff         ; framebuffer
    dd 0xfebf0000, 0xfff            ; the VGA's registers
    dd 0xe0000000, 0xfffffff        ; nothing
    dd 0x07fffff0, 0x1f             ; the end of memory
    dd 0xfffffff0, 0xf              ; the end of the addresses
device_memory_count equ ($ - device_memory) / 8

port_ranges:
    dd 0x00, 0x1f
    dd 0x20, 1
    dd 0xa0, 1
    dd 0x40, 3
    dd 0x60, 7
    dd 0x70, 3
    dd 0x80, 0xf
    dd 0xb2, 1
    dd 0x4d0, 1
    dd 0x3f8, 7
    dd 0x2f8, 7
    dd 0x3e8, 7
    dd 0x1f0, 7
    dd 0x170, 7
    dd 0x3f0, 7
    dd 0x370, 7
    dd 0x3b0, 0x2f
    dd 0x1ce, 3
    dd 0x402, 0
    dd 0xe9, 0
    dd 0x510, 0xf
    dd 0x5b0, 3
    dd 0x600, 3
    dd 0x608, 0x37
    dd 0x700, 0xf
    dd 0xcfc, 3
    dd 0xc000, 0xff
    dd 0, 0xffff
    dd 0, 0xffff
    dd 0xfff0, 0xf
port_ranges_count equ ($ - port_ranges) / 8

msr_ranges:
    dd 0x10, 0
    dd 0x1b, 0
    dd 0x3a, 0
    dd 0x48, 1
    dd 0x79, 0x1f
    dd 0xc0, 0xf
    dd 0xe0, 0x1f
    dd 0x174, 3
    dd 0x178, 7
    dd 0x186, 0x1f
    dd 0x1a0, 0
    dd 0x1d8, 7
    dd 0x200, 0x7f
    dd 0x277, 0
    dd 0x2ff, 0
    dd 0x300, 0xff
    dd 0x400, 0x1f
    dd 0x480, 0x1f
    dd 0x6e0, 0
    dd 0x800, 0xff
    dd 0xda0, 0
    dd 0x40000000, 0x1ff
    dd 0x4b564d00, 7
    dd 0xc0000080, 7
    dd 0xc0000100, 7
    dd 0xc0010000, 0x3f
    dd 0xc0010100, 0x3f
    dd 0, 0xffffffff
msr_ranges_count equ ($ - msr_ranges) / 8

; Instructions for virtual machines and others that are special, each in eight bytes. Memory operands are at [ebx] or [rbx].
%macro INSTRUCTION 1+
%%begin:
    db %1
    times 8 - ($ - %%begin) db 0x90
%endmacro
special_instructions:
    INSTRUCTION 0x0f, 0x01, 0xd8                ; vmrun
    INSTRUCTION 0x0f, 0x01, 0xd9                ; vmmcall
    INSTRUCTION 0x0f, 0x01, 0xda                ; vmload
    INSTRUCTION 0x0f, 0x01, 0xdb                ; vmsave
    INSTRUCTION 0x0f, 0x01, 0xdc                ; stgi
    INSTRUCTION 0x0f, 0x01, 0xdd                ; clgi
    INSTRUCTION 0x0f, 0x01, 0xde                ; skinit
    INSTRUCTION 0x0f, 0x01, 0xdf                ; invlpga
    INSTRUCTION 0x0f, 0x01, 0xfe                ; invlpgb
    INSTRUCTION 0x0f, 0x01, 0xff                ; tlbsync
    INSTRUCTION 0x0f, 0x01, 0xc1                ; vmcall
    INSTRUCTION 0x0f, 0x01, 0xc2                ; vmlaunch
    INSTRUCTION 0x0f, 0x01, 0xc3                ; vmresume
    INSTRUCTION 0x0f, 0x01, 0xc4                ; vmxoff
    INSTRUCTION 0x0f, 0x01, 0xd4                ; vmfunc
    INSTRUCTION 0xf3, 0x0f, 0xc7, 0x33          ; vmxon
    INSTRUCTION 0x66, 0x0f, 0xc7, 0x33          ; vmclear
    INSTRUCTION 0x0f, 0xc7, 0x33                ; vmptrld
    INSTRUCTION 0x0f, 0xc7, 0x3b                ; vmptrst
    INSTRUCTION 0x0f, 0x78, 0x03                ; vmread
    INSTRUCTION 0x0f, 0x79, 0x03                ; vmwrite
    INSTRUCTION 0x66, 0x0f, 0x38, 0x80, 0x0b    ; invept
    INSTRUCTION 0x66, 0x0f, 0x38, 0x81, 0x0b    ; invvpid
    INSTRUCTION 0x66, 0x0f, 0x38, 0x82, 0x0b    ; invpcid
    INSTRUCTION 0x0f, 0x37                      ; getsec
    INSTRUCTION 0x0f, 0xaa                      ; rsm
    INSTRUCTION 0x0f, 0x01, 0xc8                ; monitor
    INSTRUCTION 0x0f, 0x01, 0xc9                ; mwait
    INSTRUCTION 0x0f, 0x01, 0xca                ; clac
    INSTRUCTION 0x0f, 0x01, 0xcf                ; encls
    INSTRUCTION 0x0f, 0x01, 0xd7                ; enclu
    INSTRUCTION 0x0f, 0x01, 0xd1                ; xsetbv
    INSTRUCTION 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xd1 ; xsetbv of XCR0
    INSTRUCTION 0x0f, 0x01, 0xfd                ; rdpru
    INSTRUCTION 0x0f, 0x01, 0xf9                ; rdtscp
    INSTRUCTION 0x0f, 0x01, 0xfa                ; monitorx
    INSTRUCTION 0x0f, 0x01, 0xfb                ; mwaitx
    INSTRUCTION 0x0f, 0x01, 0xc5                ; pconfig
    INSTRUCTION 0x0f, 0x01, 0xef                ; wrpkru
    INSTRUCTION 0x0f, 0x01, 0x03                ; sgdt
    INSTRUCTION 0x0f, 0x01, 0x0b                ; sidt
    INSTRUCTION 0x0f, 0x01, 0x13                ; lgdt
    INSTRUCTION 0x0f, 0x01, 0x1b                ; lidt
    INSTRUCTION 0x0f, 0x01, 0x33                ; lmsw
    INSTRUCTION 0x0f, 0x01, 0x3b                ; invlpg
    INSTRUCTION 0x0f, 0x00, 0x13                ; lldt
    INSTRUCTION 0x0f, 0x00, 0x1b                ; ltr
    INSTRUCTION 0x0f, 0x08                      ; invd
    INSTRUCTION 0x0f, 0x09                      ; wbinvd
    INSTRUCTION 0x0f, 0x06                      ; clts
    INSTRUCTION 0x0f, 0x33                      ; rdpmc
    INSTRUCTION 0x0f, 0x34                      ; sysenter
    INSTRUCTION 0x0f, 0x35                      ; sysexit
    INSTRUCTION 0x0f, 0x05                      ; syscall
    INSTRUCTION 0x0f, 0x07                      ; sysret
    INSTRUCTION 0x48, 0x0f, 0x07                ; sysret to 64-bit code
    INSTRUCTION 0x0f, 0x01, 0xf8                ; swapgs
    INSTRUCTION 0x0f, 0xa2                      ; cpuid
    INSTRUCTION 0x0f, 0x31                      ; rdtsc
    INSTRUCTION 0xf4                            ; hlt
    INSTRUCTION 0xf1                            ; int1
    INSTRUCTION 0xcc                            ; int3
    INSTRUCTION 0xcf                            ; iret
    INSTRUCTION 0x17, 0xf1                      ; pop ss, int1
    INSTRUCTION 0x0f, 0xc7, 0x1b                ; xrstors
    INSTRUCTION 0x0f, 0xc7, 0x2b                ; xsavec
    INSTRUCTION 0x0f, 0xae, 0x23                ; xsave
    INSTRUCTION 0x0f, 0xae, 0x2b                ; xrstor
special_instructions_count equ ($ - special_instructions) / 8

; Opcodes that programs use on devices, as 0F in the upper byte if it comes first.
device_opcodes:
    dw 0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf
    dw 0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x18, 0x19, 0x20, 0x21, 0x23, 0x28, 0x29, 0x2b
    dw 0x30, 0x31, 0x33, 0x38, 0x39, 0x3a, 0x3b, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0xc6, 0xc7, 0xf6, 0xf7
    dw 0xfe, 0xff, 0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3, 0x6c, 0x6d, 0x6e, 0x6f
    dw 0x0fb6, 0x0fb7, 0x0fbe, 0x0fbf, 0x0fa3, 0x0fab, 0x0fb3, 0x0fbb, 0x0fba, 0x0fb0, 0x0fb1, 0x0fc0, 0x0fc1
    dw 0x0fc7, 0x0f10, 0x0f11, 0x0f28, 0x0f29, 0x0f6e, 0x0f7e, 0x0f6f, 0x0f7f, 0x0fe7, 0x0fd6, 0x0f18
device_opcodes_count equ ($ - device_opcodes) / 2

; Prefixes; the last two are REX in long mode.
prefixes: db 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x48, 0x41

ready:      db "HOSTILE ready", 13, 10, 0
survived:   db "HOSTILE survived", 13, 10, 0

align 8
gdt:
    dq 0
    dq 0x00cf9a000000ffff           ; code: 4 GiB from 0
    dq 0x00cf92000000ffff           ; data: the same
    dq 0x00af9a000000ffff           ; 64-bit code
    dq 0x0000890000000067 | (GARBAGE & 0xffffff) << 16
    dq 0                            ; upper half in long mode
    dq 0x000f9a000000ffff           ; 16-bit code
    dq 0x000f92000000ffff           ; 16-bit data
CODE_16         equ 48
DATA_16         equ 56
boot_gdt_pointer:
    dw 63
    dd gdt
bios_idt_pointer:
    dw 0x3ff
    dd 0

bios_masks:     dw 0
align 4
seed:           dd 0
attacked:       dd 0
random_state:   dd 0
steps:          dd 0
ticks:          dd 0
kept_cr0:       dd 0
kept_cr3:       dd 0
kept_cr4:       dd 0
far_pointer:    dd 0, 0, 0

times IMAGE_BYTES - ($ - $$) db 0
