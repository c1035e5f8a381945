//! Parts of virtual CPUs at places of the guest's choice: `vcpu_info`, run states, time.

use conformance::cpu::{self, peek, poke, rdtsc};
use conformance::report::{check, equal};
use conformance::smp;
use conformance::xen::bytes::{Bytes, fill, is_filled};
use conformance::xen::event::{bind_ipi, close, send, set_masked, vcpu_info};
use conformance::xen::mode::{Mode, call};
use conformance::xen::shared::{
    PENDING, SHARED_INFO, TIME, TSC_STABLE, Time, VCPU_INFO_BYTES, clear_bit,
};
use conformance::xen::vcpu::{self, BLOCKED, command, nap, show_run_state};
use conformance::xen::{
    self, DOMAIN_SELF, NOWHERE, PAGE_BYTES, arguments, error, now_ns, number, param,
};

/// Pages for the parts of virtual CPUs, and for an area that lies across two pages.
const INFO: u64 = 0x28_0000;
const AREA: u64 = 0x29_0ff0;
const TIME_AREA: u64 = 0x2a_0ff8;

pub fn run() {
    run_states();
    time_areas();
}

fn register_info(vcpu: u64, gfn: u64, offset: u32) -> i64 {
    vcpu::call(command::REGISTER_INFO, vcpu, Bytes::new().u64(gfn).u32(offset).u32(0))
}

fn run_states() {
    fill(AREA, 64, 0xa5);
    equal("run-state", show_run_state(AREA), 0);
    equal("run-state-is-running", peek::<u32>(AREA), 0);
    check("run-state-length", is_filled(AREA + 48, 16, 0xa5) && !is_filled(AREA, 48, 0xa5));
    let time = |state: u32| peek::<u64>(AREA + 16 + u64::from(state) * 8);
    let (blocked, entry) = (time(BLOCKED), peek::<u64>(AREA + 8));
    let before_ns = now_ns();
    nap();
    check("run-state-counts-sleep", time(BLOCKED) > blocked);
    check("run-state-entry", peek::<u64>(AREA + 8) > entry && peek::<u64>(AREA + 8) >= before_ns);
    let total: u64 = (0..4).map(time).sum();
    check("run-state-sum", total <= now_ns());
    // As the call tells.
    let own = vcpu::call(command::GET_RUN_STATE, 0, Bytes::new());
    let told: [u64; 2] = [peek(arguments() + 8), peek(arguments() + 16 + u64::from(BLOCKED) * 8)];
    equal("run-state-by-call", (own, told), (0, [peek(AREA + 8), time(BLOCKED)]));
    // That it is being written is marked, and no more when it has been.
    equal("run-state-marks", call(number::VM_ASSIST, [0, 5, 0, 0, 0]), 0);
    nap();
    check("run-state-mark-is-gone", peek::<u64>(AREA + 8) >> 63 == 0 && time(BLOCKED) > blocked);
    equal("run-state-marks-off", call(number::VM_ASSIST, [1, 5, 0, 0, 0]), 0);
    // In the layout that is latched, not the mode's of the call.
    let latch = |mode: Mode| mode.op(number::HVM_OP, 0, param(DOMAIN_SELF, 0, 0));
    equal("run-state-latch-32", latch(Mode::Bits32), 0);
    fill(AREA, 64, 0xa5);
    equal("run-state-32", show_run_state(AREA), 0);
    check("run-state-32-length", is_filled(AREA + 44, 20, 0xa5) && !is_filled(AREA, 44, 0xa5));
    let entry: u64 = cpu::peek::<[u32; 3]>(AREA)[1].into();
    check("run-state-32-entry", entry != 0xa5a5_a5a5);
    xen::latch_64();
    equal("run-state-nowhere", show_run_state(NOWHERE), 0);
    nap();
    equal("run-state-off", show_run_state(0), 0);
    fill(AREA, 64, 0xa5);
    nap();
    check("run-state-is-off", is_filled(AREA, 64, 0xa5));
}

