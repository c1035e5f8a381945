//! Interrupts that the task priority holds back: CR8 and the local APIC's register are one, and a
//! waiting interrupt comes when it falls (Intel SDM volume 3, sections 10.8.3 and 10.8.6).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::Global;
use conformance::cpu::{cli, cr8, inb, outb, peek, poke, set_cr8, set_dr6, sti};
use conformance::interrupts::{Frame, handle};
use conformance::report::equal;

conformance::topic!(run);

const APIC: u64 = 0xfee0_0000;
const TASK_PRIORITY: u64 = APIC + 0x80;
const END_OF_INTERRUPT: u64 = APIC + 0xb0;
const SPURIOUS: u64 = APIC + 0xf0;
const COMMAND: u64 = APIC + 0x300;
const APIC_ENABLED: u32 = 0x1ff;
const SELF_ASSERT: u32 = 1 << 18 | 1 << 14;

/// Two vectors, and the priority class of the lower one.
const LOW: u8 = 0x40;
const HIGH: u8 = 0x70;
const CLASS: u64 = 4;

/// RFLAGS: single steps.
const TF: u64 = 1 << 8;

static COUNT: Global<u32> = Global::new(0);
static STEPS: Global<u32> = Global::new(0);

fn interrupt(_: &mut Frame) {
    COUNT.set(COUNT.get() + 1);
    poke(END_OF_INTERRUPT, 0_u32);
}

fn step(_: &mut Frame) {
    STEPS.set(STEPS.get() + 1);
    set_dr6(0);
}

fn send(vector: u8) {
    poke(COMMAND, u32::from(vector) | SELF_ASSERT);
}

/// How many interrupts have come by now.
fn count() -> u32 {
    inb(0x80);
    COUNT.get()
}

fn run() {
    // The 8259 pair stays silent.
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    poke(SPURIOUS, APIC_ENABLED);
    handle(LOW, Some(interrupt));
    handle(HIGH, Some(interrupt));
    set_cr8(CLASS + 1);
    equal("cr8-is-the-task-priority", peek::<u32>(TASK_PRIORITY), (CLASS as u32 + 1) << 4);
    send(LOW);
    sti();
    equal("a-lower-class-waits", count(), 0);
    set_cr8(0);
    equal("cr8-lowered-releases-it", count(), 1);
    set_cr8(CLASS);
    send(LOW);
    equal("its-own-class-waits", count(), 1);
    send(HIGH);
    equal("a-higher-class-comes", count(), 2);
    set_cr8(CLASS - 1);
    equal("cr8-below-its-class-releases-it", count(), 3);
    poke(TASK_PRIORITY, 0x50_u32);
    equal("the-task-priority-is-cr8", cr8(), 5);
    send(LOW);
    equal("a-lower-class-waits-for-the-register", count(), 3);
    poke(TASK_PRIORITY, 0_u32);
    equal("the-register-lowered-releases-it", count(), 4);
    set_cr8(CLASS);
    send(LOW);
    handle(1, Some(step));
    // The single step's trap comes before the interrupt that the stepped instruction lets in.
    unsafe {
        asm!(
            "pushfq", "or qword ptr [rsp], {TF}", "popfq", "mov cr8, rax", "pushfq", "and qword ptr [rsp], ~{TF}", "popfq",
            TF = const TF, in("rax") 0_u64
        );
    }
    handle(1, None);
    equal("single-step-of-cr8-lowered", (STEPS.get(), count()), (4, 5));
    cli();
}
