; COM1 by the BIOS, for guests that only have something to say. To be included behind the code.

SERIAL_PORT equ 0x14            ; the BIOS's service
INITIALIZE  equ 0x00e3          ; 9600 baud, eight bits, no parity
SEND        equ 1

; Sets COM1 up, and leaves interrupts off.
open_serial:
    xor dx, dx
    mov ax, INITIALIZE
    int SERIAL_PORT
    cli
    ret

; Sends the text at SI.
say:
    lodsb
    test al, al
    jz .said
    call send
    jmp say
.said:
    ret

; Sends AL in hexadecimal.
say_byte:
    push ax
    shr al, 4
    call .digit
    pop ax
    and al, 0x0f
.digit:
    add al, '0'
    cmp al, '9'
    jbe send
    add al, 'a' - '0' - 10

; Sends the character AL.
send:
    push dx
    xor dx, dx
    mov ah, SEND
    int SERIAL_PORT
    cli
    pop dx
    ret

; Waits for a byte on COM1 and returns it in AL.
take_byte:
    mov dx, 0x3fd               ; line status
.wait:
    in al, dx
    test al, 1
    jz .wait
    mov dx, 0x3f8
    in al, dx
    ret
