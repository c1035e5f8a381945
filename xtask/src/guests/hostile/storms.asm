; Attacks by number: interrupts, drawing, strings without end.

; Interrupts from everywhere: the local APIC to itself and by its timer, the I/O APIC, the HPET, the real-time clock.
.interrupts:
    mov ecx, 6
    call .below
    dec eax
    js .apic_register
    jz .to_itself
    dec eax
    jz .io_apic
    dec eax
    jz .hpet
    dec eax
    jz .apic_timer
    call .random
    and eax, 0xf
    out 0x70, al
    call .number
    out 0x71, al
    jmp .wait
.apic_register:
    call .random
    and eax, 0x3f0
    mov ebx, LOCAL_APIC
    add ebx, eax
    call .number
    mov [xbx], eax
    jmp .wait
.to_itself:
    call .random
    and eax, 0x47ff                 ; any delivery mode: fixed, SMI, NMI, INIT, start-up
    mov edx, eax
    and edx, 0x700
    cmp edx, 0x500
    jne .send
    call .random
    test eax, 0x3f00                ; INIT ends the round
    jnz .step
    mov eax, 0x4500
.send:
    or eax, 0x40000
    mov ebx, LOCAL_APIC
    mov [xbx + 0x300], eax
    jmp .wait
.io_apic:
    call .random
    and eax, 0x3f
    mov ebx, IO_APIC
    mov [xbx], eax
    call .random
    and eax, 0x1ffff
    mov [xbx + 0x10], eax
    jmp .wait
.hpet:
    call .random
    and eax, 0x1f8
    mov esi, eax
    mov ebx, HPET
    call .number
    mov [xbx + xsi], eax
    mov dword [xbx + 0x10], 1
    jmp .wait
.apic_timer:
    mov ebx, LOCAL_APIC
    mov dword [xbx + 0xf0], 0x1ff
    call .random
    and eax, 0x60030
    or eax, 0x40
    mov [xbx + 0x320], eax
    mov dword [xbx + 0x3e0], 0xb
    call .number
    shr eax, 16
    mov [xbx + 0x380], eax
.wait:
    mov ecx, 100
.nap:
    pause
    loop .nap
    call .random
    test eax, 7
    jnz .step
    hlt
    jmp .step

; Display modes that no display has, and what is drawn in them.
.vga:
    mov ebx, 8
.registers_of_vga:
    call .random
    test eax, 0x100
    jz .plain_register
    mov ecx, 11
    call .below
    mov edx, 0x1ce
    out dx, ax
    call .number
    mov edx, 0x1cf
    out dx, ax
    jmp .next_register
.plain_register:
    and eax, 0xf
    lea edx, [xax + 0x3c0]
    call .random
    and ah, 0x1f
    xchg al, ah
    out dx, ax
    out dx, al
.next_register:
    dec ebx
    jnz .registers_of_vga
    call .random
    and eax, 0x1ffff
    lea edi, [xax + 0xa0000]
    mov esi, edi
    mov ecx, 200
    rep movsb
    jmp .step

; String instructions that would go on for ever, through devices and off the end.
.long_repeat:
    mov edi, CODE
    mov al, 0xf3
    stosb
    mov ecx, 10
    call .below
    mov al, [xax + .strings]
    stosb
    call .end_code
    call .registers
    call .random
    mov ecx, eax
    test eax, 3
    jnz CODE
    std
    jmp CODE
.strings: db 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf
