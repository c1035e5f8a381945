; The local APIC in x2APIC mode, for guests with interrupts of it alone, and a second virtual CPU. To
; be included before enter.asm; the guest says which VECTOR the interrupts have, and, if it has a
; second virtual CPU, at which page START that starts and where its STACK is.

APIC_BASE     equ 0x1b
END           equ 0x80b         ; of interrupt
SPURIOUS      equ 0x80f
COMMAND       equ 0x830
TIMER         equ 0x832
INITIAL_COUNT equ 0x838
DIVIDE        equ 0x83e

INIT          equ 0x4500
START_UP      equ 0x4600

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

%macro own_interrupts 1         ; their handler
    mov al, 0xff                ; the 8259 pair is silent
    out 0x21, al
    out 0xa1, al
    mov word [VECTOR * 4], %1
    mov word [VECTOR * 4 + 2], 0
%endmacro

%macro prepare_second 1         ; where it begins, with segments that it sets itself
    mov byte [START], 0xea      ; JMP 0:%1
    mov word [START + 1], %1
    mov word [START + 3], 0
%endmacro

%macro start_second 0
    write_msr COMMAND, 1, INIT
    write_msr COMMAND, 1, START_UP | START >> 12
%endmacro

%macro begin_second 0
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, STACK
%endmacro
