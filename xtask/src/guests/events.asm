; A guest with two virtual CPUs, whose first sends events to the second by Xen's event channels, one
; after the other. It writes to COM1, by the BIOS, how many ticks of the time-stamp counter the
; quickest send took, and how many it took until the second one's handler was entered:
;     exit NAME 00000001 TICKS     (both hexadecimal)
; and at last "exits done". Both virtual CPUs wait by PAUSE: where one emulator runs them in turn, it
; goes on with the other one then, so that nothing else is counted.

ROUNDS      equ 64
VECTOR      equ 0x40
START       equ 0x6000          ; where the second one starts
STACK       equ 0x5000          ; of the second one
INFO_GFN    equ 0x20            ; the page of the shared info, and its segment
INFO        equ 0x2000
SECOND      equ 64              ; the second one's part of it, its selector, and the pending events
SELECTOR    equ SECOND + 4
PENDING     equ 2048

MEMORY_OP   equ 12
ADD_TO_PHYSMAP equ 7
EVENT_CHANNEL_OP equ 32
SEND_EVENT  equ 4
BIND_IPI    equ 7
HVM_OP      equ 34
SET_VECTOR  equ 23

%macro hypercall 3              ; group, command, structure
    mov eax, %1
    mov ebx, %2
    mov ecx, %3
    vmmcall
%endmacro

; The ticks since `before` are kept at %1 if they are less than what is there; the counter is in eax.
%macro keep_least 1
    sub eax, [before]
    cmp eax, [%1]
    jae %%more
    mov [%1], eax
%%more:
%endmacro

%macro report 2                 ; name, ticks
    mov si, %1
    call say
    mov bx, %2 + 3
    call say_number
%endmacro

%include "x2apic.asm"
%include "enter.asm"
    call open_serial
    own_interrupts come
    prepare_second second
    use_apic
    hypercall MEMORY_OP, ADD_TO_PHYSMAP, place
    or [errors], eax
    hypercall EVENT_CHANNEL_OP, BIND_IPI, channel
    or [errors], eax
    hypercall HVM_OP, SET_VECTOR, vector
    or eax, [errors]
    jnz failed
    start_second
    ; A first event may have been told when the vector was set.
wait_for_second:
    pause
    cmp byte [is_ready], 0
    je wait_for_second
    mov bp, ROUNDS
round:
    mov di, [count]
    inc di
    mov ebx, SEND_EVENT
    mov ecx, port
    rdtsc
    mov [before], eax
    mov eax, EVENT_CHANNEL_OP
    vmmcall
    mov esi, eax
    rdtsc
    test esi, esi
    jnz failed
    keep_least sending
wait_for_event:
    pause
    cmp [count], di
    jne wait_for_event
    mov eax, [received]
    keep_least receiving
    dec bp
    jnz round
    report sent, sending
    report came, receiving
    mov si, done
    jmp end
failed:
    mov si, failure
end:
    call say
halt:
    hlt
    jmp halt

; Sends the number whose last byte is at BX, and ends the line.
say_number:
    mov cx, 4
.next:
    mov al, [bx]
    push bx
    push cx
    call say_byte
    pop cx
    pop bx
    dec bx
    loop .next
    mov si, end_of_line
    jmp say

; The event.
come:
    push eax
    push ecx
    push edx
    rdtsc
    mov [received], eax
    mov byte [es:SECOND], 0
    mov dword [es:SELECTOR], 0
    mov dword [es:PENDING], 0
    write_msr END, 0, 0
    inc word [count]
    pop edx
    pop ecx
    pop eax
    iret

second:
    begin_second
    mov ax, INFO
    mov es, ax
    use_apic
    sti
    mov byte [is_ready], 1
rest:
    pause
    jmp rest

%include "serial.asm"

sent:
    db 13, 10, "exit send to another vCPU 00000001 ", 0
came:
    db "exit send to another vCPU until its handler is entered 00000001 ", 0
done:
    db "exits done"
end_of_line:
    db 13, 10, 0
failure:
    db "exits failed", 13, 10, 0

align 4
place:                          ; the shared info, of the guest itself, at INFO_GFN
    dw 0x7ff0, 0
    dd 0, 0, INFO_GFN
channel:                        ; to the second virtual CPU
    dd 1
port:
    dd 0
vector:
    dd 1, VECTOR
errors:
    dd 0
before:
    dd 0
received:
    dd 0
sending:
    dd -1
receiving:
    dd -1
count:
    dw 0
is_ready:
    db 0
