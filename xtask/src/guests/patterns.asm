; A guest that writes a pattern of its own into every register that stays in the CPU without an
; exit, spins with interrupts off for longer than a share of the CPU, and looks whether all are as
; it wrote them: general and vector registers, x87, flags, CR2, CR8, breakpoint addresses and MSRs.
; The patterns come from the size of its RAM, so that guests with different ones have others. It
; says "KEPT" on COM1 every 32 rounds, and "LOST" with the first word that is another, what it
; should be and what it is. It never ends.

SPINS       equ 0x400000
ROUNDS      equ 32

CODE        equ 8               ; selectors
DATA        equ 16
TABLES      equ 0x1000          ; PML4, PDPT, PD
LARGE_PAGE  equ 0x83            ; present, writable
TABLE       equ 3

CMOS_INDEX  equ 0x70
CMOS_DATA   equ 0x71
MEMORY_LOW  equ 0x34            ; above 16 MiB, in units of 64 KiB
MEMORY_HIGH equ 0x35

EFER        equ 0xc0000080
LME         equ 0x100
CR4_BITS    equ 0x620           ; PAE, OSFXSR, OSXMMEXCPT
OSXSAVE     equ 0x40000
CR0_BITS    equ 0x80000033      ; PG, NE, ET, MP, PE

FLAGS       equ 0x8d5           ; OF, SF, ZF, AF, PF, CF
FLAGS_SET   equ 2
CONTROL     equ 0x37f           ; of the x87, exceptions masked
TAGS        equ 0xff            ; no register is empty
MXCSR_MASK  equ 0x603f          ; its rounding and its flags
MXCSR_SET   equ 0x1f80          ; exceptions masked

; The words of the patterns.
GENERAL     equ 0               ; 14: all but RCX, which counts, and RSP
RFLAGS      equ 14
CR_2        equ 15
DR          equ 16              ; 4
CR_8        equ 20
MSRS        equ 21              ; as in the table
FX          equ 32              ; 64: what FXSAVE writes
HIGH_HALVES equ 96              ; 32: of YMM
WORDS       equ 128

%include "enter.asm"
    mov al, MEMORY_LOW
    out CMOS_INDEX, al
    in al, CMOS_DATA
    mov [seed], al
    mov al, MEMORY_HIGH
    out CMOS_INDEX, al
    in al, CMOS_DATA
    mov [seed + 1], al
    xor eax, eax
    mov di, TABLES
    mov cx, 3 * 0x1000 / 4
    rep stosd
    mov dword [TABLES], TABLES + 0x1000 + TABLE
    mov dword [TABLES + 0x1000], TABLES + 0x2000 + TABLE
    mov dword [TABLES + 0x2000], LARGE_PAGE
    mov eax, TABLES
    mov cr3, eax
    mov eax, CR4_BITS
    mov cr4, eax
    mov ecx, EFER
    rdmsr
    or eax, LME
    wrmsr
    lgdt [gdt]
    mov eax, CR0_BITS
    mov cr0, eax
    jmp CODE:long_mode

BITS 64
long_mode:
    mov ax, DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x7c00
    mov eax, 1
    cpuid
    mov eax, ecx
    and eax, 1 << 28 | 1 << 26  ; AVX, XSAVE
    cmp eax, 1 << 28 | 1 << 26
    jne .no_avx
    mov rax, cr4
    or eax, OSXSAVE
    mov cr4, rax
    xor ecx, ecx
    xor edx, edx
    mov eax, 7
    xsetbv
    mov byte [has_avx], 1
.no_avx:
    mov eax, 0x80000001
    cpuid
    shr edx, 27
    and dl, 1                   ; RDTSCP, and so TSC_AUX
    mov [has_tsc_aux], dl

again:
    mov dword [rounds_left], ROUNDS
round:
    call make_patterns
    mov edi, got
    mov ecx, WORDS
    xor eax, eax
    rep stosq
    call load_system
    call load_vectors
    call spin_with_general
    call store_vectors
    call store_system
    mov esi, wanted
    mov edi, got
    mov ecx, WORDS
    repe cmpsq
    jne lost
    dec dword [rounds_left]
    jnz round
    mov esi, kept_text
    call say_text
    jmp again

lost:
    sub esi, 8
    sub edi, 8
    mov rbx, [rsi]
    mov rbp, [rdi]
    mov r12d, esi
    sub r12d, wanted
    mov esi, lost_text
    call say_text
    mov rax, r12
    call say_word
    mov rax, rbx
    call say_word
    mov rax, rbp
    call say_word
    mov esi, line_text
    call say_text
