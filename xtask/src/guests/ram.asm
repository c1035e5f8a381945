; A guest that says on COM1 where its RAM lies, and tries it. Each range of the BIOS's map is a line
; "RAM map BASE LENGTH TYPE", in hexadecimal; "RAM cmos" has the bytes 34h, 35h (RAM from 16 MiB on,
; in units of 64 KiB) and 5Bh to 5Dh (the same from 4 GiB on) of CMOS. Then each range of RAM from 1
; MiB on gets the address of each 64 MiB there, and of its last eight bytes, and is read again when
; all are written: "RAM right" or "RAM wrong".

RANGES      equ 0x8000          ; base, length: 8 bytes each
RANGE_BYTES equ 16
ENTRY       equ 0x9000          ; of the BIOS's map: base, length, type
ENTRY_BYTES equ 20
POINTERS    equ 0x10000         ; page directory pointers of PAE
DIRECTORY   equ 0x11000         ; one page directory: two pages of 2 MiB
WINDOW      equ 0x200000        ; the second
WINDOW_MASK equ 0x1fffff
PRESENT     equ 1
LARGE       equ 0x83            ; present, writable, 2 MiB
STRIDE      equ 0x4000000
MEMORY_MAP  equ 0xe820
SIGNATURE   equ 'PAMS'          ; "SMAP"
RAM         equ 1
CR0_PE      equ 1
CR0_PG      equ 0x80000000
CR4_PAE     equ 0x20
CODE_32     equ 8
DATA_32     equ 16
CODE_16     equ 24
DATA_16     equ 32

%include "enter.asm"
    call open_serial
    mov dword [end_of_ranges], RANGES
    xor ebx, ebx
next_entry:
    mov eax, MEMORY_MAP
    mov edx, SIGNATURE
    mov ecx, ENTRY_BYTES
    mov di, ENTRY
    int 0x15
    cli
    jc mapped
    push ebx
    call note_entry
    pop ebx
    test ebx, ebx
    jnz next_entry
mapped:
    mov si, said_cmos
    call say
    mov si, cmos_bytes
    mov cx, cmos_bytes_end - cmos_bytes
next_cmos_byte:
    lodsb
    out 0x70, al
    in al, 0x71
    call say_byte
    loop next_cmos_byte

    mov di, POINTERS >> 4       ; empty tables
    mov es, di
    xor di, di
    mov cx, 0x1000
    xor ax, ax
    rep stosw
    mov dword [es:0], DIRECTORY | PRESENT
    mov dword [es:DIRECTORY - POINTERS], LARGE
    lgdt [gdt_pointer]
    mov eax, cr4
    or eax, CR4_PAE
    mov cr4, eax
    mov eax, POINTERS
    mov cr3, eax
    mov eax, cr0
    or eax, CR0_PE | CR0_PG
    mov cr0, eax
    jmp CODE_32:protected

; Says what is in ENTRY, and notes it if it is RAM from 1 MiB on.
note_entry:
    mov si, said_map
    call say
    mov si, ENTRY + 7
    call say_quad
    mov si, ENTRY + 15
    call say_quad
    mov al, [ENTRY + 16]
    call say_byte
    cmp dword [ENTRY + 16], RAM
    jne .done
    cmp dword [ENTRY + 4], 0
    jne .note
    cmp dword [ENTRY], 0x100000
    jb .done
.note:
    mov si, ENTRY
    mov di, [end_of_ranges]
    mov cx, RANGE_BYTES
    rep movsb
    mov [end_of_ranges], di
.done:
    ret

; Says the eight bytes that end at SI, the last first, and a blank.
say_quad:
    mov cx, 8
.next:
    mov al, [si]
    dec si
    call say_byte
    loop .next
    mov al, ' '
    jmp send

%include "serial.asm"

BITS 32
protected:
    mov ax, DATA_32
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov ebp, write
    call for_all_places
    mov ebp, compare
    call for_all_places
    jmp CODE_16:leave_paging

; Calls EBP with each place's address in EDX:EAX, and in EDI where it is seen.
for_all_places:
    mov esi, RANGES
.range:
    cmp esi, [end_of_ranges]
    je .done
    mov ebx, [esi]
    mov ecx, [esi + 4]
    add ebx, [esi + 8]
    adc ecx, [esi + 12]
    sub ebx, 8                  ; the last place
    sbb ecx, 0
    mov eax, [esi]
    mov edx, [esi + 4]
.place:
    call show
    add eax, STRIDE
    adc edx, 0
    cmp edx, ecx
    jb .place
    ja .last
    cmp eax, ebx
    jb .place
.last:
    mov eax, ebx
    mov edx, ecx
    call show
    add esi, RANGE_BYTES
    jmp .range
.done:
    ret

; Puts the window at EDX:EAX and calls EBP.
show:
    mov edi, eax
    and edi, ~WINDOW_MASK
    or edi, LARGE
    mov [DIRECTORY + 8], edi
    mov [DIRECTORY + 12], edx
    invlpg [WINDOW]
    mov edi, eax
    and edi, WINDOW_MASK
    add edi, WINDOW
    jmp ebp

write:
    mov [edi], eax
    mov [edi + 4], edx
    ret

compare:
    cmp [edi], eax
    jne .differs
    cmp [edi + 4], edx
    je .equal
.differs:
    mov dword [verdict], said_wrong
.equal:
    ret

BITS 16
leave_paging:
    mov ax, DATA_16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, cr0
    and eax, ~(CR0_PE | CR0_PG)
    mov cr0, eax
    jmp 0:real
real:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov si, [verdict]
    call say
halt:
    hlt
    jmp halt

align 8
gdt:
    dq 0
    dq 0x00cf9a000000ffff       ; code, 32 bits, 4 GiB from 0
    dq 0x00cf92000000ffff       ; data, the same
    dq 0x00009a000000ffff       ; code, 16 bits, 64 KiB
    dq 0x000092000000ffff       ; data, the same
gdt_pointer:
    dw gdt_pointer - gdt - 1
    dd gdt
cmos_bytes:
    db 0x34, 0x35, 0x5b, 0x5c, 0x5d
cmos_bytes_end:
end_of_ranges:
    dd 0
verdict:
    dd said_right
said_map:
    db 13, 10, "RAM map ", 0
said_cmos:
    db 13, 10, "RAM cmos ", 0
said_right:
    db 13, 10, "RAM right", 13, 10, 0
said_wrong:
    db 13, 10, "RAM wrong", 13, 10, 0
