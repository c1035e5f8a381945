; The attacks, assembled for 32-bit code and for 64-bit code: all that is addressed lies below 4 GiB.

%if __BITS__ == 64
  %define xax rax
  %define xbx rbx
  %define xcx rcx
  %define xdx rdx
  %define xsi rsi
  %define xdi rdi
  %define xbp rbp
  %define xsp rsp
  %define pushfx pushfq
  %define popfx popfq
  %define IDT_LIMIT 4095
%else
  %define xax eax
  %define xbx ebx
  %define xcx ecx
  %define xdx edx
  %define xsi esi
  %define xdi edi
  %define xbp ebp
  %define xsp esp
  %define pushfx pushfd
  %define popfx popfd
  %define IDT_LIMIT 2047
%endif

; Every attack begins and ends here.
.step:
    mov xsp, STACK_TOP
    cld
    lgdt [.gdt_pointer]
    lidt [.idt_pointer]
    mov dword [ticks], 0
    dec dword [steps]
    js .over
    mov eax, [kept_cr4]
    mov cr4, xax
    mov eax, [kept_cr3]
    mov cr3, xax
    mov eax, [kept_cr0]
    mov cr0, xax
    call .start_timer
    sti
    mov eax, [attacked]
    cmp eax, 15
    jne .chosen
    mov ecx, ATTACKS
    call .below
.chosen:
    mov eax, [.attacks + xax * 4]
    jmp xax

.attacks:
    dd .port, .port_string, .msr, .control_register, .special, .device_instruction, .random_bytes, .pci
    dd .ide, .fw_cfg, .far_transfer, .broken_gate, .interrupts, .vga, .long_repeat, .port
ATTACKS equ 15

; An exception: the step is over. IRET opens NMIs again.
.fault:
    mov ax, DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov xsp, STACK_TOP
%if __BITS__ == 64
    push DATA
    push STACK_TOP
%endif
    push 2
    mov ax, cs
    push xax
    push .step
%if __BITS__ == 64
    iretq
%else
    iretd
%endif

; An interrupt: too many of them end the step.
.interrupt:
    push xax
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
    mov eax, LOCAL_APIC
    mov dword [xax + 0xb0], 0       ; end of interrupt
    inc dword [ticks]
    cmp dword [ticks], PATIENCE_TICKS
    ja .fault
    pop xax
%if __BITS__ == 64
    iretq
%else
    iretd
%endif

; The 8259 pair at vectors 32 and on, all lines open, and the 8254 at 1 kHz: it ends steps that do not end.
.start_timer:
    mov al, 0x11
    out 0x20, al
    out 0xa0, al
    mov al, 32
    out 0x21, al
    mov al, 40
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    xor eax, eax
    out 0x21, al
    out 0xa1, al
    mov al, 0x34
    out 0x43, al
    mov al, MILLISECOND & 0xff
    out 0x40, al
    mov al, MILLISECOND >> 8
    out 0x40, al
    ret

; eax: the next random number (xorshift). Nothing else changes but flags.
.random:
    push xdx
    mov eax, [random_state]
    mov edx, eax
    shl edx, 13
    xor eax, edx
    mov edx, eax
    shr edx, 17
    xor eax, edx
    mov edx, eax
    shl edx, 5
    xor eax, edx
    mov [random_state], eax
    pop xdx
    ret

; eax: random and below ecx.
.below:
    push xdx
    call .random
    mul ecx
    mov eax, edx
    pop xdx
    ret

; eax: random, mostly of few bits.
.number:
    push xcx
    call .random
    mov ecx, eax
    call .random
    shr eax, cl
    pop xcx
    ret

; eax: an address of one of the ecx ranges at esi.
.pick:
    push xsi
    call .below
    lea esi, [xsi + xax * 8]
    call .random
    and eax, [xsi + 4]
    add eax, [xsi]
    pop xsi
    ret

; eax: an address in a device or, less often, in memory that is not the guest's program.
.address:
    call .random
    test eax, 3
    jz .in_memory
    push xcx
    push xsi
    mov esi, device_memory
    mov ecx, device_memory_count
    call .pick
    pop xsi
    pop xcx
    ret
.in_memory:
    call .random
    and eax, 0x1ffffff
    add eax, 0x200000
    ret

