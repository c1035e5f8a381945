; A guest that says on COM1 that it started, the text at the beginning of the first hard disk, and
; how much video memory the video BIOS has found (VBE 3.0, function 00h).

BUFFER          equ 0x8000
FIRST_DISK      equ 0x80
READ_ONE_SECTOR equ 0x0201
FIRST_SECTOR    equ 1           ; of cylinder 0; they are counted from 1
DISK_SERVICE    equ 0x13
VBE_INFORMATION equ 0x4f00
VIDEO_MEMORY    equ BUFFER + 0x12 ; in units of 64 KiB
UNITS_LOG2      equ 4           ; in a MiB
VIDEO_SERVICE   equ 0x10

%include "enter.asm"
    call open_serial
    mov si, started
    call say
    mov ax, READ_ONE_SECTOR
    mov cx, FIRST_SECTOR
    mov dx, FIRST_DISK
    mov bx, BUFFER
    int DISK_SERVICE
    mov si, unreadable
    jc .tell
    mov si, BUFFER
.tell:
    call say
    mov si, video
    call say
    mov ax, VBE_INFORMATION
    mov di, BUFFER
    int VIDEO_SERVICE
    mov ax, [VIDEO_MEMORY]
    shr ax, UNITS_LOG2
    mov di, digits_end
    mov bx, 10
.digit:                         ; from the last
    xor dx, dx
    div bx
    add dl, '0'
    dec di
    mov [di], dl
    test ax, ax
    jnz .digit
    mov si, di
    call say
.halt:
    hlt
    jmp .halt

started     db "FIRST DISK guest started; the disk holds: ", 0
unreadable  db "nothing that can be read", 0
video       db 13, 10, "MiB of video memory: ", 0
digits      times 5 db 0
digits_end  db 13, 10, 0

%include "serial.asm"