fn time_areas() {
    fill(TIME_AREA, 48, 0xa5);
    let register = |address| vcpu::call(command::REGISTER_TIME, 0, Bytes::new().u64(address));
    equal("time-area", register(TIME_AREA), 0);
    let (copy, time) = (Time::read(TIME_AREA), Time::read(vcpu_info(0) + TIME));
    check("time-area-length", is_filled(TIME_AREA + 32, 16, 0xa5));
    check("time-area-is-stable", copy.flags & TSC_STABLE != 0);
    let tuple = |time: &Time| (time.tsc, time.system_ns, time.mul, time.shift);
    equal("time-area-is-the-time", tuple(&copy), tuple(&time));
    let (before, now, after) = (copy.at(rdtsc()), now_ns(), copy.at(rdtsc()));
    check("time-area-tells-time", before <= now && now <= after);
    equal("time-area-off", register(0), 0);
}

/// `vcpu_info` of both. Their places are for good.
pub fn parts() {
    let gfn = INFO / PAGE_BYTES;
    for (case, offset, result) in [
        ("across-pages", 4096 - 63, error::NXIO),
        ("behind-the-page", 4096, error::NXIO),
        ("not-aligned", 4, error::NXIO),
        ("not-aligned-at-all", 1, error::NXIO),
    ] {
        equal(&conformance::name!("part-{case}"), register_info(0, gfn, offset), result);
    }
    equal("part-at-no-memory", register_info(0, NOWHERE / PAGE_BYTES, 0), error::INVAL);
    equal("part-at-no-address", register_info(0, u64::MAX, 0), error::INVAL);
    equal("part-of-no-vcpu", register_info(9, gfn, 0), error::NOENT);
    // One that runs does so itself.
    equal("part-of-another", register_info(1, gfn, 0), error::INVAL);

    let port = bind_ipi(0).unwrap_or(0);
    set_masked(port, false);
    let time = Time::read(vcpu_info(0) + TIME);
    let new = INFO + 4096 - VCPU_INFO_BYTES;
    fill(new, 64, 0xa5);
    poke(vcpu_info(0) + 16, 0x77u8);
    equal("part", register_info(0, gfn, 4096 - 64), 0);
    equal("part-has-an-upcall", peek::<u8>(new), 1);
    equal("part-has-all-words", peek::<u64>(new + 8), u64::MAX);
    equal("part-has-the-content", peek::<u8>(new + 16), 0x77);
    let moved = Time::read(new + TIME);
    equal("part-has-the-time", (moved.mul, moved.shift), (time.mul, time.shift));
    let (before, now, after) = (moved.at(rdtsc()), now_ns(), moved.at(rdtsc()));
    check("part-tells-time", before <= now && now <= after);
    equal("part-twice", register_info(0, gfn, 0), error::INVAL);
    // Events come there, and no more where it was.
    poke(new, 0u8);
    poke(new + 8, 0u64);
    poke(vcpu_info(0), 0u8);
    poke(vcpu_info(0) + 8, 0u64);
    clear_bit(SHARED_INFO + PENDING, port);
    equal("part-sent", send(port), 0);
    equal("part-is-told", (peek::<u8>(new), peek::<u64>(new + 8)), (1, 1 << (port / 64)));
    equal("part-was-here", (peek::<u8>(vcpu_info(0)), peek::<u64>(vcpu_info(0) + 8)), (0, 0));
    equal("part-closes", close(port), 0);

    // The second's in the 32-bit layout, in which four bytes align it.
    let latch = |mode: Mode| mode.op(number::HVM_OP, 0, param(DOMAIN_SELF, 0, 0));
    equal("part-latch-32", latch(Mode::Bits32), 0);
    let register = |offset: u64| register_info(1, INFO / PAGE_BYTES, offset as u32) as u64;
    let narrow = smp::call(1, register, 2).map(|result| result as i64);
    equal("part-32-not-aligned", narrow, Some(error::NXIO));
    let narrow = smp::call(1, register, 0x104).map(|result| result as i64);
    equal("part-32", narrow, Some(0));
    let part = INFO + 0x104;
    equal("part-32-has-an-upcall", (peek::<u8>(part), peek::<u32>(part + 4)), (1, u32::MAX));
    equal("part-latch-64", latch(Mode::Bits64), 0);
}
