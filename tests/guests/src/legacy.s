# From 64-bit mode to 32-bit protected mode or real mode, to code of a topic, and back.

.set CODE32, 0x08
.set DATA, 0x10
.set CODE64, 0x18
.set CODE16, 0x20
.set DATA16, 0x28
.set TSS32, 0x58

.set PE, 1 << 0
.set PG, 1 << 31
.set EFER, 0xc0000080
.set LME, 1 << 8

# Offsets in legacy::State.
.set AT_ENTRY, 0
.set AT_IS_REAL, 4
.set AT_CR0, 8
.set AT_CR3, 12
.set AT_CR4, 16
.set AT_FAULTED, 20
.set AT_HOME_CR0, 24
.set AT_HOME_CR3, 28
.set AT_HOME_CR4, 32
.set AT_HOME_RSP, 36
.set AT_EAX, 40
.set AT_EBX, 44
.set AT_ECX, 48
.set AT_EDX, 52
.set AT_ESI, 56
.set AT_EDI, 60
.set AT_EBP, 64
.set AT_EFLAGS, 68
.set AT_DS, 72
.set AT_ES, 74
.set AT_VECTOR, 76
.set AT_FAULT_CR2, 80
.set AT_FAULT_CR0, 84
.set AT_FRAME, 88

.set REAL_STACK, 0x7000
# As many words as the longest frame has: an error code, and nine of virtual-8086 mode.
.set FRAME_WORDS, 10

.section .low.legacy, "awx"
.code64
.global legacy_call
legacy_call:
    pushfq
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [{state} + AT_HOME_RSP], esp
    mov rax, cr0
    mov [{state} + AT_HOME_CR0], eax
    mov rax, cr3
    mov [{state} + AT_HOME_CR3], eax
    mov rax, cr4
    mov [{state} + AT_HOME_CR4], eax
    lidt [{idt_pointer}]
    push CODE32
    push offset leave_long_mode
    retfq

.code32
leave_long_mode:
    mov eax, cr0
    and eax, ~PG
    mov cr0, eax
    mov ecx, EFER
    rdmsr
    and eax, ~LME
    wrmsr
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    mov esp, offset {stack} + {STACK_SIZE}
    mov eax, TSS32
    ltr ax
    mov eax, [{state} + AT_CR4]
    mov cr4, eax
    mov eax, [{state} + AT_CR3]
    mov cr3, eax
    mov eax, [{state} + AT_CR0]
    mov cr0, eax
    cmp byte ptr [{state} + AT_IS_REAL], 0
    jne leave_protected_mode
    mov eax, [{state} + AT_EAX]
    mov ebx, [{state} + AT_EBX]
    mov ecx, [{state} + AT_ECX]
    mov edx, [{state} + AT_EDX]
    mov esi, [{state} + AT_ESI]
    mov edi, [{state} + AT_EDI]
    mov ebp, [{state} + AT_EBP]
    call [{state} + AT_ENTRY]
    mov [{state} + AT_EAX], eax
    mov [{state} + AT_EBX], ebx
    mov [{state} + AT_ECX], ecx
    mov [{state} + AT_EDX], edx
    mov [{state} + AT_ESI], esi
    mov [{state} + AT_EDI], edi
    mov [{state} + AT_EBP], ebp
    pushfd
    pop [{state} + AT_EFLAGS]

return_to_long_mode:
    cli
    lgdt [{gdt_pointer}]
    mov eax, cr0
    and eax, ~PG
    mov cr0, eax
    mov eax, [{state} + AT_HOME_CR4]
    mov cr4, eax
    mov eax, [{state} + AT_HOME_CR3]
    mov cr3, eax
    mov ecx, EFER
    rdmsr
    or eax, LME
    wrmsr
    mov eax, [{state} + AT_HOME_CR0]
    mov cr0, eax
    .byte 0xea
    .long enter_long_mode
    .short CODE64

.code64
enter_long_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov esp, [{state} + AT_HOME_RSP]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    popfq
    ret

.code32
leave_protected_mode:
    lidt [{ivt_pointer}]
    .byte 0xea
    .long protected_mode_16
    .short CODE16

.code16
protected_mode_16:
    mov ax, DATA16
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov eax, cr0
    and al, ~PE
    mov cr0, eax
    .byte 0xea
    .short call_real_mode, 0
