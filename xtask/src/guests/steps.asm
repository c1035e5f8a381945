; A guest to be stepped through: instructions that show the processor's flags, that exit, that hold interrupts off, and that lead into
; handlers. It begins when a byte comes to COM1, and says "STEPS right" or "STEPS wrong" at its end, by what it saw of itself: no trap
; flag, no instruction done twice or not at all.

TRAP_FLAG   equ 0x100
UD_VECTOR   equ 6
IRQ0_VECTOR equ 8
OWN_VECTOR  equ 0x60
PIC         equ 0x20
PIC_MASK    equ 0x21
PIT_COUNT   equ 0x40
PIT_CONTROL equ 0x43

%include "enter.asm"
    call open_serial
    mov si, ready
    call say
    mov word [UD_VECTOR * 4], undefined
    mov word [UD_VECTOR * 4 + 2], 0
    mov word [IRQ0_VECTOR * 4], interrupt
    mov word [IRQ0_VECTOR * 4 + 2], 0
    mov word [OWN_VECTOR * 4], handler
    mov word [OWN_VECTOR * 4 + 2], 0
    call take_byte

    ; IRQ 0 is requested, once.
    mov al, 0xfe
    out PIC_MASK, al
    mov al, 0x30                ; counter 0, both bytes, mode 0
    out PIT_CONTROL, al
    mov al, 1
    out PIT_COUNT, al
    mov al, 0
    out PIT_COUNT, al
    mov al, 0x0a                ; read the requests
    out PIC, al
wait_for_request:
    in al, PIC
    test al, 1
    jz wait_for_request

    ; The test knows what comes now.
    cli
    pushf
    pop ax
    or [flags], ax
    xor eax, eax
    cpuid
    in al, PIC_MASK
    out 0x80, al
    inc word [count]
    int OWN_VECTOR
    ud2
    pushf
    popf
    push ss
    pop ss
    clc                         ; may be one step with POP SS
    mov di, buffer
    mov cx, 3
    rep stosb
    sti
    clc                         ; before the interrupt; may be one step with STI
    cmc                         ; where the interrupt comes
    inc word [count]
    sti

    mov si, wrong
    test word [flags], TRAP_FLAG
    jnz answer
    cmp word [count], 5
    jne answer
    mov si, right
answer:
    call say
stay:
    hlt
    jmp stay

handler:
    push bp
    mov bp, sp
    mov ax, [bp + 6]            ; the flags that INT saved
    or [flags], ax
    inc word [count]
    pop bp
    iret

undefined:
    push bp
    mov bp, sp
    add word [bp + 2], 2        ; behind UD2
    mov ax, [bp + 6]
    or [flags], ax
    inc word [count]
    pop bp
    iret

interrupt:
    push ax
    mov al, PIC                 ; end of interrupt
    out PIC, al
    inc word [count]
    pop ax
    iret

%include "serial.asm"

ready: db 13, 10, "STEPS ready", 13, 10, 0
right: db 13, 10, "STEPS right", 13, 10, 0
wrong: db 13, 10, "STEPS wrong", 13, 10, 0
count: dw 0
flags: dw 0
buffer: times 4 db 0
