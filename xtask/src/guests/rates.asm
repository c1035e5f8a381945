; A guest that counts interrupts of the interval timer while the PM timer, which has three times its
; clock, goes on for a tenth of a second, at 10, 16 and 22 kHz. It says "AT c n" for each count c of
; the timer and number n of interrupts, in hexadecimal, and then "RATES KEPT", if there were as many
; as there should be but for one in a hundred, or "RATES LOST".

PM_TIMER    equ 0x608
SPAN        equ 360000          ; clocks of the PM timer
VECTOR      equ 8               ; of IRQ 0, as the BIOS leaves it

%include "enter.asm"
    call open_serial
    mov al, 0xfe                ; the timer alone
    out 0x21, al
    mov al, 0xff
    out 0xa1, al
    mov word [VECTOR * 4], tick
    mov word [VECTOR * 4 + 2], 0
    mov bp, counts
next_rate:
    mov bx, [bp]
    or bx, bx
    jz done
    mov al, 0x34                ; counter 0, both bytes, mode 2
    out 0x43, al
    mov al, bl
    out 0x40, al
    mov al, bh
    out 0x40, al
    mov dword [ticks], 0
    mov dx, PM_TIMER
    in eax, dx
    mov esi, eax
    sti
wait_for_span:
    mov dx, PM_TIMER
    in eax, dx
    sub eax, esi
    and eax, 0xffffff
    cmp eax, SPAN
    jb wait_for_span
    cli
    mov edi, eax
    mov al, 0x30                ; mode 0: silent for 55 ms
    out 0x43, al
    mov ecx, [ticks]
    ; |ticks * count * 3 - clocks| * 100 <= clocks
    movzx eax, word [bp]
    mul ecx
    lea eax, [eax + eax * 2]
    sub eax, edi
    jns difference
    neg eax
difference:
    mov edx, 100
    mul edx
    or edx, edx
    jnz lost
    cmp eax, edi
    jbe kept
lost:
    mov word [verdict], said_lost
kept:
    mov si, said_at
    call say
    movzx eax, word [bp]
    call say_number
    mov eax, ecx
    call say_number
    mov si, line_end
    call say
    add bp, 2
    jmp next_rate
done:
    mov si, [verdict]
    call say
halt:
    cli
    hlt
    jmp halt

tick:
    push ax
    inc dword [cs:ticks]
    mov al, 0x20
    out 0x20, al
    pop ax
    iret

; EAX in hexadecimal behind a blank.
say_number:
    pushad
    mov ebx, eax
    mov al, ' '
    call send
    mov cx, 4
.next:
    rol ebx, 8
    mov al, bl
    call say_byte
    loop .next
    popad
    ret

%include "serial.asm"

align 4
ticks:
    dd 0
counts:
    dw 119, 72, 54, 0
verdict:
    dw said_kept
said_at:
    db "AT", 0
line_end:
    db 13, 10, 0
said_kept:
    db "RATES KEPT", 13, 10, 0
said_lost:
    db "RATES LOST", 13, 10, 0
