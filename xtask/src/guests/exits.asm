; A guest that measures what single exits cost: each instruction in a loop, timed by RDTSC; of several
; rounds the quickest counts, in which the host had nothing else to do. It runs in 32-bit protected
; mode without paging, booted by the BIOS from an El Torito image without emulation, and writes to
; COM1, a line each:
;     exit NAME COUNT TSC          (both hexadecimal)
; An instruction that faults is left out. The last line is "exits done".

COM1        equ 0x3f8
STACK_TOP   equ 0x7000
IDT         equ 0x10000         ; 256 gates of 8 bytes
ROUNDS      equ 16

%include "enter.asm"
    in al, 0x92                 ; A20 on; bit 0 would reset
    or al, 2
    and al, 0xfe
    out 0x92, al
    mov dx, COM1 + 3            ; eight bits, no parity: not every BIOS leaves it so
    mov al, 3
    out dx, al
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 8:protected

BITS 32
protected:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, STACK_TOP
    mov edi, IDT                ; every vector goes to "faulted"
    mov ecx, 256
    mov eax, faulted
    mov edx, eax
    and eax, 0xffff
    or eax, 8 << 16
    mov dx, 0x8e00
gate:
    mov [edi], eax
    mov [edi + 4], edx
    add edi, 8
    loop gate
    lidt [idt_pointer]
    jmp measurements

faulted:
    mov esp, STACK_TOP
    jmp [resume]

; MEASURE name, count, {set-up}, {instructions in the loop, which leave esi alone}
%macro MEASURE 4
    jmp %%begin
%%name: db %1, 0
%%begin:
    mov dword [resume], %%end
    mov dword [name], %%name
    mov dword [count], %2
    mov dword [quickest], -1
    mov dword [rounds], ROUNDS
%%round:
    rdtsc
    mov [start], eax
    mov esi, %2
    %3
%%again:
    %4
    dec esi
    jnz %%again
    rdtsc
    sub eax, [start]
    cmp eax, [quickest]
    ja %%slower
    mov [quickest], eax
%%slower:
    dec dword [rounds]
    jnz %%round
    call report
%%end:
%endmacro

%macro ZERO_CPUID 0
    xor eax, eax
    cpuid
%endmacro

; Half of a flush of global translations, as systems make it.
%macro TOGGLE_PGE 0
    xor ebx, 0x80
    mov cr4, ebx
%endmacro

%macro FILD_POP 1
    fild dword [%1]
    fstp st0
%endmacro

measurements:
    MEASURE "nothing", 6000, {nop}, {nop}
    MEASURE "cpuid", 250, {nop}, {ZERO_CPUID}
    MEASURE "in 21h (PIC)", 250, {nop}, {in al, 0x21}
    MEASURE "in 61h (PIT)", 250, {nop}, {in al, 0x61}
    MEASURE "in 3FDh (UART)", 250, {mov edx, COM1 + 5}, {in al, dx}
    MEASURE "out 80h", 250, {nop}, {out 0x80, al}
    mov eax, 0x80000000
    mov edx, 0xcf8
    out dx, eax
    MEASURE "in CFCh (PCI)", 250, {mov edx, 0xcfc}, {in eax, dx}
    MEASURE "in 71h (RTC)", 250, {nop}, {in al, 0x71}
    MEASURE "in 608h (PM timer)", 250, {mov edx, 0x608}, {in eax, dx}
    MEASURE "local APIC", 250, {nop}, {mov eax, [0xfee00030]}
    MEASURE "I/O APIC", 250, {nop}, {mov eax, [0xfec00010]}
    MEASURE "HPET", 250, {nop}, {mov eax, [0xfed000f0]}
    MEASURE "step: FILD of the HPET", 250, {fninit}, {FILD_POP 0xfed000f0}
    MEASURE "rdmsr EFER", 250, {mov ecx, 0xc0000080}, {rdmsr}
    MEASURE "rdmsr APIC base", 250, {mov ecx, 0x1b}, {rdmsr}
    MEASURE "mov cr4", 250, {mov ebx, cr4}, {TOGGLE_PGE}
    MEASURE "vmmcall", 250, {mov eax, 0x7fffffff}, {vmmcall}
    mov ebx, done
    call print
halted:
    hlt
    jmp halted

; Writes the line of a measurement.
report:
    mov ebx, exit_word
    call print
    mov ebx, [name]
    call print
    mov edx, [count]
    call print_space_and_hex
    mov edx, [quickest]
    call print_space_and_hex
    mov ebx, end_of_line
    jmp print

print_space_and_hex:
    mov al, ' '
    call put
; edx
print_hex:
    mov ecx, 8
.digit:
    rol edx, 4
    mov al, dl
    and al, 15
    cmp al, 10
    jb .decimal
    add al, 'a' - '0' - 10
.decimal:
    add al, '0'
    call put
    loop .digit
    ret

; The text at ebx.
print:
    mov al, [ebx]
    test al, al
    jz .end
    call put
    inc ebx
    jmp print
.end:
    ret

; The character in al.
put:
    push edx
    mov ah, al
    mov edx, COM1 + 5
.full:
    in al, dx
    test al, 0x20
    jz .full
    mov edx, COM1
    mov al, ah
    out dx, al
    pop edx
    ret

exit_word:   db "exit ", 0
done:        db "exits done"
end_of_line: db 13, 10, 0

align 8
gdt:
    dq 0
    dq 0x00cf9a000000ffff       ; code: 4 GiB from 0
    dq 0x00cf92000000ffff       ; data: the same
gdt_pointer:
    dw 23
    dd gdt
idt_pointer:
    dw 256 * 8 - 1
    dd IDT

resume:     dd 0
name:       dd 0
count:      dd 0
rounds:     dd 0
start:      dd 0
quickest:   dd 0

times 8192 - ($ - $$) db 0
