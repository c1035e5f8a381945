//! The groups of calls but for events, with right and wrong arguments.

use conformance::cpu::peek;
use conformance::name;
use conformance::report::{check, equal};
use conformance::xen::bytes::{Bytes, fill, is_filled};
use conformance::xen::mode::Mode;
use conformance::xen::shared::{
    ADD_TO_PHYSMAP, GRANTS, REMOVE_FROM_PHYSMAP, SHARED_INFO, SPACE_GRANT_TABLE, SPACE_SHARED_INFO,
    place,
};
use conformance::xen::{
    DOMAIN_INVALID, DOMAIN_SELF, PAGE_BYTES, RAM_END, arguments, domain, error, number, param,
};

use crate::entry::VERSION;

/// Features of an HVM guest without PIRQs.
const FEATURES: u32 = 0x0001_2305;

pub fn run(mode: Mode) {
    version(mode);
    memory(mode);
    hvm(mode);
    grants(mode);
    vcpu(mode);
    sched(mode);
    others(mode);
}

/// Memory that a call has written up to `length` bytes, and no further.
fn writes(mode: Mode, case: &str, number: u64, sub: u64, length: u64) {
    let place = arguments();
    fill(place, length + 16, 0xa5);
    equal(&name!("{case}-{mode}"), mode.call(number, [sub, place, 0, 0, 0]), 0);
    let ends = is_filled(place + length, 16, 0xa5) && !is_filled(place, length, 0xa5);
    check(&name!("{case}-length-{mode}"), ends);
}

/// Whether memory from `address` on has `text`.
fn has_text(address: u64, text: &[u8]) -> bool {
    text.iter().enumerate().all(|(at, &byte)| peek::<u8>(address + at as u64) == byte)
}

fn version(mode: Mode) {
    let call = |sub, pointer| mode.call(number::XEN_VERSION, [sub, pointer, 0, 0, 0]);
    equal(&name!("version-{mode}"), call(0, 0), VERSION);
    writes(mode, "extraversion", number::XEN_VERSION, 1, 16);
    check(&name!("extraversion-text-{mode}"), has_text(arguments(), b"."));
    writes(mode, "compile-info", number::XEN_VERSION, 2, 144);
    writes(mode, "capabilities", number::XEN_VERSION, 3, 1024);
    check(&name!("capabilities-text-{mode}"), has_text(arguments(), b"hvm-3.0-x86_32 "));
    writes(mode, "changeset", number::XEN_VERSION, 4, 64);
    writes(mode, "platform-parameters", number::XEN_VERSION, 5, mode.long_bytes());
    let features = mode.op(number::XEN_VERSION, 6, Bytes::new().u32(0).u32(0));
    equal(&name!("features-{mode}"), (features, peek(arguments() + 4)), (0, FEATURES));
    let features = mode.op(number::XEN_VERSION, 6, Bytes::new().u32(1).u32(0));
    equal(&name!("features-1-{mode}"), features, error::INVAL);
    equal(&name!("page-size-{mode}"), call(7, 0), PAGE_BYTES as i64);
    equal(&name!("page-size-with-pointer-{mode}"), call(7, arguments()), error::INVAL);
    writes(mode, "guest-handle", number::XEN_VERSION, 8, 16);
    writes(mode, "command-line", number::XEN_VERSION, 9, 1024);
    check(&name!("command-line-text-{mode}"), has_text(arguments(), b"<denied>\0"));
    equal(&name!("build-id-{mode}"), call(10, arguments()), error::PERM);
    equal(&name!("version-11-{mode}"), call(11, arguments()), error::NOSYS);
}

