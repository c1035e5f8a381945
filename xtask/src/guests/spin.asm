; A guest that spins: a million times PAUSE, as if it waited for another CPU.
; It says "SPINNING" before on COM1, by the BIOS, and "SPUN" after.

BITS 16
ORG 0x7c00

SERIAL_PORT equ 0x14            ; the BIOS's service
INITIALIZE  equ 0x00e3          ; 9600 baud, eight bits, no parity
SEND        equ 1

    jmp 0:enter
enter:
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    xor dx, dx                  ; COM1
    mov ax, INITIALIZE
    int SERIAL_PORT
    mov si, before
    call say
    mov ecx, 1000000
spin:
    pause
    dec ecx
    jnz spin
    mov si, after
    call say
halt:
    hlt
    jmp halt

; Sends the text at SI.
say:
    lodsb
    test al, al
    jz said
    mov ah, SEND
    int SERIAL_PORT
    jmp say
said:
    ret

before:
    db 13, 10, "SPINNING", 13, 10, 0
after:
    db "SPUN", 13, 10, 0