call_real_mode:
    xor ax, ax
    mov ds, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov esp, REAL_STACK
    mov es, word ptr [{state} + AT_ES]
    mov eax, dword ptr [{state} + AT_EAX]
    mov ebx, dword ptr [{state} + AT_EBX]
    mov ecx, dword ptr [{state} + AT_ECX]
    mov edx, dword ptr [{state} + AT_EDX]
    mov esi, dword ptr [{state} + AT_ESI]
    mov edi, dword ptr [{state} + AT_EDI]
    mov ebp, dword ptr [{state} + AT_EBP]
    mov ds, word ptr [{state} + AT_DS]
    call word ptr cs:[{state} + AT_ENTRY]
    # The stack's segment is zero still, and so the segment of SS-based accesses is that of the variables.
    push ds
    pop word ptr ss:[{state} + AT_DS]
    push es
    pop word ptr ss:[{state} + AT_ES]
    pushfd
    pop dword ptr ss:[{state} + AT_EFLAGS]
    mov dword ptr ss:[{state} + AT_EAX], eax
    mov dword ptr ss:[{state} + AT_EBX], ebx
    mov dword ptr ss:[{state} + AT_ECX], ecx
    mov dword ptr ss:[{state} + AT_EDX], edx
    mov dword ptr ss:[{state} + AT_ESI], esi
    mov dword ptr ss:[{state} + AT_EDI], edi
    mov dword ptr ss:[{state} + AT_EBP], ebp

# Also where code goes that real mode was thrown into during a call: the call returns.
.global return_to_protected_mode
return_to_protected_mode:
    cli
    xor ax, ax
    mov ds, ax
    lgdt [{gdt_pointer}]
    mov eax, cr0
    or al, PE
    mov cr0, eax
    .byte 0xea
    .short protected_mode_32, CODE32

.code32
protected_mode_32:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, offset {stack} + {STACK_SIZE}
    jmp return_to_long_mode

# An event in 32-bit mode: an entry of 8 bytes for each vector. All end the call.
.balign 8
.global legacy_entries
legacy_entries:
.rept 256
    .balign 8
    call legacy_event
.endr

legacy_event:
    pushad
    mov eax, DATA
    mov ds, eax
    mov es, eax
    pop [{state} + AT_EDI]
    pop [{state} + AT_ESI]
    pop [{state} + AT_EBP]
    pop eax
    pop [{state} + AT_EBX]
    pop [{state} + AT_EDX]
    pop [{state} + AT_ECX]
    pop [{state} + AT_EAX]
    pop eax
    sub eax, offset legacy_entries + 5
    shr eax, 3
    mov [{state} + AT_VECTOR], eax
    mov eax, cr2
    mov [{state} + AT_FAULT_CR2], eax
    mov eax, cr0
    mov [{state} + AT_FAULT_CR0], eax
    mov esi, esp
    mov edi, offset {state} + AT_FRAME
    mov ecx, FRAME_WORDS
    rep movs dword ptr es:[edi], dword ptr ss:[esi]
    mov byte ptr [{state} + AT_FAULTED], 1
    mov eax, DATA
    mov ss, eax
    mov esp, offset {stack} + {STACK_SIZE}
    # Nested task and single-stepping end here.
    push 2
    popfd
    jmp return_to_long_mode

# An exception in real mode: an entry of 4 bytes for each of the first vectors.
.code16
.balign 4
.global real_mode_entries
real_mode_entries:
.rept 16
    .balign 4
    .byte 0xe8                  # CALL; the mnemonic means the 32-bit one
    .short real_mode_event - . - 2
.endr

real_mode_event:
    pop word ptr cs:[{state} + AT_VECTOR]
    sub word ptr cs:[{state} + AT_VECTOR], offset real_mode_entries + 3
    shr word ptr cs:[{state} + AT_VECTOR], 2
    pop word ptr cs:[{state} + AT_FRAME]
    pop word ptr cs:[{state} + AT_FRAME + 4]
    pop word ptr cs:[{state} + AT_FRAME + 8]
    mov byte ptr cs:[{state} + AT_FAULTED], 1
    mov dword ptr cs:[{state} + AT_EAX], eax
    mov dword ptr cs:[{state} + AT_EBX], ebx
    mov dword ptr cs:[{state} + AT_ECX], ecx
    mov dword ptr cs:[{state} + AT_EDX], edx
    mov dword ptr cs:[{state} + AT_ESI], esi
    mov dword ptr cs:[{state} + AT_EDI], edi
    mov dword ptr cs:[{state} + AT_EBP], ebp
    jmp return_to_protected_mode

# A call of the BIOS: the vector is written into the instruction.
.global bios_interrupt
bios_interrupt:
    .byte 0xcd
.global bios_vector
bios_vector:
    .byte 0
    ret
.code64
