//! Segmentation of 32-bit protected mode: limits, types, privileges, gates (Intel SDM volume 3,
//! chapter 5).

#![no_std]
#![no_main]

use conformance::Global;
use conformance::cpu::peek;
use conformance::descriptors::{FREE, segment, set_descriptor};
use conformance::interrupts::{Event, gp, np, ss};
use conformance::legacy::{self, PROTECTED, Registers, call32};
use conformance::report::equal;

conformance::topic!(run);

/// The selector whose descriptor the cases change.
const TRIED: u32 = FREE as u32;
const FLAT_32: u8 = 0xc;
const BYTES_32: u8 = 0x4;
const BYTES_16: u8 = 0x0;

/// Access bytes: present, ring 0.
const READ_ONLY: u8 = 0x91;
const READ_WRITE: u8 = 0x93;
const EXPAND_DOWN: u8 = 0x97;
const EXECUTE_ONLY: u8 = 0x99;
const EXECUTE_READ: u8 = 0x9b;
const CONFORMING: u8 = 0x9f;
const CALL_GATE: u8 = 0x8c;
const RING_3: u8 = 0x60;

static DATA: Global<[u32; 64]> = Global::new([0x0101_0101; 64]);

conformance::assembly! {
    // Each loads the selector in EBX first; ESI is an offset.
    fn read_byte() { ".code32" "mov es, ebx" "mov al, es:[esi]" "ret" ".code64" }
    fn read_dword() { ".code32" "mov es, ebx" "mov eax, es:[esi]" "ret" ".code64" }
    fn write_byte() { ".code32" "mov es, ebx" "mov es:[esi], al" "ret" ".code64" }
    fn load_data() { ".code32" "mov es, ebx" "ret" ".code64" }
    fn load_stack() { ".code32" "mov ecx, ss" "mov ss, ebx" "mov ss, ecx" "ret" ".code64" }
    fn use_null() { ".code32" "xor ecx, ecx" "mov es, ecx" "mov al, es:[esi]" "ret" ".code64" }
    // A stack of the segment, ESI is its pointer.
    fn push() { ".code32" "mov ecx, ss" "mov edx, esp" "mov ss, ebx" "mov esp, esi" "push eax" "mov ss, ecx" "mov esp, edx" "ret" ".code64" }
    // A far call by the selector in EBX to ESI.
    fn far_call() { ".code32" "push ebx" "push esi" "call fword ptr [esp]" "add esp, 8" "ret" ".code64" }
    fn far_jump() { ".code32" "push ebx" "push esi" "jmp fword ptr [esp]" ".code64" }
    fn far_return() { ".code32" "mov eax, 0x12345678" "retf" ".code64" }
    fn verify() {
        ".code32" "xor eax, eax" "verr bx" "setz al" "verw bx" "setz ah" "lsl ecx, ebx" "lar edx, ebx" "ret" ".code64"
    }
    fn code_reads_itself() { ".code32" "mov eax, cs:[esi]" "ret" ".code64" }
    fn code_writes_itself() { ".code32" "mov cs:[esi], eax" "ret" ".code64" }
    fn string_beyond() { ".code32" "mov es, ebx" "mov edi, esi" "mov ecx, 8" "cld" "rep stosb" "ret" ".code64" }
    fn test_descriptors() { ".code32" "sub esp, 8" "sgdt [esp]" "movzx eax, word ptr [esp]" "sidt [esp]" "movzx ecx, word ptr [esp]" "add esp, 8" "str edx" "ret" ".code64" }
}

fn tried(code: extern "C" fn(), descriptor: u64, offset: u32) -> Result<Registers, Event> {
    set_descriptor(FREE, descriptor);
    call(code, TRIED, offset)
}

fn call(code: extern "C" fn(), selector: u32, offset: u32) -> Result<Registers, Event> {
    let mut registers = Registers { ebx: selector, esi: offset, ..Registers::default() };
    call32(code, PROTECTED, &mut registers).map(|()| registers).map_err(|fault| fault.event)
}

fn event(code: extern "C" fn(), descriptor: u64, offset: u32) -> Option<Event> {
    tried(code, descriptor, offset).err()
}

fn data(limit: u32, access: u8, flags: u8) -> u64 {
    segment(DATA.address() as u32, limit, access, flags)
}

fn run() {
    limits();
    types();
    loads();
    transfers();
    queries();
}

fn limits() {
    let bytes = |limit| data(limit, READ_WRITE, BYTES_32);
    equal("last-byte", event(read_byte, bytes(15), 15), None);
    equal("limit-read", event(read_byte, bytes(15), 16), Some(gp(0)));
    equal("limit-write", event(write_byte, bytes(15), 16), Some(gp(0)));
    equal("limit-of-a-dword", event(read_dword, bytes(15), 13), Some(gp(0)));
    equal("limit-in-pages", event(read_byte, data(0, READ_WRITE, FLAT_32), 4095), None);
    equal(
        "limit-in-pages-beyond",
        event(read_byte, data(0, READ_WRITE, FLAT_32), 4096),
        Some(gp(0)),
    );
    equal("limit-of-a-string", event(string_beyond, bytes(15), 12), Some(gp(0)));
    let down = |flags| data(15, EXPAND_DOWN, flags);
    equal("expand-down-below", event(read_byte, down(BYTES_32), 15), Some(gp(0)));
    equal("expand-down-above", event(read_byte, down(BYTES_32), 16), None);
    equal("expand-down-16-bit-top", event(read_byte, down(BYTES_16), 0x1_0000), Some(gp(0)));
    equal("within-a-stack", event(push, bytes(15), 16), None);
}

