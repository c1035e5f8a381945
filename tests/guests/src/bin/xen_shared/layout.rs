//! The layout of the shared info: that of the mode in which the guest has set up its hypercalls or
//! its callback last.

use conformance::cpu::{peek, poke};
use conformance::legacy::{PROTECTED, Registers, call32};
use conformance::name;
use conformance::report::{check, equal};
use conformance::xen::event::{bind_ipi, close, send, unmask, vcpu_info};
use conformance::xen::mode::Mode;
use conformance::xen::shared::{
    LAYOUT_32, LAYOUT_64, Layout, PENDING, SHARED_INFO, SPACE_SHARED_INFO, clear_bit, place,
    set_bit,
};
use conformance::xen::{self, CALLS, DOMAIN_SELF, HYPERCALL_MSR, PAGE_BYTES, number, param};

conformance::assembly! {
    fn write_msr_32() { ".code32" "wrmsr" "ret" ".code64" }
}

/// Asks for the page of hypercalls from 32-bit code.
fn calls_from_32() {
    let mut registers = Registers { eax: CALLS as u32, ecx: HYPERCALL_MSR, ..Registers::default() };
    let outcome = call32(write_msr_32, PROTECTED, &mut registers);
    assert!(outcome.is_ok(), "WRMSR");
}

fn set_callback(mode: Mode) -> i64 {
    mode.op(number::HVM_OP, 0, param(DOMAIN_SELF, 0, 0))
}

/// Events and the date stand where the layout has them.
fn is(layout: Layout, port: u32) -> bool {
    let selector = vcpu_info(0) + layout.long_bytes;
    for offset in 0..24 {
        poke(vcpu_info(0) + offset, 0u8);
    }
    clear_bit(SHARED_INFO + PENDING, port);
    set_bit(SHARED_INFO + layout.mask, port);
    let masked = send(port) == 0 && peek::<u8>(vcpu_info(0)) == 0;
    let told = unmask(port) == 0 && peek::<u8>(vcpu_info(0)) == 1;
    let word = 1u32 << (u64::from(port) / (8 * layout.long_bytes));
    let selected = peek::<u32>(selector) == word;
    let seconds: u32 = peek(SHARED_INFO + layout.wall_clock + 4);
    // 2020 began 1.57 thousand million seconds after 1970.
    masked && told && selected && seconds > 1_577_000_000
}

pub fn run() {
    // A port whose words have other numbers in the two layouts.
    let (mut taken, mut port) = ([0; 64], 0);
    for place in &mut taken {
        *place = bind_ipi(0).unwrap_or(0);
        if *place >= 40 {
            port = *place;
            break;
        }
    }
    check("port-40", port == 40);
    xen::latch_64();
    check("calls-from-64", is(LAYOUT_64, port));
    calls_from_32();
    check("calls-from-32", is(LAYOUT_32, port));
    // Neither a page that is put nor any other call changes it.
    let from_64 = place(Mode::Bits64, DOMAIN_SELF, SPACE_SHARED_INFO, 0, SHARED_INFO / PAGE_BYTES);
    let put = Mode::Bits64.op(number::MEMORY_OP, 7, from_64);
    check("put-from-64", put == 0 && is(LAYOUT_32, port));
    for (mode, layout) in [
        (Mode::Bits64, LAYOUT_64),
        (Mode::Bits32, LAYOUT_32),
        (Mode::Bits64, LAYOUT_64),
        (Mode::Real, LAYOUT_32),
        (Mode::Bits64, LAYOUT_64),
        (Mode::Bits16, LAYOUT_32),
    ] {
        static TIMES: conformance::Global<u32> = conformance::Global::new(0);
        TIMES.set(TIMES.get() + 1);
        let result = set_callback(mode);
        check(&name!("callback-{}-from-{mode}", TIMES.get()), result == 0 && is(layout, port));
    }
    // A parameter that is another's does not.
    let other = Mode::Bits64.op(number::HVM_OP, 0, param(DOMAIN_SELF, 36, 0));
    check("other-parameter-from-64", other == 0 && is(LAYOUT_32, port));
    equal("callback-64-at-last", set_callback(Mode::Bits64), 0);
    // All ports masked again, in this layout.
    for word in 0..64 {
        poke(SHARED_INFO + LAYOUT_64.mask + word * 8, u64::MAX);
    }
    let closed = taken.iter().filter(|&&port| port != 0).all(|&port| close(port) == 0);
    check("ports-close", closed);
    poke(vcpu_info(0), 0u8);
    poke(vcpu_info(0) + 8, 0u64);
}
