; kexec KERNEL INITRD: loads the kernel with the command line of the one that runs, and starts it.
; A program of 64-bit Linux. Ends with the number of an error.
BITS 64
global _start

O_RDONLY equ 0
SYS_READ equ 0
SYS_OPEN equ 2
SYS_EXIT equ 60
SYS_REBOOT equ 169
SYS_KEXEC_FILE_LOAD equ 320
; reboot(2)
REBOOT_MAGIC1 equ 0xfee1dead
REBOOT_MAGIC2 equ 0x28121969
REBOOT_KEXEC equ 0x45584543

section .text
_start:
    mov rdi, [rsp + 16]
    call open
    mov r12, rax
    mov rdi, [rsp + 24]
    call open
    mov r13, rax
    mov rdi, command_line_file
    call open
    mov rdi, rax
    mov rsi, command_line
    mov edx, COMMAND_LINE_BYTES
    mov eax, SYS_READ
    syscall
    test rax, rax
    jle failed
    ; The end of the line becomes the end of the text.
    mov byte [command_line + rax - 1], 0
    mov rdi, r12
    mov rsi, r13
    mov rdx, rax
    mov r10, command_line
    xor r8d, r8d
    mov eax, SYS_KEXEC_FILE_LOAD
    syscall
    test rax, rax
    js failed
    mov edi, REBOOT_MAGIC1
    mov esi, REBOOT_MAGIC2
    mov edx, REBOOT_KEXEC
    mov eax, SYS_REBOOT
    syscall
failed:
    neg eax
    mov edi, eax
    mov eax, SYS_EXIT
    syscall

; The descriptor of the file rdi.
open:
    mov esi, O_RDONLY
    mov eax, SYS_OPEN
    syscall
    test rax, rax
    js failed
    ret

section .data
command_line_file: db '/proc/cmdline', 0

section .bss
COMMAND_LINE_BYTES equ 2048
command_line: resb COMMAND_LINE_BYTES
section .note.GNU-stack noalloc noexec nowrite progbits
