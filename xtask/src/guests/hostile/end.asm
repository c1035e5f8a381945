; The code after the last step, and the guest's output.

; All steps are done: the machine is reset, in one way or another.
.over:
    cli
    call .open_serial
    mov esi, survived
    call .print
    mov ecx, 8
    call .below
    dec eax
    js .triple_fault
    jz .keyboard_reset
    dec eax
    jz .fast_reset
    dec eax
    jz .power_off
    dec eax
    jz .init
    dec eax
    jz .nowhere
    dec eax
    jz .hang
    mov edx, 0xcf9
    mov al, 6
    out dx, al
.hang:
    hlt
    jmp .hang
.triple_fault:
    lidt [.no_idt_pointer]
    ud2
.keyboard_reset:
    mov al, 0xfe
    out 0x64, al
    jmp .hang
.fast_reset:
    in al, 0x92
    or al, 1
    out 0x92, al
    jmp .hang
.power_off:
    mov edx, 0x604
    mov ax, 0x2000                  ; S5
    out dx, ax
    jmp .hang
.init:
    mov ebx, LOCAL_APIC
    mov dword [xbx + 0x300], 0x44500
    jmp .hang
.nowhere:
    mov eax, 0xe0000000             ; instructions where nothing is
    jmp xax

; COM1 at its fastest, without interrupts.
.open_serial:
    mov edx, COM1 + 3
    mov al, 0x80
    out dx, al
    mov edx, COM1
    mov al, 1
    out dx, al
    inc edx
    xor al, al
    out dx, al
    mov edx, COM1 + 3
    mov al, 3
    out dx, al
    inc edx
    xor al, al
    out dx, al
    mov edx, COM1 + 1
    out dx, al
    inc edx
    mov al, 7
    out dx, al
    ret

; The text at esi.
.print:
    mov edx, COM1 + 5
    mov ecx, 1000000
.full:
    in al, dx
    test al, 0x20
    jnz .put
    loop .full
.put:
    mov edx, COM1
    mov al, [xsi]
    test al, al
    jz .printed
    out dx, al
    inc esi
    jmp .print
.printed:
    ret

.gdt_pointer:
    dw GDT_BYTES - 1
    dd GDT, 0
.idt_pointer:
    dw IDT_LIMIT
    dd IDT, 0
.broken_idt_pointer:
    dw IDT_LIMIT
    dd BROKEN_IDT, 0
.no_idt_pointer:
    dw 0
    dd 0, 0