; Random contents for all registers; the pointers are addresses.
.registers:
    call .address
    mov ebx, eax
    call .address
    mov esi, eax
    call .address
    mov edi, eax
    call .number
    mov ebp, eax
    call .number
    mov edx, eax
    call .number
    mov ecx, eax
    call .number
    ret

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
    cmp ecx, 0x28                   ; QEMU 7.2 loses its own list of breakpoints when VMRUN replaces DR7 (or DR5), and crashes
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

; Far calls, jumps and returns to whatever a selector means: task states, gates, other rings, virtual-8086 mode.
.far_transfer:
    mov ecx, GARBAGE_BYTES / 4      ; other task states than before
    mov edi, GARBAGE
    call .below
    lea edi, [xdi + xax * 4]
    call .number
    mov [xdi], eax
    call .random
    mov [far_pointer], eax
    call .random
    and eax, GDT_BYTES - 1
    mov [far_pointer + 4], eax
    mov [far_pointer + 8], eax
    mov ecx, 6
    call .below
    dec eax
    js .far_call
    jz .far_jump
    dec eax
    jz .load_task
    dec eax
    jz .far_return
    dec eax
    jz .nested_return
    call .random                    ; to virtual-8086 mode, or another ring
    mov edx, eax
    push xdx
    push xdx
    push xdx
    push xdx
    push xdx
    push xdx
    call .random
    or eax, 0x20202
    push xax
    and edx, GDT_BYTES - 1
    push xdx
    push CODE
%if __BITS__ == 64
    iretq
%else
    iretd
%endif
.far_call:
    call far [far_pointer]
    jmp .step
.far_jump:
    jmp far [far_pointer]
.load_task:
    mov eax, [far_pointer + 4]
    and dword [xax + GDT + 4], ~0x200   ; not busy
    ltr ax
    jmp .step
.far_return:
    mov eax, [far_pointer + 4]
    push xax
    push .step
    retf
.nested_return:
    mov eax, [far_pointer + 4]      ; back to another task
    mov [GARBAGE], eax
    mov ax, TASK
    and dword [GDT + TASK + 4], ~0x200
    ltr ax
    pushfx
    or dword [xsp], 1 << 14
    popfx
%if __BITS__ == 64
    iretq
%else
    iretd
%endif

; An event through a descriptor table that is broken somewhere, seldom everywhere.
.broken_gate:
    mov esi, IDT
    mov edi, BROKEN_IDT
    mov ecx, 1024
    rep movsd
    call .random
    test eax, 0x7f000
    jnz .one
    mov edi, BROKEN_IDT
    mov ecx, 64
.all:
    call .random
    stosd
    loop .all
.one:
    mov ecx, 40
    call .below
    mov ebp, eax
%if __BITS__ == 64
    shl eax, 1
%endif
    lea edi, [xax * 8 + BROKEN_IDT]
    mov ecx, 4
    call .below
    call .broken_bytes
    mov edi, CODE
    mov eax, 0xcd                   ; int n
    stosb
    mov eax, ebp
    stosb
    mov eax, 0x0b0f                 ; ud2
    stosw
    call .end_code
    lidt [.broken_idt_pointer]
    call .random
    test eax, 1
    jz CODE
    jmp .run_code
.broken_bytes:
    call .random
    and eax, 7
    mov edx, eax
    call .random
    mov [xdi + xdx], ax
    ret

; Interrupts from everywhere: the local APIC to itself and by its timer, the I/O APIC, the HPET, the real-time clock.
.interrupts:
    mov ecx, 6
    call .below
    dec eax
    js .apic_register
    jz .to_itself
    dec eax
    jz .io_apic
    dec eax
    jz .hpet
    dec eax
    jz .apic_timer
    call .random
    and eax, 0xf
    out 0x70, al
    call .number
    out 0x71, al
    jmp .wait
.apic_register:
    call .random
    and eax, 0x3f0
    mov ebx, LOCAL_APIC
    add ebx, eax
    call .number
    mov [xbx], eax
    jmp .wait
.to_itself:
    call .random
    and eax, 0x47ff                 ; any delivery mode: fixed, SMI, NMI, INIT, start-up
    mov edx, eax
    and edx, 0x700
    cmp edx, 0x500
    jne .send
    call .random
    test eax, 0x3f00                ; INIT ends the round
    jnz .step
    mov eax, 0x4500
.send:
    or eax, 0x40000
    mov ebx, LOCAL_APIC
    mov [xbx + 0x300], eax
    jmp .wait
