; A guest that counts ticks of its local APIC's timer, in x2APIC mode, and causes no exit by it:
; nothing but the ticks interrupts it. It says "TICKING" before on COM1, by the BIOS, and "TICKED"
; after 4000.

TICKS       equ 4000
PERIOD      equ 250000          ; counts of a nanosecond, divided by 1
VECTOR      equ 0x40

%include "x2apic.asm"
%include "enter.asm"
    call open_serial
    mov si, before
    call say
    own_interrupts tick
    use_apic
    write_msr DIVIDE, 0, 0xb
    write_msr TIMER, 0, 1 << 17 | VECTOR
    write_msr INITIAL_COUNT, 0, PERIOD
    sti
wait_for_all:
    cmp word [count], TICKS
    jb wait_for_all
    write_msr INITIAL_COUNT, 0, 0
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
    write_msr END, 0, 0
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
