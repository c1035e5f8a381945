; A guest that loads and stores GDTR, IDTR, LDTR and TR, each once, when a byte comes to COM1, and says "DESCRIPTORS right" or
; "DESCRIPTORS wrong" then: whether what it stored is what it loaded.

CODE_SELECTOR  equ 8
DATA_SELECTOR  equ 16
TABLE_SELECTOR equ 24
TASK_SELECTOR  equ 32

%include "enter.asm"
    call open_serial
    mov si, ready
    call say
    call take_byte

    lgdt [loaded.gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp CODE_SELECTOR:protected
protected:
    mov ax, DATA_SELECTOR
    mov ds, ax
    lidt [loaded.idtr]
    lldt [loaded.ldtr]
    ltr [loaded.tr]
    sgdt [stored.gdtr]
    sidt [stored.idtr]
    sldt [stored.ldtr]
    str [stored.tr]
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp 0:real
real:
    xor ax, ax
    mov ds, ax

    mov si, loaded
    mov di, stored
    mov cx, stored - loaded
    repe cmpsb
    mov si, right
    je answer
    mov si, wrong
answer:
    call say
halt:
    hlt
    jmp halt

%include "serial.asm"

align 8
gdt:
    dq 0
    dq 0x00009a000000ffff       ; code, 16 bits
    dq 0x000092000000ffff       ; data
    dw 7, ldt
    dd 0x00008200               ; LDT
    dw 103, tss
    dd 0x00008900               ; TSS, available
ldt:
    dq 0
loaded:
.gdtr:
    dw loaded - gdt - 9
    dd gdt
.idtr:
    dw 0x3ff                    ; the BIOS's own
    dd 0
.ldtr:
    dw TABLE_SELECTOR
.tr:
    dw TASK_SELECTOR
stored:
.gdtr:
    times 6 db 0xcc
.idtr:
    times 6 db 0xcc
.ldtr:
    dw 0xcccc
.tr:
    dw 0xcccc
ready:
    db 13, 10, "DESCRIPTORS ready", 13, 10, 0
right:
    db 13, 10, "DESCRIPTORS right", 13, 10, 0
wrong:
    db 13, 10, "DESCRIPTORS wrong", 13, 10, 0
tss:
    times 104 db 0
