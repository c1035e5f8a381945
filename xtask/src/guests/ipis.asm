; A guest with two virtual CPUs, whose second sends interrupts to the first, one after the other, in
; x2APIC mode. The first causes no exit by them: it spins, and nothing but them interrupts it. It
; says "SENDING" before on COM1, by the BIOS, and "SENT" when all have come.

IPIS        equ 2000
VECTOR      equ 0x40
START       equ 0x6000          ; where the second one starts
STACK       equ 0x5000          ; of the second one

APIC_BASE   equ 0x1b
END         equ 0x80b           ; of interrupt
SPURIOUS    equ 0x80f
COMMAND     equ 0x830
INIT        equ 0x4500
START_UP    equ 0x4600

%macro write_msr 3              ; MSR, high and low half
    mov ecx, %1
    mov edx, %2
    mov eax, %3
    wrmsr
%endmacro

%macro use_apic 0
    mov ecx, APIC_BASE
    rdmsr
    or ax, 0xc00                ; on, in x2APIC mode
    wrmsr
    write_msr SPURIOUS, 0, 0x1ff
%endmacro

%include "enter.asm"
    call open_serial
    mov si, before
    call say
    mov al, 0xff                ; the 8259 pair is silent
    out 0x21, al
    out 0xa1, al
    mov word [VECTOR * 4], come
    mov word [VECTOR * 4 + 2], 0
    mov byte [START], 0xea      ; JMP 0:second
    mov word [START + 1], second
    mov word [START + 3], 0
    use_apic
    write_msr COMMAND, 1, INIT
    write_msr COMMAND, 1, START_UP | START >> 12
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
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, STACK
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
