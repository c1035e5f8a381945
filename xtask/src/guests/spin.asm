; A guest that spins: a million times PAUSE, as if it waited for another CPU.
; It says "SPINNING" before on COM1, by the BIOS, and "SPUN" after.

%include "enter.asm"
    call open_serial
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

%include "serial.asm"

before:
    db 13, 10, "SPINNING", 13, 10, 0
after:
    db "SPUN", 13, 10, 0
