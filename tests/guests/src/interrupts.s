# An entry of 16 bytes for each vector: all leave an error code and the vector on the stack.
.set VECTORS_WITH_ERROR_CODE, 0x60227d00

.section .text.interrupts, "ax"
.balign 16
.global interrupt_entries
interrupt_entries:
.set vector, 0
.rept 256
    .balign 16
    .if (vector >= 32) || ((VECTORS_WITH_ERROR_CODE >> (vector & 31)) & 1) == 0
    push 0
    .endif
    push vector
    jmp interrupt_common
    .set vector, vector + 1
.endr

interrupt_common:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    mov rbx, rsp
    and rsp, -16
    call {interrupt}
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

# catch_call(function, data): 0 if the function returned, 1 if an event ended it.
.global catch_call
catch_call:
    pushfq
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push qword ptr [{CATCH_RSP}]
    mov [{CATCH_RSP}], rsp
    sub rsp, 8
    mov rax, rdi
    mov rdi, rsi
    call rax
    xor eax, eax
catch_return:
    mov rsp, [{CATCH_RSP}]
    pop qword ptr [{CATCH_RSP}]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    popfq
    ret

.global catch_leave
catch_leave:
    mov eax, {DATA}
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, 1
    jmp catch_return
