; Attacks by way of devices that read and write memory: PCI functions that move, drives, fw_cfg.

; Any register of a PCI function, also to move its parts over others; then what is there now.
.pci:
    call .random
    and eax, 0x1fff                 ; functions of the devices 0 to 3
    test eax, 0x1000
    jz .configure
    and eax, 0xf1c | 0x1000         ; base addresses
    or eax, 0x10
.configure:
    or eax, 0x80000000
    mov edx, 0xcf8
    out dx, eax
    call .address
    mov ebx, eax
    call .random
    test eax, 1
    jz .write_register
    call .number
    xchg ebx, eax
    mov esi, eax
.write_register:
    mov eax, ebx
    mov edx, 0xcfc
    out dx, eax
    in eax, dx
    mov ebx, eax
    call .random
    test eax, 7
    jnz .no_command
    mov eax, 0x80001004             ; decoding on, for the display
    mov edx, 0xcf8
    out dx, eax
    mov eax, 7
    mov edx, 0xcfc
    out dx, eax
.no_command:
    and ebx, 0xfffffff0
    cmp ebx, 0x100000
    jb .step
    mov eax, [xbx]
    mov [xbx], eax
    jmp .step

; A command for a drive and a bus master with a table of hostile pieces.
.ide:
    mov edi, PRD_TABLE
    mov ecx, 64
.piece:
    call .address
    stosd
    call .random
    and eax, 0x0000ffff
    stosd
    call .random
    test eax, 0x1f
    jnz .next_piece
    mov byte [xdi - 1], 0x80        ; the end
.next_piece:
    loop .piece
    mov eax, 0x80000904             ; the function's command register, and where its bus master is
    mov edx, 0xcf8
    out dx, eax
    mov eax, 5
    mov edx, 0xcfc
    out dx, eax
    mov eax, 0x80000920
    mov edx, 0xcf8
    out dx, eax
    mov edx, 0xcfc
    in eax, dx
    and eax, 0xfff0
    mov ebx, eax
    call .random
    and eax, 8                      ; the channel
    add ebx, eax
    shl eax, 4
    mov ebp, 0x1f0
    sub ebp, eax
    mov eax, PRD_TABLE
    mov esi, eax
    call .random
    test eax, 7
    jnz .table_there
    call .address
    mov esi, eax
.table_there:
    mov eax, esi
    lea edx, [xbx + 4]
    out dx, eax
    lea edx, [xbp + 6]              ; drive and head
    call .random
    and al, 0x5f
    or al, 0xa0
    out dx, al
    mov ecx, 5                      ; features to LBA high
    lea edx, [xbp + 1]
.task_file:
    call .number
    out dx, al
    inc edx
    loop .task_file
    lea edx, [xbp + 1]
    mov al, 1
    out dx, al
    mov ecx, 13
    call .below
    mov al, [xax + .ide_commands]
    test al, al
    jnz .command
    call .random
.command:
    lea edx, [xbp + 7]
    out dx, al
    call .random                    ; perhaps a packet: READ (10), or whatever
    mov edx, ebp
    and eax, 0x300
    jz .start
    mov ecx, 5
    mov eax, 0x0028
    out dx, ax
.packet:
    call .number
    out dx, ax
    loop .packet
.start:
    mov edx, ebx
    call .random
    and eax, 9
    or eax, 1
    out dx, al
    add edx, 2
    in al, dx
    call .random
    out dx, al
    test eax, 0x100
    jz .step
    mov edx, ebx
    xor eax, eax
    out dx, al
    jmp .step
.ide_commands: db 0xa0, 0xa0, 0xa0, 0xc8, 0xca, 0x25, 0x35, 0x20, 0x30, 0xec, 0xa1, 0xef, 0

; A command for fw_cfg's DMA, or for the boot ROM's disk.
.fw_cfg:
    mov edi, FW_CFG_COMMAND
    call .random
    and eax, 0x1f00ff1f             ; big-endian: selector, then what to do
    stosd
    call .number
    bswap eax
    stosd
    xor eax, eax
    stosd
    call .address
    bswap eax
    stosd
    mov ebx, FW_CFG_COMMAND
    call .random
    test eax, 3
    jnz .command_there
    call .address
    mov ebx, eax
.command_there:
    xor eax, eax
    test ebx, 0x700
    jnz .near
    call .random
.near:
    mov edx, 0x514
    out dx, eax
    mov eax, ebx
    bswap eax
    mov edx, 0x518
    out dx, eax
    mov edi, FW_CFG_COMMAND
    mov eax, 0x00100010             ; a packet: its size, sectors
    stosb
    call .random
    and eax, 0x7f
    stosb
    dec edi
    mov eax, 0x00010010
    mov [FW_CFG_COMMAND], eax
    call .number
    mov [FW_CFG_COMMAND + 2], al
    call .random
    and eax, 0x7fffffff
    or eax, 0x60000000              ; from 6000:0 on
    mov [FW_CFG_COMMAND + 4], eax
    call .number
    mov [FW_CFG_COMMAND + 8], eax
    mov dword [FW_CFG_COMMAND + 12], 0
    mov edx, 0x5b0
    mov eax, 0xe0000000 | FW_CFG_COMMAND
    out dx, eax
    in al, dx
    jmp .step
