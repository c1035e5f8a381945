; A guest that says on COM1 what its PS/2 mouse does: "MOUSE ready" when it is set up, with its wheel, then the four bytes of each packet
; in hexadecimal, a line each.

BITS 16
ORG 0x7c00

SERIAL_PORT     equ 0x14        ; the BIOS's service
INITIALIZE      equ 0x00e3      ; 9600 baud, eight bits, no parity
SEND            equ 1
DATA            equ 0x60
COMMAND         equ 0x64
OUTPUT_FULL     equ 1
INPUT_FULL      equ 2
ENABLE_MOUSE    equ 0xa8
TO_MOUSE        equ 0xd4
SET_RATE        equ 0xf3
SET_DEFAULTS    equ 0xf6
GET_ID          equ 0xf2
ENABLE_REPORTS  equ 0xf4
PACKET_BYTES    equ 4

    jmp 0:enter
enter:
    cli                         ; the BIOS is not to take the bytes
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
    xor dx, dx                  ; COM1
    mov ax, INITIALIZE
    int SERIAL_PORT
    cli
    mov al, ENABLE_MOUSE
    call command
    ; Three rates in a row turn the wheel on.
    mov si, set_up
    mov cx, set_up_end - set_up
.set_up:
    lodsb
    call tell_mouse
    loop .set_up
    mov al, GET_ID
    call tell_mouse
    call take
    mov al, ENABLE_REPORTS
    call tell_mouse
    mov si, ready
    call say
packet:
    mov cx, PACKET_BYTES
.byte:
    call take
    call say_hexadecimal
    loop .byte
    mov si, end_of_line
    call say
    jmp packet

; Sends the command AL to the controller.
command:
    push ax
    call wait_for_room
    pop ax
    out COMMAND, al
    ret

; Sends AL to the mouse and takes its acknowledgement.
tell_mouse:
    push ax
    mov al, TO_MOUSE
    call command
    call wait_for_room
    pop ax
    out DATA, al
    call take
    ret

wait_for_room:
    in al, COMMAND
    test al, INPUT_FULL
    jnz wait_for_room
    ret

; Waits for a byte and returns it in AL.
take:
    in al, COMMAND
    test al, OUTPUT_FULL
    jz take
    in al, DATA
    ret

; Says AL and a blank.
say_hexadecimal:
    push ax
    shr al, 4
    call say_digit
    pop ax
    and al, 0x0f
    call say_digit
    mov al, ' '
    jmp send
say_digit:
    add al, '0'
    cmp al, '9'
    jbe send
    add al, 'a' - '0' - 10
send:
    mov ah, SEND
    xor dx, dx
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

set_up:
    db SET_DEFAULTS, SET_RATE, 200, SET_RATE, 100, SET_RATE, 80
set_up_end:
ready:
    db 13, 10, "MOUSE ready"
end_of_line:
    db 13, 10, 0
