#!/bin/sh
# Bochs 3.0 (Debian 3.0+dfsg-1) with several CPUs: if the first instruction of an exception's handler
# raises another exception, the second saves the address of the instruction that raised the first.
#
# The manual has each fault save the address of the instruction that raised it (SDM volume 3, 6.5),
# and a good guess is that the number of CPUs does not matter to what one of them does. With one CPU
# Bochs does as the manual says, and with several under its own debugger.
#
# In the source: `exception` (cpu/exception.cc) leaves by longjmp when it has delivered an exception.
# The loops for one CPU (`cpu_loop`) and for the debugger set prev_rip to RIP where they land, that
# for several CPUs (main.cc) does not, until an instruction is done. Faults take RIP from prev_rip,
# and so do VM exits of VT-x and AMD-V: one for an interrupt that comes right then reports the
# instruction that raised the exception, with the exception's frame on the stack, and the guest is
# lost when it goes on there.
#
# Seen: 1 CPU: handler; 2 CPUs: instruction before; 2 CPUs, in the debugger: handler
#
# Needs Linux on x86-64 with apt, dpkg-deb, Debian's keyring, and nasm.
set -eu
version=3.0+dfsg-1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir -p lists/partial archives/partial root
: > status
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" > sources.list
from_trixie() {
    apt-get -qq -o APT::Sandbox::User= -o Dir::Etc::sourceparts=- -o Debug::NoLocking=1 \
        -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::State::status="$folder/status" \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder" "$@" > apt.log 2>&1 || {
        cat apt.log >&2
        exit 2
    }
}
from_trixie update
from_trixie install --yes --no-install-recommends --download-only \
    "bochs=$version" "bochs-term=$version" "bochsbios=$version" vgabios
for package in archives/*.deb; do
    dpkg-deb -x "$package" root
done

# A boot sector. The handler of UD2 begins with a division by zero, whose handler looks at the
# address that was saved.
cat > boot.asm <<'END'
        bits 16
        org 0x7c00
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7000
        mov word [6 * 4], first         ; #UD
        mov [6 * 4 + 2], ax
        mov word [0], second            ; #DE
        mov [2], ax
        xor bx, bx
        ud2
first:  div bx
second: pop ax                          ; what #DE saved
        mov si, good
        cmp ax, first
        je say
        mov si, bad
say:    lodsb
        out 0xe9, al
        cmp al, 10
        jne say
        mov si, end                     ; which ends Bochs
        mov dx, 0x8900
        mov cx, 8
        rep outsb
        hlt
good:   db "handler", 10
bad:    db "instruction before", 10
end:    db "Shutdown"
        times 510 - ($ - $$) db 0
        dw 0xaa55
END
nasm -f bin -o boot.img boot.asm
truncate -s 1474560 boot.img
echo continue > commands

libraries=$folder/root/usr/lib/x86_64-linux-gnu
run() {
    cat > bochsrc <<END
config_interface: textconfig
display_library: term
cpu: count=$1
memory: guest=32, host=32
romimage: file=root/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=root/usr/share/vgabios/vgabios.bin
floppya: 1_44=boot.img, status=inserted
boot: floppy
clock: sync=none
port_e9_hack: enabled=1
speaker: enabled=0, mode=none
log: bochs.log
panic: action=fatal
END
    shift
    TERM=vt100 LTDL_LIBRARY_PATH="$libraries/bochs/plugins" BXSHARE=root/usr/share/bochs timeout 120 \
        "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" root/usr/bin/bochs-bin \
        -q -f bochsrc "$@" < /dev/null 2> /dev/null > output || [ $? = 1 ]
    grep -ao 'handler\|instruction before' output || echo nothing
}
seen="1 CPU: $(run 1); 2 CPUs: $(run 2); 2 CPUs, in the debugger: $(run 2 -debugger -rc commands)"
echo "$seen"
[ "$seen" = "1 CPU: handler; 2 CPUs: instruction before; 2 CPUs, in the debugger: handler" ] || {
    echo "this has changed" >&2
    exit 1
}