fn types() {
    equal("write-to-read-only", event(write_byte, data(15, READ_ONLY, BYTES_32), 0), Some(gp(0)));
    equal("read-of-read-only", event(read_byte, data(15, READ_ONLY, BYTES_32), 0), None);
    equal(
        "load-of-execute-only",
        event(load_data, data(15, EXECUTE_ONLY, BYTES_32), 0),
        Some(gp(TRIED)),
    );
    equal("read-of-code", event(read_byte, data(15, EXECUTE_READ, BYTES_32), 0), None);
    equal("write-to-code", event(write_byte, data(15, EXECUTE_READ, BYTES_32), 0), Some(gp(0)));
    equal("null-in-use", call(use_null, 0, 0).err(), Some(gp(0)));
    let address = DATA.address() as u32;
    equal(
        "code-reads-itself",
        call(code_reads_itself, 0, address).map(|registers| registers.eax),
        Ok(peek(u64::from(address))),
    );
    equal("code-writes-itself", call(code_writes_itself, 0, address).err(), Some(gp(0)));
}

fn loads() {
    let with = |access| data(15, access, BYTES_32);
    equal("not-present", event(load_data, with(READ_WRITE & 0x7f), 0), Some(np(TRIED)));
    equal("stack-not-present", event(load_stack, with(READ_WRITE & 0x7f), 0), Some(ss(TRIED)));
    equal("stack-read-only", event(load_stack, with(READ_ONLY), 0), Some(gp(TRIED)));
    equal("stack-of-ring-3", event(load_stack, with(READ_WRITE | RING_3), 0), Some(gp(TRIED)));
    equal("stack-null", call(load_stack, 0, 0).err(), Some(gp(0)));
    equal("beyond-the-table", call(load_data, 0xfff8, 0).err(), Some(gp(0xfff8)));
    equal(
        "rpl-3-of-ring-0-data",
        {
            set_descriptor(FREE, with(READ_WRITE));
            call(load_data, TRIED | 3, 0).err()
        },
        Some(gp(TRIED)),
    );
    equal(
        "rpl-3-of-conforming-code",
        {
            set_descriptor(FREE, with(CONFORMING));
            call(load_data, TRIED | 3, 0).err()
        },
        None,
    );
    equal("system-descriptor", event(load_data, with(0x82), 0), Some(gp(TRIED)));
    set_descriptor(FREE, with(READ_WRITE & !1));
    let _ = call(load_data, TRIED, 0);
    equal("accessed-bit-is-set", conformance::descriptors::descriptor(FREE) >> 40 & 1, 1);
}

fn transfers() {
    let target = legacy::address(far_return);
    let flat = |access| segment(0, 0xfffff, access, FLAT_32);
    let reached = |outcome: Result<Registers, Event>| outcome.map(|registers| registers.eax);
    let arrived = Ok(0x1234_5678);
    equal("far-call", reached(tried(far_call, flat(EXECUTE_READ), target)), arrived);
    equal("far-call-to-data", event(far_call, flat(READ_WRITE), target), Some(gp(TRIED)));
    equal(
        "far-call-not-present",
        event(far_call, flat(EXECUTE_READ & 0x7f), target),
        Some(np(TRIED)),
    );
    equal(
        "far-call-beyond-the-limit",
        event(far_call, segment(0, 0xfff, EXECUTE_READ, BYTES_32), target),
        Some(gp(0)),
    );
    equal(
        "far-call-to-ring-3",
        event(far_call, flat(EXECUTE_READ | RING_3), target),
        Some(gp(TRIED)),
    );
    equal("far-call-to-conforming", reached(tried(far_call, flat(CONFORMING), target)), arrived);
    equal("far-call-to-null", call(far_call, 0, target).err(), Some(gp(0)));
    equal("far-jump-to-null", call(far_jump, 0, target).err(), Some(gp(0)));
    let gate = |selector, access| legacy::gate(selector, target, access);
    equal("call-gate", reached(tried(far_call, gate(0x08, CALL_GATE), 0)), arrived);
    equal(
        "call-gate-not-present",
        event(far_call, gate(0x08, CALL_GATE & 0x7f), 0),
        Some(np(TRIED)),
    );
    equal("call-gate-to-null", event(far_call, gate(0, CALL_GATE), 0), Some(gp(0)));
    equal("call-gate-to-data", event(far_call, gate(0x10, CALL_GATE), 0), Some(gp(0x10)));
}

fn queries() {
    let asked = |descriptor| {
        let registers = tried(verify, descriptor, 0);
        registers.map(|registers| (registers.eax, registers.ecx, registers.edx))
    };
    equal(
        "queries-of-data",
        asked(data(0x123, READ_WRITE, BYTES_32)),
        Ok((0x101, 0x123, 0x0040_9300)),
    );
    equal("queries-of-read-only", asked(data(1, READ_ONLY, FLAT_32)), Ok((1, 0x1fff, 0x00c0_9100)));
    equal(
        "queries-of-execute-only",
        asked(data(0, EXECUTE_ONLY, BYTES_32)),
        Ok((0, 0, 0x0040_9900)),
    );
    let registers = call(test_descriptors, 0, 0)
        .map(|registers| (registers.eax, registers.ecx, registers.edx & 0xffff));
    equal("table-registers", registers, Ok((511, 2047, u32::from(legacy::TSS32))));
}