fn memory(mode: Mode) {
    let put = |domain, space, index, gpa| {
        let place = place(mode, domain, space, index, gpa / PAGE_BYTES);
        mode.op(number::MEMORY_OP, ADD_TO_PHYSMAP, place)
    };
    let remove = |domain, gpa| {
        let place = Bytes::new().u16(domain).long(mode, gpa / PAGE_BYTES);
        mode.op(number::MEMORY_OP, REMOVE_FROM_PHYSMAP, place)
    };
    equal(&name!("shared-info-{mode}"), put(DOMAIN_SELF, SPACE_SHARED_INFO, 0, SHARED_INFO), 0);
    equal(&name!("by-number-{mode}"), put(domain(), SPACE_SHARED_INFO, 0, SHARED_INFO), 0);
    let other = put(DOMAIN_INVALID, SPACE_SHARED_INFO, 0, SHARED_INFO);
    equal(&name!("of-no-domain-{mode}"), other, error::SRCH);
    let second = put(DOMAIN_SELF, SPACE_SHARED_INFO, 1, SHARED_INFO);
    equal(&name!("shared-info-1-{mode}"), second, error::INVAL);
    let all_ones = place(mode, DOMAIN_SELF, SPACE_SHARED_INFO, 0, u64::MAX);
    let nowhere = mode.op(number::MEMORY_OP, ADD_TO_PHYSMAP, all_ones);
    equal(&name!("shared-info-nowhere-{mode}"), nowhere, error::INVAL);
    equal(&name!("grant-frame-{mode}"), put(DOMAIN_SELF, SPACE_GRANT_TABLE, 0, GRANTS), 0);
    let beyond = put(DOMAIN_SELF, SPACE_GRANT_TABLE, 64, GRANTS);
    equal(&name!("grant-frame-64-{mode}"), beyond, error::INVAL);
    let status = put(DOMAIN_SELF, SPACE_GRANT_TABLE, 1 << 31, GRANTS);
    equal(&name!("grant-status-frame-{mode}"), status, error::INVAL);
    // Foreign pages go by the batch alone.
    equal(&name!("foreign-{mode}"), put(DOMAIN_SELF, 4, 0, SHARED_INFO), error::NOSYS);
    equal(&name!("remove-of-no-domain-{mode}"), remove(DOMAIN_INVALID, GRANTS), error::SRCH);
    equal(&name!("remove-{mode}"), remove(DOMAIN_SELF, GRANTS), 0);
    equal(&name!("remove-nothing-{mode}"), remove(DOMAIN_SELF, RAM_END), error::NOENT);

    let of = |command, domain| mode.op(number::MEMORY_OP, command, Bytes::new().u16(domain));
    let counts = [3, 4].map(|command| of(command, DOMAIN_SELF));
    let most = RAM_END / PAGE_BYTES;
    check(&name!("reservations-{mode}"), counts.into_iter().all(|pages| pages > most as i64 / 2));
    check(&name!("maximum-gpfn-{mode}"), of(14, DOMAIN_SELF) >= most as i64 - 1);
    let others = [3, 4, 14].map(|command| of(command, DOMAIN_INVALID));
    equal(&name!("reservations-of-no-domain-{mode}"), others, [error::SRCH; 3]);
    // Only calls that have extents go on from one.
    let later = [2, 3, 4, 14, 15].map(|command| of(command | 1 << 6, DOMAIN_SELF));
    equal(&name!("reservations-from-1-{mode}"), later, [error::INVAL; 5]);
    equal(&name!("acquire-resource-{mode}"), of(28, DOMAIN_SELF), error::PERM);
    equal(&name!("memory-63-{mode}"), of(63, DOMAIN_SELF), error::NOSYS);
}

fn hvm(mode: Mode) {
    let set = |index, value| mode.op(number::HVM_OP, 0, param(DOMAIN_SELF, index, value));
    let get = |index| match mode.op(number::HVM_OP, 1, param(DOMAIN_SELF, index, 0)) {
        0 => Ok(peek::<u64>(arguments() + 8)),
        error => Err(error),
    };
    equal(&name!("store-page-{mode}"), get(1), Ok(0xf_effc));
    equal(&name!("console-page-{mode}"), get(17), Ok(0xf_efff));
    equal(&name!("set-store-page-{mode}"), set(1, 5), error::PERM);
    equal(&name!("set-console-page-{mode}"), set(17, 5), error::PERM);
    for (what, index) in [("store", 2), ("console", 18)] {
        let port = get(index).unwrap_or(0);
        check(&name!("{what}-port-{mode}"), (1..1024).contains(&port));
        let other = (set(index, 77), get(index), set(index, port));
        equal(&name!("set-{what}-port-{mode}"), other, (0, Ok(77), 0));
    }
    // Those of domain 0, those that are no more, and those that never were.
    let privileged = [12, 14, 16].map(|index| (set(index, 0), get(index)));
    let refused = (error::PERM, Err(error::PERM));
    equal(&name!("params-of-domain-0-{mode}"), privileged, [refused; 3]);
    let gone = [4, 13, 20, 26, 30].map(|index| (set(index, 0), get(index)));
    equal(&name!("params-gone-{mode}"), gone, [(error::INVAL, Err(error::INVAL)); 5]);
    let beyond = [39, 40, u32::MAX].map(|index| (set(index, 0), get(index)));
    equal(&name!("params-beyond-{mode}"), beyond, [(error::INVAL, Err(error::INVAL)); 3]);
    equal(
        &name!("param-34-{mode}"),
        (set(34, 0x1234_5678_9abc), get(34)),
        (0, Ok(0x1234_5678_9abc)),
    );
    equal(&name!("param-35-{mode}"), get(35), Ok(0));
    equal(&name!("param-36-{mode}"), (set(36, 8), get(36), set(36, 5)), (0, Ok(8), error::INVAL));
    let other = [0, 1].map(|op| mode.op(number::HVM_OP, op, param(DOMAIN_INVALID, 0, 0)));
    equal(&name!("params-of-no-domain-{mode}"), other, [error::SRCH; 2]);

    let call = |op, pointer| mode.call(number::HVM_OP, [op, pointer, 0, 0, 0]);
    equal(&name!("moved-to-dm-op-{mode}"), [2, 3, 4].map(|op| call(op, 0)), [error::NOSYS; 3]);
    let flush = (call(5, 0), call(5, arguments()));
    equal(&name!("flush-tlbs-{mode}"), flush, (0, error::INVAL));
    // Of no use under nested paging.
    let dying = mode.op(number::HVM_OP, 9, Bytes::new().u16(DOMAIN_SELF).u64(0x1000));
    equal(&name!("pagetable-dying-{mode}"), dying, error::INVAL);
    let time = || (call(10, arguments()), peek::<u64>(arguments()));
    let ((first, from_ns), (second, to_ns)) = (time(), time());
    check(&name!("time-{mode}"), first == 0 && second == 0 && 0 < from_ns && from_ns < to_ns);
    let kind = |domain, gpa: u64| {
        let memory = Bytes::new().u16(domain).u16(0xffff).u64(gpa / PAGE_BYTES);
        (mode.op(number::HVM_OP, 15, memory), peek::<u16>(arguments() + 2))
    };
    equal(&name!("type-of-ram-{mode}"), kind(DOMAIN_SELF, 0x50_0000), (0, 0));
    equal(&name!("type-of-a-hole-{mode}"), kind(DOMAIN_SELF, RAM_END), (0, 2));
    equal(&name!("type-of-no-domain-{mode}"), kind(DOMAIN_INVALID, 0).0, error::SRCH);
    let vector = |vcpu, vector| mode.op(number::HVM_OP, 23, Bytes::new().u32(vcpu).u8(vector));
    let vectors = [vector(0, 0), vector(0, 15), vector(99, 0x40)];
    equal(&name!("vector-wrong-{mode}"), vectors, [error::INVAL, error::INVAL, error::NOENT]);
    equal(&name!("hvm-op-100-{mode}"), call(100, arguments()), error::NOSYS);
}

