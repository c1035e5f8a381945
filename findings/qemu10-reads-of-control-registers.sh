#!/bin/sh
# QEMU 10.0's AMD-V (TCG, Debian qemu-system-x86 1:10.0.13+ds-0+deb13u1): reads of every control
# register are checked against the intercept of CR0 reads.
#
# A hypervisor that intercepts reads of CR4 (to keep CR4.MCE its own, say) gets no exit: its guest
# reads the register that is in the VMCB. One that intercepts reads of CR0 gets reads of CR2, CR3
# and CR4 too, with the exit code of CR0 reads. The manual has a bit and an exit code for each (APM
# volume 2, 15.8.1 and appendix C), a good guess is that a read of CR4 exits with code 4; QEMU 7.2
# does so. Writes are as they should be.
#
# In the source of 10.0.13, target/i386/tcg/decode-new.c.inc: the table's entry of 0F 20 has the
# intercept of CR0 reads, to which decode_op adds the register's number only if it is not 0; but
# SVM_EXIT_READ_CR0 is 0. (`has_intercept`, beside it, is what tells whether there is one.)
#
# Needs Linux on x86-64 with apt, dpkg-deb, Debian's keyring, and nasm.
set -eu
version=1:10.0.13+ds-0+deb13u1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir -p lists/partial archives/partial root
: > status
keys=/usr/share/keyrings/debian-archive-keyring.gpg
cat > sources.list <<END
deb [signed-by=$keys] http://deb.debian.org/debian trixie main
deb [signed-by=$keys] http://deb.debian.org/debian-security trixie-security main
END
from_trixie() {
    apt-get -qq -o APT::Sandbox::User= -o Dir::Etc::sourceparts=- -o Debug::NoLocking=1 \
        -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::State::status="$folder/status" \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder" "$@" > apt.log 2>&1 || {
        cat apt.log >&2
        exit 2
    }
}
from_trixie update
from_trixie install --yes --no-install-recommends --download-only "qemu-system-x86=$version"
for package in archives/*.deb; do
    dpkg-deb -x "$package" root
done

# A multiboot kernel that runs a guest, in protected mode without paging like itself, for one access
# to a control register at a time. Without an intercept the guest comes to its VMMCALL, code 81.
cat > host.asm <<'END'
        bits 32
        org 0x100000
vmcb    equ 0x200000
hsave   equ 0x201000
header: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        dd header, header, 0, 0, start      ; all of the file

start:  mov esp, 0x300000
        mov ecx, 0xc0000080             ; EFER.SVME
        rdmsr
        or eax, 0x1000
        wrmsr
        mov ecx, 0xc0010117             ; VM_HSAVE_PA
        mov eax, hsave
        xor edx, edx
        wrmsr
        mov ebx, cases
next:   mov esi, [ebx]
        test esi, esi
        jz done
        call run
        add ebx, 12
        jmp next
done:   mov al, 0
        out 0xf4, al                    ; the end (isa-debug-exit)
        hlt

; Runs the case at EBX: its name, the intercepts, the guest's code.
run:    mov edi, vmcb
        xor eax, eax
        mov ecx, 0x2000 / 4
        rep stosd
        mov edi, vmcb
        mov eax, [ebx + 4]
        mov [edi], eax                  ; intercepts of control registers
        mov dword [edi + 0x10], 3       ; VMRUN and VMMCALL
        mov dword [edi + 0x58], 1       ; ASID
        mov eax, 0x0c930010             ; ES, SS and DS
        mov [edi + 0x400], eax
        mov [edi + 0x420], eax
        mov [edi + 0x430], eax
        mov dword [edi + 0x410], 0x0c9b0008
        mov eax, -1                     ; the limits
        mov [edi + 0x404], eax
        mov [edi + 0x414], eax
        mov [edi + 0x424], eax
        mov [edi + 0x434], eax
        mov dword [edi + 0x4d0], 0x1000 ; EFER
        mov dword [edi + 0x558], 0x11   ; CR0
        mov dword [edi + 0x560], 0x400  ; DR7
        mov dword [edi + 0x568], 0xffff0ff0
        mov dword [edi + 0x570], 2      ; RFLAGS
        mov eax, [ebx + 8]
        mov [edi + 0x578], eax          ; RIP
        mov dword [edi + 0x5d8], 0x400000
        clgi
        mov eax, vmcb
        vmrun
        stgi
say:    lodsb
        test al, al
        jz .code
        out 0xe9, al
        jmp say
.code:  mov al, [vmcb + 0x70]           ; the exit code
        aam 16
        xchg al, ah
        call digit
        mov al, ah
        call digit
        mov al, 10
        out 0xe9, al
        ret
digit:  cmp al, 10
        sbb al, 0x69
        das
        out 0xe9, al
        ret

%macro guest 2
%1:     mov %2
        vmmcall
%endmacro
        guest read0, {eax, cr0}
        guest read2, {eax, cr2}
        guest read3, {eax, cr3}
        guest read4, {eax, cr4}
        guest write4, {cr4, eax}

%macro case 3
        dd %%name, %2, %3
        [section .text2 follows=.text]
%%name: db %1, ": exit ", 0
        __?SECT?__
%endmacro
cases:  case "CR0 read, its reads intercepted", 1 << 0, read0
        case "CR2 read, its reads intercepted", 1 << 2, read2
        case "CR3 read, its reads intercepted", 1 << 3, read3
        case "CR4 read, its reads intercepted", 1 << 4, read4
        case "CR4 written, its writes intercepted", 1 << 20, write4
        case "CR4 read, reads of CR0 intercepted", 1 << 0, read4
        dd 0
END
nasm -f bin -o host.bin host.asm

libraries=root/usr/lib/x86_64-linux-gnu
timeout 300 "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" root/usr/bin/qemu-system-x86_64 \
    -L root/usr/share/qemu -L root/usr/share/seabios -nodefaults -display none -accel tcg -cpu max \
    -debugcon file:seen -device isa-debug-exit,iobase=0xf4 -kernel host.bin || [ $? = 1 ]
cat seen
cat > expected <<'END'
CR0 read, its reads intercepted: exit 00
CR2 read, its reads intercepted: exit 81
CR3 read, its reads intercepted: exit 81
CR4 read, its reads intercepted: exit 81
CR4 written, its writes intercepted: exit 14
CR4 read, reads of CR0 intercepted: exit 00
END
cmp -s seen expected || {
    echo "this has changed" >&2
    exit 1
}
