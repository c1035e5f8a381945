//! `event_channel_op`: the sub-operations with right and wrong arguments.

use conformance::cpu::peek;
use conformance::name;
use conformance::report::{check, equal};
use conformance::xen::bytes::Bytes;
use conformance::xen::event::{VIRQ_CONSOLE, VIRQ_TIMER, state, sub};
use conformance::xen::mode::Mode;
use conformance::xen::{DOMAIN_INVALID, DOMAIN_SELF, arguments, error, number};

/// A port that no guest has.
const BEYOND: u32 = 99_999;

pub fn run(mode: Mode) {
    let call = |sub, structure: Bytes| mode.op(number::EVENT_CHANNEL_OP, sub, structure);
    let on = |sub, port: u32| call(sub, Bytes::new().u32(port));
    let status = |domain, port: u32| {
        let rest = Bytes::new().u16(domain).u32(port).u32(9).u32(9).u32(9).u32(9);
        let result = call(sub::STATUS, rest);
        (result, peek::<[u32; 3]>(arguments() + 8))
    };
    // Ports are taken for the call, and the one that the call before yielded is read from there.
    let alloc = |domain| call(sub::ALLOC_UNBOUND, Bytes::new().u16(domain).u16(0).u32(0));
    equal(&name!("alloc-{mode}"), alloc(DOMAIN_SELF), 0);
    let unbound: u32 = peek(arguments() + 4);
    equal(&name!("alloc-of-no-domain-{mode}"), alloc(DOMAIN_INVALID), error::SRCH);
    equal(
        &name!("status-unbound-{mode}"),
        status(DOMAIN_SELF, unbound),
        (0, [state::UNBOUND, 0, 0]),
    );
    equal(&name!("status-of-no-domain-{mode}"), status(DOMAIN_INVALID, unbound).0, error::SRCH);
    equal(&name!("status-beyond-{mode}"), status(DOMAIN_SELF, BEYOND).0, error::INVAL);
    let zero = status(DOMAIN_SELF, 0);
    equal(&name!("status-of-port-0-{mode}"), (zero.0, zero.1[0]), (0, state::CLOSED));

    let ipi = |vcpu: u32| call(sub::BIND_IPI, Bytes::new().u32(vcpu).u32(0));
    equal(&name!("ipi-{mode}"), ipi(0), 0);
    let own: u32 = peek(arguments() + 4);
    equal(&name!("ipi-of-no-vcpu-{mode}"), ipi(99), error::NOENT);
    let told = status(DOMAIN_SELF, own);
    equal(&name!("status-ipi-{mode}"), (told.0, told.1[..2] == [state::IPI, 0]), (0, true));

    let virq = |virq: u32, vcpu: u32| call(sub::BIND_VIRQ, Bytes::new().u32(virq).u32(vcpu).u32(0));
    equal(&name!("virq-{mode}"), virq(VIRQ_TIMER, 0), 0);
    let timer: u32 = peek(arguments() + 8);
    equal(&name!("virq-again-{mode}"), virq(VIRQ_TIMER, 0), error::EXIST);
    equal(&name!("virq-24-{mode}"), virq(24, 0), error::INVAL);
    equal(&name!("virq-of-no-vcpu-{mode}"), virq(VIRQ_TIMER, 99), error::NOENT);
    // Its number is looked at first.
    equal(&name!("virq-24-of-no-vcpu-{mode}"), virq(24, 99), error::INVAL);
    equal(&name!("global-virq-elsewhere-{mode}"), virq(VIRQ_CONSOLE, 99), error::INVAL);
    let told = status(DOMAIN_SELF, timer);
    equal(&name!("status-virq-{mode}"), told, (0, [state::VIRQ, 0, VIRQ_TIMER]));

    let far =
        |domain, port: u32| call(sub::BIND_INTERDOMAIN, Bytes::new().u16(domain).u32(port).u32(0));
    let wrong = [far(DOMAIN_INVALID, 1), far(0, 0), far(0, BEYOND)];
    equal(&name!("interdomain-wrong-{mode}"), wrong, [error::SRCH, error::INVAL, error::INVAL]);

    let sends = [unbound, own, timer, 0, BEYOND].map(|port| on(sub::SEND, port));
    let expected = [0, 0, error::INVAL, error::INVAL, error::INVAL];
    equal(&name!("send-{mode}"), sends, expected);
    let vcpu = |port: u32, vcpu: u32| call(sub::BIND_VCPU, Bytes::new().u32(port).u32(vcpu));
    let binds = [
        (unbound, 0, 0),
        (unbound, 99, error::NOENT),
        (own, 0, error::INVAL),
        (timer, 0, error::INVAL),
        (BEYOND, 0, error::INVAL),
    ];
    let wrong = binds.iter().find(|&&(port, to, want)| vcpu(port, to) != want);
    equal(&name!("bind-vcpu-{mode}"), wrong, None);
    let unmasks = [unbound, own, timer, BEYOND].map(|port| on(sub::UNMASK, port));
    equal(&name!("unmask-{mode}"), unmasks, [0, 0, 0, error::INVAL]);

    let closes = [unbound, own, timer].map(|port| on(sub::CLOSE, port));
    equal(&name!("close-{mode}"), closes, [0; 3]);
    let again = [unbound, own, timer, 0, BEYOND].map(|port| on(sub::CLOSE, port));
    equal(&name!("close-again-{mode}"), again, [error::INVAL; 5]);
    equal(&name!("send-by-a-free-one-{mode}"), on(sub::SEND, own), error::INVAL);
    equal(&name!("unmask-a-free-one-{mode}"), on(sub::UNMASK, own), 0);
    let told = status(DOMAIN_SELF, own);
    equal(&name!("status-free-{mode}"), (told.0, told.1[0]), (0, state::CLOSED));
    // A number that was given back is given again.
    equal(&name!("ipi-again-{mode}"), ipi(0), 0);
    let next: u32 = peek(arguments() + 4);
    check(&name!("number-again-{mode}"), [unbound, own, timer].contains(&next));
    equal(&name!("close-the-last-{mode}"), on(sub::CLOSE, next), 0);

    let reset = call(sub::RESET, Bytes::new().u16(DOMAIN_INVALID));
    equal(&name!("reset-of-no-domain-{mode}"), reset, error::SRCH);
    let fifo = call(sub::INIT_CONTROL, Bytes::new().u64(0).u32(0).u32(0).u64(0));
    equal(&name!("fifo-{mode}"), fifo, error::NOSYS);
    let priority = call(sub::SET_PRIORITY, Bytes::new().u32(1).u32(1));
    equal(&name!("priority-{mode}"), priority, error::NOSYS);
    equal(&name!("event-op-14-{mode}"), on(14, 0), error::NOSYS);
}
