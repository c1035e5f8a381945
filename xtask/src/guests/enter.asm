; The beginning of a guest that the BIOS boots from a CD-ROM, as an El Torito image without
; emulation: segments of base 0, a stack below the code, interrupts off. To be included before the
; code, which follows it.

BITS 16
ORG 0x7c00

    jmp 0:enter
enter:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
