; A guest that says on COM1 that it started, and the text at the beginning of the first hard disk.

BITS 16
ORG 0x7c00

BUFFER          equ 0x8000
FIRST_DISK      equ 0x80
READ_ONE_SECTOR equ 0x0201
FIRST_SECTOR    equ 1           ; of cylinder 0; they are counted from 1
DISK_SERVICE    equ 0x13

    jmp 0:enter
enter:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
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
    mov si, end_of_line
    call say
.halt:
    hlt
    jmp .halt

started     db "FIRST DISK guest started; the disk holds: ", 0
unreadable  db "nothing that can be read", 0
end_of_line db 13, 10, 0

%include "serial.asm"
