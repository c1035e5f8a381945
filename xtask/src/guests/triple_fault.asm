; A guest that shuts its CPU down: an exception for which there is no gate, nor for the faults that follow.
; First it says "TRIPLE FAULT next" on COM1, by the BIOS.

%include "enter.asm"
    call open_serial
    mov si, message
    call say
    lidt [no_gates]
    ud2

%include "serial.asm"

message:
    db 13, 10, "TRIPLE FAULT next", 13, 10, 0
no_gates:
    dw 0
    dd 0
