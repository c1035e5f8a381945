; A guest with two virtual CPUs, whose second sends interrupts to the first, one after the other, in
; x2APIC mode. The first causes no exit by them: it spins, and nothing but them interrupts it. It
; says "SENDING" before on COM1, by the BIOS, and "SENT" when all have come.

IPIS        equ 2000
VECTOR      equ 0x40
START       equ 0x6000          ; where the second one starts
STACK       equ 0x5000          ; of the second one

%include "x2apic.asm"
%include "enter.asm"
    call open_serial
    mov si, before
    call say
    own_interrupts come
    prepare_second second
    use_apic
    start_second
    sti
wait_for_all:
    cmp word [count], IPIS
    jb wait_for_all
    mov si, after
    call say
halt:
    hlt
    jmp halt

come:
    push eax
    push ecx
    push edx
    inc word [count]
    write_msr END, 0, 0
    pop edx
    pop ecx
    pop eax
    iret

second:
    begin_second
    use_apic
    xor bx, bx                  ; those sent
next:
    write_msr COMMAND, 0, VECTOR
    inc bx
wait_for_one:
    cmp [count], bx
    jne wait_for_one
    cmp bx, IPIS
    jb next
rest:
    hlt
    jmp rest

%include "serial.asm"

count:
    dw 0
before:
    db 13, 10, "SENDING", 13, 10, 0
after:
    db "SENT", 13, 10, 0