fn grants(mode: Mode) {
    let call = |op, structure: Bytes, count| {
        structure.put(arguments());
        mode.call(number::GRANT_TABLE_OP, [op, arguments(), count, 0, 0])
    };
    let size = |domain| {
        let result = call(6, Bytes::new().u16(domain).u32(0).u32(0).u16(0xffff).u16(0), 1);
        let place = arguments();
        (result, peek::<u32>(place + 4) > 0, peek::<u32>(place + 8), peek::<i16>(place + 12))
    };
    equal(&name!("query-size-{mode}"), size(DOMAIN_SELF), (0, true, 64, 0));
    let other = size(DOMAIN_INVALID);
    equal(&name!("query-size-of-no-domain-{mode}"), (other.0, other.3), (0, -2));
    let two = [2, 6].map(|op| call(op, Bytes::new().u16(DOMAIN_SELF).u64(0).u64(0), 2));
    equal(&name!("two-at-once-{mode}"), two, [error::INVAL; 2]);
    let none = [2, 6].map(|op| call(op, Bytes::new().u16(DOMAIN_SELF).u64(0).u64(0), 0));
    equal(&name!("none-at-once-{mode}"), none, [error::INVAL; 2]);
    let setup = |domain, frames, list| {
        let table = Bytes::new().u16(domain).u32(frames).u16(0xffff).long(mode, list);
        (call(2, table, 1), peek::<i16>(arguments() + 8))
    };
    let list = arguments() + 0x100;
    fill(list, 24, 0xa5);
    let long = mode.long_bytes();
    equal(&name!("setup-table-{mode}"), setup(DOMAIN_SELF, 1, list), (0, 0));
    // The frame was removed before: it is nowhere.
    check(&name!("setup-table-list-{mode}"), is_filled(list, long, 0xff));
    check(&name!("setup-table-length-{mode}"), is_filled(list + long, 24 - long, 0xa5));
    equal(&name!("setup-table-65-{mode}"), setup(DOMAIN_SELF, 65, list), (0, -1));
    equal(&name!("setup-table-of-no-domain-{mode}"), setup(DOMAIN_INVALID, 1, list), (0, -2));
    let version = |wanted| (call(8, Bytes::new().u32(wanted), 1), peek::<u32>(arguments()));
    equal(&name!("set-version-1-{mode}"), version(1), (0, 1));
    equal(&name!("set-version-3-{mode}"), version(3).0, error::INVAL);
    equal(&name!("set-version-0-{mode}"), version(0).0, error::INVAL);
    let get = |domain| (call(10, Bytes::new().u16(domain).u32(7), 1), peek(arguments() + 4));
    equal(&name!("get-version-{mode}"), get(DOMAIN_SELF), (0, 1));
    equal(&name!("get-version-of-no-domain-{mode}"), get(DOMAIN_INVALID).0, error::SRCH);
    // For PV guests and domain 0.
    let other = [3, 4, 7, 9, 12, 13].map(|op| call(op, Bytes::new().u64(0), 1));
    equal(&name!("grant-ops-of-others-{mode}"), other, [error::NOSYS; 6]);
}

