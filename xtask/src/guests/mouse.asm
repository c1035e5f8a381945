; A guest that says on COM1 what its PS/2 mouse does: "MOUSE ready" when it is set up, with its wheel, then the four bytes of each packet
; in hexadecimal, a line each.

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

%include "enter.asm"
    call open_serial            ; interrupts stay off: the BIOS is not to take the bytes
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
    call say_byte
    mov al, ' '
    call send
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

%include "serial.asm"

set_up:
    db SET_DEFAULTS, SET_RATE, 200, SET_RATE, 100, SET_RATE, 80
set_up_end:
ready:
    db 13, 10, "MOUSE ready"
end_of_line:
    db 13, 10, 0
