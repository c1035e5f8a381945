; A guest that counts ticks of its local APIC's timer, in x2APIC mode, and causes no exit by it: nothing but the ticks interrupts it.
; It says "TICKING" before on COM1, by the BIOS, and "TICKED" after 4000.

TICKS       equ 4000
PERIOD      equ 250000          ; counts of a nanosecond, divided by 1
VECTOR      equ 0x40

APIC_BASE     equ 0x1b
END           equ 0x80b         ; of interrupt
SPURIOUS      equ 0x80f
TIMER         equ 0x832
INITIAL_COUNT equ 0x838
DIVIDE        equ 0x83e

%macro write_msr 2
    mov ecx, %1
    mov eax, %2
    xor edx, edx
    wrmsr
%endmacro

%include "enter.asm"
    call open_serial
    mov si, before
    call say
    mov al, 0xff                ; the 8259 pair is silent
    out 0x21, al
    out 0xa1, al
    mov word [VECTOR * 4], tick
    mov word [VECTOR * 4 + 2], 0
    mov ecx, APIC_BASE
    rdmsr
    or ax, 0xc00                ; on, in x2APIC mode
    wrmsr
    write_msr SPURIOUS, 0x1ff
    write_msr DIVIDE, 0xb
    write_msr TIMER, 1 << 17 | VECTOR
    write_msr INITIAL_COUNT, PERIOD
    sti
wait_for_all:
    cmp word [count], TICKS
    jb wait_for_all
    write_msr INITIAL_COUNT, 0
    mov si, after
    call say
halt:
    hlt
    jmp halt

tick:
    push eax
    push ecx
    push edx
    inc word [count]
    write_msr END, 0
    pop edx
    pop ecx
    pop eax
    iret

%include "serial.asm"

count:
    dw 0
before:
    db 13, 10, "TICKING", 13, 10, 0
after:
    db "TICKED", 13, 10, 0