halt:
    hlt
    jmp halt

; The next number of the sequence, in RAX.
next_number:
    mov rax, 6364136223846793005
    imul rax, [seed]
    mov rdx, 1442695040888963407
    add rax, rdx
    mov [seed], rax
    mov rdx, rax
    shr rdx, 29
    xor rax, rdx
    ret

make_patterns:
    mov edi, wanted
    mov ecx, WORDS
.next:
    call next_number
    stosq
    dec ecx
    jnz .next
    and qword [wanted + RFLAGS * 8], FLAGS
    or qword [wanted + RFLAGS * 8], FLAGS_SET
    and qword [wanted + CR_8 * 8], 15
    mov esi, msrs
    mov edi, wanted + MSRS * 8
.mask:
    lodsd
    test eax, eax
    jz .vectors
    lodsq
    and [rdi], rax
    add edi, 8
    jmp .mask
.vectors:
    cmp byte [has_tsc_aux], 0
    jne .after_msrs
    mov qword [wanted + (MSRS + TSC_AUX_PLACE) * 8], 0
.after_msrs:
    ; The image of FXRSTOR: control and tags, no last instruction, and numbers that are normal.
    mov edi, wanted + FX * 8
    mov dword [rdi], CONTROL
    mov dword [rdi + 4], TAGS
    mov qword [rdi + 8], 0
    mov qword [rdi + 16], 0
    and dword [rdi + 24], MXCSR_MASK
    or dword [rdi + 24], MXCSR_SET
    mov dword [rdi + 28], 0
    mov ecx, 8
    lea rsi, [rdi + 32]
.number:
    bts qword [rsi], 63
    and qword [rsi + 8], 0x3fff
    add esi, 16
    dec ecx
    jnz .number
    lea rdi, [rdi + 416]
    mov ecx, (512 - 416) / 8
    xor eax, eax
    rep stosq
    cmp byte [has_avx], 0
    jne .done
    mov edi, wanted + HIGH_HALVES * 8
    mov ecx, 32
    rep stosq
.done:
    ; The rest of the words.
    mov edi, wanted + (MSRS + MSR_COUNT) * 8
    mov ecx, FX - MSRS - MSR_COUNT
    xor eax, eax
    rep stosq
    ret

%macro each_high_half 1
    %assign number 0
    %rep 16
        %1 number
        %assign number number + 1
    %endrep
%endmacro

%macro load_high_half 1
    vinsertf128 ymm%1, ymm%1, [wanted + (HIGH_HALVES + 2 * %1) * 8], 1
%endmacro

%macro store_high_half 1
    vextractf128 [got + (HIGH_HALVES + 2 * %1) * 8], ymm%1, 1
%endmacro

load_vectors:
    fxrstor64 [wanted + FX * 8]
    cmp byte [has_avx], 0
    je .done
    each_high_half load_high_half
.done:
    ret

store_vectors:
    fxsave64 [got + FX * 8]
    mov dword [got + FX * 8 + 28], 0    ; a constant of the processor
    cmp byte [has_avx], 0
    je .done
    each_high_half store_high_half
.done:
    ret

load_system:
    mov rax, [wanted + CR_2 * 8]
    mov cr2, rax
    mov rax, [wanted + CR_8 * 8]
    mov cr8, rax
    mov rax, [wanted + DR * 8]
    mov dr0, rax
    mov rax, [wanted + DR * 8 + 8]
    mov dr1, rax
    mov rax, [wanted + DR * 8 + 16]
    mov dr2, rax
    mov rax, [wanted + DR * 8 + 24]
    mov dr3, rax
    mov esi, msrs
    mov edi, wanted + MSRS * 8
.next:
    lodsd
    test eax, eax
    jz .done
    mov ecx, eax
    add esi, 8
    mov eax, [rdi]
    mov edx, [rdi + 4]
    add edi, 8
    call is_there
    jne .next
    wrmsr
    jmp .next
.done:
    ret

store_system:
    mov rax, cr2
    mov [got + CR_2 * 8], rax
    mov rax, cr8
    mov [got + CR_8 * 8], rax
    mov rax, dr0
    mov [got + DR * 8], rax
    mov rax, dr1
    mov [got + DR * 8 + 8], rax
    mov rax, dr2
    mov [got + DR * 8 + 16], rax
    mov rax, dr3
    mov [got + DR * 8 + 24], rax
    mov esi, msrs
    mov edi, got + MSRS * 8
