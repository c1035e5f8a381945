; Attacks on the processor's own: ports, MSRs, control registers, instructions on devices' memory.

; edx: a port.
.pick_port:
    mov esi, port_ranges
    mov ecx, port_ranges_count
    call .pick
    mov edx, eax
    ret

.port:
    call .pick_port
    mov ecx, 7
    call .below
    mov ebx, eax
    call .number
    dec ebx
    js .in_8
    jz .in_16
    dec ebx
    jz .in_32
    dec ebx
    jz .out_8
    dec ebx
    jz .out_16
    dec ebx
    jz .out_32
    and al, 2                       ; the A20 gate
    out 0x92, al
    jmp .step
.in_8:
    in al, dx
    jmp .step
.in_16:
    in ax, dx
    jmp .step
.in_32:
    in eax, dx
    jmp .step
.out_8:
    out dx, al
    jmp .step
.out_16:
    out dx, ax
    jmp .step
.out_32:
    out dx, eax
    jmp .step

.port_string:
    mov ecx, 6
    call .below
    mov edi, CODE
    lea esi, [xax * 4 + .string_instructions]
    movsd
    call .end_code
    call .registers
    mov ebx, edx
    push xcx
    push xsi
    call .pick_port
    pop xsi
    pop xcx
    test ebx, 1
    jz CODE
    std
    jmp CODE
.string_instructions:
    db 0xf3, 0x6c, 0x90, 0x90       ; rep insb
    db 0xf3, 0x66, 0x6d, 0x90       ; rep insw
    db 0xf3, 0x6d, 0x90, 0x90       ; rep insd
    db 0xf3, 0x6e, 0x90, 0x90       ; rep outsb
    db 0xf3, 0x66, 0x6f, 0x90       ; rep outsw
    db 0xf3, 0x6f, 0x90, 0x90       ; rep outsd

.msr:
    mov esi, msr_ranges
    mov ecx, msr_ranges_count
    call .pick
    mov ebp, eax
    mov ecx, 3
    call .below
    mov ebx, eax
    call .number
    mov edx, eax
    call .number
    mov ecx, ebp
    dec ebx
    js .read_msr
    jz .write_msr
    rdmsr
    mov edi, eax
    call .random
    mov ecx, eax
    mov esi, 1
    shl esi, cl
    xor esi, edi
    test eax, 32
    mov eax, esi
    mov ecx, ebp
    jz .write_msr
    xor edx, eax                    ; garbage in the upper half
.write_msr:
    wrmsr
    jmp .step
.read_msr:
    rdmsr
    jmp .step

; One bit of a control register or of a debug register but DR7.
.control_register:
    mov edi, CODE
    call .random
    mov ebx, eax
    and ebx, 1                      ; MOV CR or MOV DR
    shr eax, 1
    mov edx, eax
    shl edx, 3
    and edx, 0x38
    or edx, 0xc0                    ; the register, and eax
    mov ecx, edx
    and ecx, 0x28
    cmp ecx, 0x28                   ; registers 5 and 7 are left out: QEMU 7.2 has crashed in runs with them
    je .step
    cmp edx, 0xd8
    jne .any_bit
    test eax, 0xf000                ; another CR3 is the end, mostly
    jnz .step
.any_bit:
    mov eax, 0x0f
    stosb
    lea eax, [xbx + 0x20]
    stosb
    mov eax, edx
    stosb
%if __BITS__ == 64
    mov eax, 0x48
    stosb
%endif
    mov eax, 0xf8ba0f               ; btc rax, imm8
    stosd
    dec edi
    call .random
    stosb
    mov eax, 0x0f
    stosb
    lea eax, [xbx + 0x22]
    stosb
    mov eax, edx
    stosb
    call .end_code
    jmp CODE

.special:
    mov ecx, special_instructions_count
    call .below
    lea esi, [xax * 8 + special_instructions]
    mov edi, CODE
    movsd
    movsd
    call .end_code
    call .registers
    jmp CODE

; An instruction, mostly one that programs use and with a memory operand in a device.
.device_instruction:
    mov edi, CODE
.prefix:
    call .random
    test eax, 0x30
    jnz .opcode
    and eax, 7
    mov al, [xax + prefixes]
    stosb
    jmp .prefix
.opcode:
    mov ecx, device_opcodes_count
    call .below
    movzx edx, word [xax * 2 + device_opcodes]
    call .random
    test eax, 0x1ff
    jnz .known
    mov edx, eax                    ; seldom any opcode: one that the emulator lacks ends the guest
    shr edx, 16
.known:
    cmp edx, 0x100
    jb .one_byte
    mov al, 0x0f
    stosb
.one_byte:
    mov eax, edx
    stosb
    call .random
    test eax, 0xf00
    jz .operand
    and al, 0x38
    or al, 3                        ; [ebx] or [rbx]
.operand:
    stosb
    call .random
    test eax, 0x100
    jz .no_bytes
    call .random
    stosd
    call .random
    stosd
.no_bytes:
    call .end_code
.run_code:
    call .registers
    push xax
    call .random
    and eax, 0x40cd5                ; arithmetic flags, DF, AC
    or eax, 0x202
    test eax, 0x11                  ; seldom a single step
    jnz .flags
    or eax, 0x100
.flags:
    pushfx
    mov [xsp], eax
    popfx
    pop xax
    jmp CODE

.random_bytes:
    mov edi, CODE
    mov edx, 4
.four:
    call .random
    stosd
    dec edx
    jnz .four
    call .end_code
    jmp .run_code

; Fills the rest of CODE, from edi, and leads back.
.end_code:
    mov ecx, CODE + CODE_BYTES
    sub ecx, edi
    mov al, 0x90
    rep stosb
    mov al, 0xb8                    ; mov eax, .step; jmp
    stosb
    mov eax, .step
    stosd
    mov eax, 0xe0ff
    stosw
    ret
