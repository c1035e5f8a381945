# An option ROM for the guest's BIOS: it reads CDs by one request to the hypervisor (devices::boot_disk) where the BIOS
# would move every sector through ports. Requests that the hypervisor does not serve, or not in time, go to the BIOS as
# before.
#
# The BIOS runs the ROM's start code while option ROM memory can still be written.

.set UNIT_BYTES, 512
.set INT13_VECTOR, 0x13 * 4
# Result of the last disk operation, in the BIOS data area.
.set LAST_STATUS, 0x474
# Ticks of 55 ms since midnight, by the BIOS.
.set TICKS, 0x46c
# As long as SeaBIOS waits for a drive: 32 s.
.set PATIENCE_TICKS, 583
.set EXTENDED_READ, 0x42
.set FIRST_CD, 0xe0

.section .rodata.boot_rom, "a"
.code16
.balign 16
.global boot_rom_start
boot_rom_start:
    .byte 0x55, 0xaa
    .byte (boot_rom_end - boot_rom_start) / UNIT_BYTES
    jmp start
    .skip 0x1a - (. - boot_rom_start)
    .short expansion_header - boot_rom_start

# Plug and Play BIOS specification 1.0A, section 3.2: a ROM with this header and no boot vectors is started before the
# boot order is made, and is nothing to boot from itself.
.balign 16
expansion_header:
    .ascii "$PnP"
    .byte 1, 2                  # revision, length in 16 bytes
    .short 0                    # no further header
    .byte 0
    .byte 0xcb                  # makes the header's sum zero
    .skip 22
expansion_header_end:

start:
    push ds
    push eax
    push ebx
    xor ax, ax
    mov ds, ax
    mov ebx, dword ptr [INT13_VECTOR]
    mov dword ptr cs:[OLD_VECTOR], ebx
    mov ax, cs
    shl eax, 16
    mov ax, offset HANDLER
    mov dword ptr [INT13_VECTOR], eax
    # The ROM's sum stays zero.
    mov eax, ebx
    shr eax, 16
    add al, ah
    add al, bl
    add al, bh
    sub byte ptr cs:[CHECKSUM], al
    pop ebx
    pop eax
    pop ds
    xor ax, ax
    .byte 0xcb                  # RETF; the mnemonic means the 32-bit one

handler:
    cmp ah, EXTENDED_READ
    jne chain
    cmp dl, FIRST_CD
    jb chain
    push edx
    push eax
    # Virtual-8086 mode has its own ideas of addresses and ports.
    smsw ax
    test al, 1
    jnz restore
    # The request: the drive in bits 31 to 24, the address of the packet at DS:SI below.
    shl edx, 24
    mov dx, si
    mov ax, ds
    movzx eax, ax
    shl eax, 4
    add eax, edx
    mov dx, {port}
    out dx, eax
    push ds
    push bx
    xor ax, ax
    mov ds, ax
    mov bx, word ptr [TICKS]
poll:
    in al, dx
    cmp al, {busy}
    jne polled
    # The disc takes its time; interrupts are served meanwhile, as by the BIOS when it waits.
    sti
    pause
    cli
    mov ax, word ptr [TICKS]
    sub ax, bx
    cmp ax, PATIENCE_TICKS
    jb poll
    # A request for no drive: the one before is forgotten.
    xor eax, eax
    out dx, eax
    in al, dx
polled:
    test al, al
    jnz answered
    mov byte ptr [LAST_STATUS], al
answered:
    pop bx
    pop ds
    jnz restore
    pop eax
    pop edx
    # Done: AH is 0, and carry is clear in the flags that IRET restores.
    xor ah, ah
    push bp
    mov bp, sp
    and byte ptr [bp + 6], 0xfe
    pop bp
    iret
restore:
    pop eax
    pop edx
chain:
    ljmp cs:[OLD_VECTOR]

.balign 4
old_vector:
    .long 0

    .skip UNIT_BYTES - 1 - (. - boot_rom_start)
boot_rom_last:
    .byte 0
.global boot_rom_end
boot_rom_end:

.set OLD_VECTOR, old_vector - boot_rom_start
.set HANDLER, handler - boot_rom_start
.set CHECKSUM, boot_rom_last - boot_rom_start
.code64
