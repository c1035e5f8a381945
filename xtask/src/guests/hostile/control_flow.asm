; Attacks by way of descriptors: far transfers, task switches, events.

; Far calls, jumps and returns to whatever a selector means: task states, gates, other rings, virtual-8086 mode.
.far_transfer:
    mov ecx, GARBAGE_BYTES / 4      ; other task states than before
    mov edi, GARBAGE
    call .below
    lea edi, [xdi + xax * 4]
    call .number
    mov [xdi], eax
    call .random
    mov [far_pointer], eax
    call .random
    and eax, GDT_BYTES - 1
    mov [far_pointer + 4], eax
    mov [far_pointer + 8], eax
    mov ecx, 6
    call .below
    dec eax
    js .far_call
    jz .far_jump
    dec eax
    jz .load_task
    dec eax
    jz .far_return
    dec eax
    jz .nested_return
    call .random                    ; to virtual-8086 mode, or another ring
    mov edx, eax
    push xdx
    push xdx
    push xdx
    push xdx
    push xdx
    push xdx
    call .random
    or eax, 0x20202
    push xax
    and edx, GDT_BYTES - 1
    push xdx
    push CODE
%if __BITS__ == 64
    iretq
%else
    iretd
%endif
.far_call:
    call far [far_pointer]
    jmp .step
.far_jump:
    jmp far [far_pointer]
.load_task:
    mov eax, [far_pointer + 4]
    and dword [xax + GDT + 4], ~0x200   ; not busy
    ltr ax
    jmp .step
.far_return:
    mov eax, [far_pointer + 4]
    push xax
    push .step
    retf
.nested_return:
    mov eax, [far_pointer + 4]      ; back to another task
    mov [GARBAGE], eax
    mov ax, TASK
    and dword [GDT + TASK + 4], ~0x200
    ltr ax
    pushfx
    or dword [xsp], 1 << 14
    popfx
%if __BITS__ == 64
    iretq
%else
    iretd
%endif

; An event through a descriptor table that is broken somewhere, seldom everywhere.
.broken_gate:
    mov esi, IDT
    mov edi, BROKEN_IDT
    mov ecx, 1024
    rep movsd
    call .random
    test eax, 0x7f000
    jnz .one
    mov edi, BROKEN_IDT
    mov ecx, 64
.all:
    call .random
    stosd
    loop .all
.one:
    mov ecx, 40
    call .below
    mov ebp, eax
%if __BITS__ == 64
    shl eax, 1
%endif
    lea edi, [xax * 8 + BROKEN_IDT]
    mov ecx, 4
    call .below
    call .broken_bytes
    mov edi, CODE
    mov eax, 0xcd                   ; int n
    stosb
    mov eax, ebp
    stosb
    mov eax, 0x0b0f                 ; ud2
    stosw
    call .end_code
    lidt [.broken_idt_pointer]
    call .random
    test eax, 1
    jz CODE
    jmp .run_code
.broken_bytes:
    call .random
    and eax, 7
    mov edx, eax
    call .random
    mov [xdi + xdx], ax
    ret