.io_apic:
    call .random
    and eax, 0x3f
    mov ebx, IO_APIC
    mov [xbx], eax
    call .random
    and eax, 0x1ffff
    mov [xbx + 0x10], eax
    jmp .wait
.hpet:
    call .random
    and eax, 0x1f8
    mov esi, eax
    mov ebx, HPET
    call .number
    mov [xbx + xsi], eax
    mov dword [xbx + 0x10], 1
    jmp .wait
.apic_timer:
    mov ebx, LOCAL_APIC
    mov dword [xbx + 0xf0], 0x1ff
    call .random
    and eax, 0x60030
    or eax, 0x40
    mov [xbx + 0x320], eax
    mov dword [xbx + 0x3e0], 0xb
    call .number
    shr eax, 16
    mov [xbx + 0x380], eax
.wait:
    mov ecx, 100
.nap:
    pause
    loop .nap
    call .random
    test eax, 7
    jnz .step
    hlt
    jmp .step

; Display modes that no display has, and what is drawn in them.
.vga:
    mov ebx, 8
.registers_of_vga:
    call .random
    test eax, 0x100
    jz .plain_register
    mov ecx, 11
    call .below
    mov edx, 0x1ce
    out dx, ax
    call .number
    mov edx, 0x1cf
    out dx, ax
    jmp .next_register
.plain_register:
    and eax, 0xf
    lea edx, [xax + 0x3c0]
    call .random
    and ah, 0x1f
    xchg al, ah
    out dx, ax
    out dx, al
.next_register:
    dec ebx
    jnz .registers_of_vga
    call .random
    and eax, 0x1ffff
    lea edi, [xax + 0xa0000]
    mov esi, edi
    mov ecx, 200
    rep movsb
    jmp .step

; String instructions that would go on for ever, through devices and off the end.
.long_repeat:
    mov edi, CODE
    mov al, 0xf3
    stosb
    mov ecx, 10
    call .below
    mov al, [xax + .strings]
    stosb
    call .end_code
    call .registers
    call .random
    mov ecx, eax
    test eax, 3
    jnz CODE
    std
    jmp CODE
.strings: db 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf

; All steps are done: the machine is reset, in one way or another.
.over:
    cli
    call .open_serial
    mov esi, survived
    call .print
    mov ecx, 8
    call .below
    dec eax
    js .triple_fault
    jz .keyboard_reset
    dec eax
    jz .fast_reset
    dec eax
    jz .power_off
    dec eax
    jz .init
    dec eax
    jz .nowhere
    dec eax
    jz .hang
    mov edx, 0xcf9
    mov al, 6
    out dx, al
.hang:
    hlt
    jmp .hang
.triple_fault:
    lidt [.no_idt_pointer]
    ud2
.keyboard_reset:
    mov al, 0xfe
    out 0x64, al
    jmp .hang
.fast_reset:
    in al, 0x92
    or al, 1
    out 0x92, al
    jmp .hang
.power_off:
    mov edx, 0x604
    mov ax, 0x2000                  ; S5
    out dx, ax
    jmp .hang
.init:
    mov ebx, LOCAL_APIC
    mov dword [xbx + 0x300], 0x44500
    jmp .hang
.nowhere:
    mov eax, 0xe0000000             ; instructions where nothing is
    jmp xax

; COM1 at its fastest, without interrupts.
.open_serial:
    mov edx, COM1 + 3
    mov al, 0x80
    out dx, al
    mov edx, COM1
    mov al, 1
    out dx, al
    inc edx
    xor al, al
    out dx, al
    mov edx, COM1 + 3
    mov al, 3
    out dx, al
    inc edx
    xor al, al
    out dx, al
    mov edx, COM1 + 1
    out dx, al
    inc edx
    mov al, 7
    out dx, al
    ret

; The text at esi.
.print:
    mov edx, COM1 + 5
    mov ecx, 1000000
.full:
    in al, dx
    test al, 0x20
    jnz .put
    loop .full
.put:
    mov edx, COM1
    mov al, [xsi]
    test al, al
    jz .printed
    out dx, al
    inc esi
    jmp .print
.printed:
    ret

.gdt_pointer:
    dw GDT_BYTES - 1
    dd GDT, 0
.idt_pointer:
    dw IDT_LIMIT
    dd IDT, 0
.broken_idt_pointer:
    dw IDT_LIMIT
    dd BROKEN_IDT, 0
.no_idt_pointer:
    dw 0
    dd 0, 0