fn vcpu(mode: Mode) {
    let call = |command, vcpu| mode.call(number::VCPU_OP, [command, vcpu, arguments(), 0, 0]);
    let with = |command, structure: Bytes| {
        structure.put(arguments());
        call(command, 0)
    };
    let missing = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13].map(|command| call(command, 1));
    equal(&name!("vcpu-that-is-not-there-{mode}"), missing, [error::NOENT; 13]);
    equal(&name!("vcpu-is-up-{mode}"), call(3, 0), 1);
    let length = if mode.long_bytes() == 8 { 48 } else { 44 };
    fill(arguments(), 64, 0xa5);
    equal(&name!("run-state-{mode}"), call(4, 0), 0);
    equal(&name!("run-state-is-running-{mode}"), peek::<u32>(arguments()), 0);
    check(&name!("run-state-length-{mode}"), is_filled(arguments() + length, 64 - length, 0xa5));
    let periods = [999_999, 0].map(|ns| with(6, Bytes::new().u64(ns)));
    equal(&name!("period-too-short-{mode}"), periods, [error::INVAL; 2]);
    equal(&name!("period-{mode}"), (with(6, Bytes::new().u64(1_000_000_000)), call(7, 0)), (0, 0));
    let shot = Bytes::new().loose_u64(mode, u64::MAX >> 1).u32(0);
    equal(&name!("single-shot-{mode}"), (with(8, shot), call(9, 0)), (0, 0));
    equal(&name!("send-nmi-{mode}"), call(11, 0), 0);
    equal(&name!("physical-id-{mode}"), call(12, 0), error::INVAL);
    // By physical address: of 4.18. And what never was.
    let later = [14, 15, 16, 99].map(|command| call(command, 0));
    equal(&name!("vcpu-ops-of-later-{mode}"), later, [error::NOSYS; 4]);
}

fn sched(mode: Mode) {
    let call = |command, structure: Bytes| mode.op(number::SCHED_OP, command, structure);
    equal(&name!("yield-{mode}"), call(0, Bytes::new()), 0);
    let poll = |ports: u64, count, until_ns| {
        call(3, Bytes::new().long(mode, ports).u32(count).u64(until_ns))
    };
    let list = arguments() + 0x100;
    Bytes::new().u32(1024).put(list);
    equal(&name!("poll-port-1024-{mode}"), poll(list, 1, 1), error::INVAL);
    equal(&name!("poll-129-{mode}"), poll(list, 129, 1), error::INVAL);
    Bytes::new().u32(7).put(list);
    // Its time is over.
    equal(&name!("poll-until-past-{mode}"), poll(list, 1, 1), 0);
    equal(&name!("poll-nothing-until-past-{mode}"), poll(0, 0, 1), 0);
    let others = [4, 7].map(|command| call(command, Bytes::new().u32(0).u32(0)));
    equal(&name!("shutdown-of-others-{mode}"), others, [error::PERM; 2]);
    equal(&name!("shutdown-code-{mode}"), call(5, Bytes::new().u32(3)), 0);
    // A suspend is cancelled as long as nobody has asked for one.
    equal(&name!("sched-op-8-{mode}"), call(8, Bytes::new()), error::NOSYS);
}

fn others(mode: Mode) {
    let assist = |command, kind| mode.call(number::VM_ASSIST, [command, kind, 0, 0, 0]);
    equal(&name!("assist-{mode}"), (assist(0, 5), assist(1, 5)), (0, 0));
    let kinds = [0, 1, 2, 3, 4, 6, 31, 64].map(|kind| assist(0, kind));
    equal(&name!("assist-of-pv-guests-{mode}"), kinds, [error::INVAL; 8]);
    equal(&name!("assist-2-{mode}"), assist(2, 5), error::NOSYS);
    let timer = |first, second| mode.call(number::SET_TIMER_OP, [first, second, 0, 0, 0]);
    equal(&name!("timer-{mode}"), (timer(u64::MAX >> 1, 0x7fff_ffff), timer(0, 0)), (0, 0));
    // No debug build: nothing is written, or read.
    let console = |command| mode.call(number::CONSOLE_IO, [command, 1, arguments(), 0, 0]);
    equal(&name!("console-io-{mode}"), (console(0), console(1)), (error::PERM, error::PERM));
}
