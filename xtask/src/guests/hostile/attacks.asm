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

%include "processor.asm"
%include "devices.asm"
%include "control_flow.asm"
%include "storms.asm"
%include "end.asm"
