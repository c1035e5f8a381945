; read-rate FILE BYTES DEPTH COUNT MULTIPLIER
;
; Reads COUNT blocks of BYTES from FILE past the page cache (O_DIRECT), with DEPTH requests on their
; way at once (Linux AIO), and prints "ticks HEX": those of the time-stamp counter that it took. The
; blocks, of which FILE has a power of two, come in the order of the generator n -> n * MULTIPLIER + 1:
; one after the other for 1, at random for a multiple of 4 and one. Each block has to begin with its
; own place in FILE, in bytes, as 8 of them.
;
; read-rate - BYTES ROUNDS copies BYTES in memory so often, as Linux does on a processor without fast
; copies of single bytes, and prints the same.
;
; A program of 64-bit Linux. Ends with 1 if a call fails, with 2 if a block is wrong.
BITS 64
global _start

SYS_WRITE equ 1
SYS_OPEN equ 2
SYS_LSEEK equ 8
SYS_MMAP equ 9
SYS_EXIT equ 60
SYS_IO_SETUP equ 206
SYS_IO_GETEVENTS equ 208
SYS_IO_SUBMIT equ 209

O_DIRECT equ 0x4000
SEEK_END equ 2
PROT_READ_WRITE equ 3
MAP_PRIVATE_ANONYMOUS_POPULATE equ 0x8022

MAX_DEPTH equ 64

; struct iocb, whose operation 0 is a read.
struc iocb
    .data: resq 1
    .key: resq 1
    .opcode: resd 1
    .fildes: resd 1
    .buf: resq 1
    .nbytes: resq 1
    .offset: resq 1
    .rest: resq 2
endstruc

; struct io_event
struc event
    .data: resq 1
    .obj: resq 1
    .res: resq 1
    .res2: resq 1
endstruc

%macro number_argument 2        ; which, where to
    mov rsi, [rsp + 8 + 8 * %1]
    call parse
    mov [%2], rax
%endmacro

section .text
_start:
    number_argument 2, bytes
    mov rdi, [rsp + 16]
    cmp byte [rdi], '-'
    je copy
    number_argument 3, depth
    number_argument 4, count
    number_argument 5, multiplier
    cmp qword [depth], MAX_DEPTH
    ja failed
    mov rdi, [rsp + 16]
    mov esi, O_DIRECT
    mov eax, SYS_OPEN
    syscall
    test rax, rax
    js failed
    mov r12, rax
    mov rdi, rax
    xor esi, esi
    mov edx, SEEK_END
    mov eax, SYS_LSEEK
    syscall
    xor edx, edx
    div qword [bytes]
    dec rax
    mov [mask], rax
    mov rsi, [depth]
    imul rsi, [bytes]
    call allocate
    mov r13, rax
    mov rdi, [depth]
    mov rsi, context
    mov eax, SYS_IO_SETUP
    syscall
    test rax, rax
    jnz failed
    ; The first requests. rbx: how many are to be submitted; r14: how many have been made.
    rdtsc
    call keep_start
    xor ebx, ebx
    xor r14d, r14d
    mov rbp, requests
.first:
    mov [rbp + iocb.fildes], r12d
    mov [rbp + iocb.buf], r13
    mov rax, [bytes]
    mov [rbp + iocb.nbytes], rax
    add r13, rax
    call make
    add rbp, iocb_size
    cmp rbx, [depth]
    jb .first
    ; r15: how many are done.
    xor r15d, r15d
.submit:
    mov r13, pointers
.rest:
    mov rdi, [context]
    mov rsi, rbx
    mov rdx, r13
    mov eax, SYS_IO_SUBMIT
    syscall
    test rax, rax
    js failed
    lea r13, [r13 + 8 * rax]
    sub rbx, rax
    jnz .rest
.await:
    mov rdi, [context]
    mov esi, 1
    mov rdx, [depth]
    mov r10, events
    xor r8d, r8d
    mov eax, SYS_IO_GETEVENTS
    syscall
    test rax, rax
    jle failed
    add r15, rax
    mov r13, rax
    mov r12, events
.done:
    mov rbp, [r12 + event.obj]
    mov rax, [bytes]
    cmp [r12 + event.res], rax
    jne failed
    mov rax, [rbp + iocb.buf]
    mov rax, [rax]
    cmp rax, [rbp + iocb.offset]
    jne wrong
    cmp r14, [count]
    jae .no_more
    call make
.no_more:
    add r12, event_size
    dec r13
    jnz .done
    test rbx, rbx
    jnz .submit
    cmp r15, [count]
    jb .await
    jmp report

; Makes the request at rbp the next one to be submitted.
make:
    mov rax, [block]
    imul rax, [multiplier]
    inc rax
    and rax, [mask]
    mov [block], rax
    imul rax, [bytes]
    mov [rbp + iocb.offset], rax
    mov [pointers + 8 * rbx], rbp
    inc rbx
    inc r14
    ret

copy:
    number_argument 3, count
    mov rsi, [bytes]
    call allocate
    mov r12, rax
    mov rsi, [bytes]
    call allocate
    mov r13, rax
    rdtsc
    call keep_start
.again:
    mov rsi, r12
    mov rdi, r13
    mov rcx, [bytes]
    shr rcx, 3
    rep movsq
    dec qword [count]
    jnz .again

; Prints the ticks since the start.
report:
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [start]
    mov ecx, 16
.digit:
    mov edx, eax
    and edx, 15
    mov dl, [hex + rdx]
    mov [digits + rcx - 1], dl
    shr rax, 4
    loop .digit
    mov edi, 1
    mov rsi, line
    mov edx, LINE_BYTES
    mov eax, SYS_WRITE
    syscall
    xor edi, edi
    jmp exit
wrong:
    mov edi, 2
    jmp exit
failed:
    mov edi, 1
exit:
    mov eax, SYS_EXIT
    syscall

; The start is the time-stamp counter in edx:eax.
keep_start:
    shl rdx, 32
    or rax, rdx
    mov [start], rax
    ret

; rsi bytes of memory at rax.
allocate:
    xor edi, edi
    mov edx, PROT_READ_WRITE
    mov r10d, MAP_PRIVATE_ANONYMOUS_POPULATE
    mov r8, -1
    xor r9d, r9d
    mov eax, SYS_MMAP
    syscall
    cmp rax, -4096
    ja failed
    ret

; The decimal number rsi points to.
parse:
    xor eax, eax
.digit:
    movzx edx, byte [rsi]
    sub edx, '0'
    cmp edx, 9
    ja .end
    lea rax, [rax + 4 * rax]
    lea rax, [rdx + 2 * rax]
    inc rsi
    jmp .digit
.end:
    ret

section .data
hex: db '0123456789abcdef'
line: db 'ticks '
digits: db '................', 10
LINE_BYTES equ $ - line

section .bss
bytes: resq 1
depth: resq 1
count: resq 1
multiplier: resq 1
mask: resq 1
block: resq 1
start: resq 1
context: resq 1
requests: resb MAX_DEPTH * iocb_size
pointers: resq MAX_DEPTH
events: resb MAX_DEPTH * event_size
section .note.GNU-stack noalloc noexec nowrite progbits
