; A guest that says on COM1 what comes to it. After "INPUT keys" the bytes of its keyboard, which it
; has set to scan code set 3 without translation, in hexadecimal until Escape is pressed; after
; "INPUT serial" four characters that came on COM1, and the interrupts that it took for them: its
; handler reads one character each time.

COM1            equ 0x3f8
INTERRUPT_ENABLE equ COM1 + 1
FIFO_CONTROL    equ COM1 + 2
LINE_CONTROL    equ COM1 + 3
MODEM_CONTROL   equ COM1 + 4
FIFO_TRIGGER_1  equ 7           ; enabled and emptied
OUTPUTS         equ 0x0b        ; DTR, RTS, and OUT2, which lets the interrupt through
EIGHT_BITS      equ 3
DIVISOR_ACCESS  equ 0x80
IRQ4_VECTOR     equ 0x0c
PIC             equ 0x20
PIC_MASK        equ 0x21
END_OF_INTERRUPT equ 0x20
ONLY_IRQ4       equ 0xef
KEYBOARD        equ 0x60
CONTROLLER      equ 0x64
OUTPUT_FULL     equ 1
INPUT_FULL      equ 2
WRITE_COMMAND_BYTE equ 0x60
NO_TRANSLATION  equ 0x24        ; no interrupts, no mouse
ESCAPE          equ 0x08        ; in set 3
WANTED          equ 4

%include "enter.asm"
    call open_serial            ; interrupts stay off: the BIOS is not to take the bytes
    mov dx, LINE_CONTROL
    mov al, DIVISOR_ACCESS | EIGHT_BITS
    out dx, al
    mov dx, COM1                ; 115200 baud
    mov ax, 1
    out dx, ax
    mov dx, LINE_CONTROL
    mov al, EIGHT_BITS
    out dx, al

    call wait_for_room
    mov al, WRITE_COMMAND_BYTE
    out CONTROLLER, al
    call wait_for_room
    mov al, NO_TRANSLATION
    out KEYBOARD, al
    mov si, set_up
    mov cx, set_up_end - set_up
tell_keyboard:
    call wait_for_room
    lodsb
    out KEYBOARD, al
    call take                   ; its acknowledgement
    loop tell_keyboard
    mov si, keys
    call say
key:
    call take
    push ax
    call say_byte
    mov al, ' '
    call send
    pop ax
    cmp al, ESCAPE
    jne key

    mov word [IRQ4_VECTOR * 4], character
    mov word [IRQ4_VECTOR * 4 + 2], 0
    mov al, ONLY_IRQ4
    out PIC_MASK, al
    mov dx, FIFO_CONTROL
    mov al, FIFO_TRIGGER_1
    out dx, al
    mov dx, MODEM_CONTROL
    mov al, OUTPUTS
    out dx, al
    mov dx, INTERRUPT_ENABLE
    mov al, 1
    out dx, al
    mov si, serial
    call say
wait_for_characters:
    cmp byte [taken], WANTED
    je taken_all
    sti
    hlt
    cli
    jmp wait_for_characters
taken_all:
    mov dx, INTERRUPT_ENABLE
    xor al, al
    out dx, al
    add byte [interrupts], '0'
    mov si, characters
    call say
end:
    cli
    hlt
    jmp end

; Takes one character.
character:
    push ax
    push bx
    push dx
    inc byte [interrupts]
    mov dx, FIFO_CONTROL        ; which interrupt it is
    in al, dx
    mov dx, COM1
    in al, dx
    mov bl, [taken]
    xor bh, bh
    mov [characters + bx], al
    inc byte [taken]
    mov al, END_OF_INTERRUPT
    out PIC, al
    pop dx
    pop bx
    pop ax
    iret

wait_for_room:
    in al, CONTROLLER
    test al, INPUT_FULL
    jnz wait_for_room
    ret

; Waits for a byte and returns it in AL.
take:
    in al, CONTROLLER
    test al, OUTPUT_FULL
    jz take
    in al, KEYBOARD
    ret

%include "serial.asm"

set_up:
    db 0xf0, 3, 0xf8, 0xf4      ; set 3, every key tells of press and release, go
set_up_end:
keys:
    db 13, 10, "INPUT keys", 13, 10, 0
serial:
    db 13, 10, "INPUT serial", 13, 10, 0
characters:
    times WANTED db 0
    db " in "
interrupts:
    db 0
    db " interrupts", 13, 10, 0
taken:
    db 0
