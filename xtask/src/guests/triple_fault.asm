; A guest that shuts its CPU down: an exception for which there is no gate, nor for the faults that follow.
; First it says "TRIPLE FAULT next" on COM1, by the BIOS.

BITS 16
ORG 0x7c00

SERIAL_PORT equ 0x14            ; the BIOS's service
INITIALIZE  equ 0x00e3          ; 9600 baud, eight bits, no parity
SEND        equ 1

    jmp 0:enter
enter:
    xor ax, ax
    mov ds, ax
    xor dx, dx                  ; COM1
    mov ax, INITIALIZE
    int SERIAL_PORT
    mov si, message
next:
    lodsb
    test al, al
    jz shut_down
    mov ah, SEND
    int SERIAL_PORT
    jmp next
shut_down:
    lidt [no_gates]
    ud2

message:
    db 13, 10, "TRIPLE FAULT next", 13, 10, 0
no_gates:
    dw 0
    dd 0
