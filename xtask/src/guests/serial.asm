; COM1 by the BIOS, for guests that only have something to say. To be included behind the code.

SERIAL_PORT equ 0x14            ; the BIOS's service
INITIALIZE  equ 0x00e3          ; 9600 baud, eight bits, no parity
SEND        equ 1

; Sets COM1 up.
open_serial:
    xor dx, dx
    mov ax, INITIALIZE
    int SERIAL_PORT
    ret

; Sends the text at SI.
say:
    xor dx, dx
    lodsb
    test al, al
    jz said
    mov ah, SEND
    int SERIAL_PORT
    jmp say
said:
    ret