.next:
    lodsd
    test eax, eax
    jz .done
    mov ecx, eax
    add esi, 8
    add edi, 8
    call is_there
    jne .next
    rdmsr
    mov [rdi - 8], eax
    mov [rdi - 4], edx
    jmp .next
.done:
    ret

; Equal if the processor has MSR ECX.
is_there:
    cmp ecx, TSC_AUX
    jne .yes
    cmp byte [has_tsc_aux], 1
    ret
.yes:
    cmp ecx, ecx
    ret

; Loads the general registers and the flags, spins, and stores them. LOOP changes no flags.
spin_with_general:
    push qword [wanted + RFLAGS * 8]
    mov ecx, SPINS
    mov rax, [wanted]
    mov rbx, [wanted + 8]
    mov rdx, [wanted + 16]
    mov rsi, [wanted + 24]
    mov rdi, [wanted + 32]
    mov rbp, [wanted + 40]
    mov r8, [wanted + 48]
    mov r9, [wanted + 56]
    mov r10, [wanted + 64]
    mov r11, [wanted + 72]
    mov r12, [wanted + 80]
    mov r13, [wanted + 88]
    mov r14, [wanted + 96]
    mov r15, [wanted + 104]
    popfq
.spin:
    loop .spin
    out 0x80, al                ; an exit, too
    mov [got], rax
    mov [got + 8], rbx
    mov [got + 16], rdx
    mov [got + 24], rsi
    mov [got + 32], rdi
    mov [got + 40], rbp
    mov [got + 48], r8
    mov [got + 56], r9
    mov [got + 64], r10
    mov [got + 72], r11
    mov [got + 80], r12
    mov [got + 88], r13
    mov [got + 96], r14
    mov [got + 104], r15
    pushfq
    pop qword [got + RFLAGS * 8]
    push FLAGS_SET
    popfq
    ret

; Sends the text at RSI to COM1.
say_text:
    lodsb
    test al, al
    jz .done
    call send_byte
    jmp say_text
.done:
    ret

; Sends RAX in hexadecimal, and a blank.
say_word:
    mov rcx, rax
    mov r8d, 16
.digit:
    rol rcx, 4
    mov al, cl
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe .send
    add al, 'a' - '0' - 10
.send:
    call send_byte
    dec r8d
    jnz .digit
    mov al, ' '

send_byte:
    mov ah, al
    mov dx, 0x3fd
.wait:
    in al, dx
    test al, 0x20
    jz .wait
    mov dx, 0x3f8
    mov al, ah
    out dx, al
    ret

TSC_AUX     equ 0xc0000103
ALL         equ -1
CANONICAL   equ 0x00007fffffffffff
LOW_HALF    equ 0x00000000ffffffff

%macro msr 2                    ; number, the bits of it that hold anything
    dd %1
    dq %2
%endmacro

msrs:
    msr 0xc0000081, ALL         ; STAR
    msr 0xc0000082, CANONICAL   ; LSTAR
    msr 0xc0000083, CANONICAL   ; CSTAR
    msr 0xc0000084, LOW_HALF    ; SFMASK
    msr 0xc0000100, CANONICAL   ; FS base
    msr 0xc0000101, CANONICAL   ; GS base
    msr 0xc0000102, CANONICAL   ; kernel GS base
    msr 0x174, 0xffff           ; SYSENTER_CS
    msr 0x175, CANONICAL        ; SYSENTER_ESP
    msr 0x176, CANONICAL        ; SYSENTER_EIP
    msr TSC_AUX, LOW_HALF
    dd 0
MSR_COUNT   equ 11
TSC_AUX_PLACE equ 10

has_avx:
    db 0
has_tsc_aux:
    db 0
kept_text:
    db "KEPT", 13, 10, 0
lost_text:
    db "LOST ", 0
line_text:
    db 13, 10, 0
align 8
seed:
    dq 0
rounds_left:
    dd 0
gdt:
    dw 3 * 8 - 1
    dd segments
align 8
segments:
    dq 0
    dq 0x00af9b000000ffff       ; code, 64-bit
    dq 0x00cf93000000ffff       ; data

wanted      equ 0x10000
got         equ wanted + WORDS * 8
