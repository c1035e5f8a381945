; A guest that attacks the machine it runs on, booted by the BIOS from an El Torito image without emulation.
;
; It writes "HOSTILE ready" to COM1 and reads a word of eight hexadecimal digits, least significant first. BOOT_NEXT starts the
; BIOS's next boot device. Any other word is a seed, and the same seed attacks in the same way:
;     bits 3:0    what is attacked: the table ".attacks" of attacks.asm; 15 is everything in turn
;     bits 5:4    mode: 0 protected mode without paging, 1 two-level paging, 2 PAE, 3 long mode
;     bit 6       half of the page tables' entries are garbage
; Faults and endless loops of its own end a step only. After the last step it writes "HOSTILE survived" if it can, and resets the
; machine in one of many ways.

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

%include "enter.asm"
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

%include "tables.asm"
