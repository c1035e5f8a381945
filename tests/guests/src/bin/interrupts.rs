//! When interrupts come: the shadows of STI and MOV SS, HLT, NMI and what blocks it, priorities of the local APIC (Intel SDM
//! volume 3, sections 6.7, 6.8 and 10.8).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::Global;
use conformance::cpu::{self, outb, poke};
use conformance::interrupts::{Frame, catch, handle};
use conformance::report::{check, equal, runs};

conformance::topic!(run);

const APIC: u64 = 0xfee0_0000;
const END_OF_INTERRUPT: u64 = APIC + 0xb0;
const SPURIOUS: u64 = APIC + 0xf0;
const COMMAND: u64 = APIC + 0x300;
const COMMAND_HIGH: u64 = APIC + 0x310;
const TIMER: u64 = APIC + 0x320;
const INITIAL_COUNT: u64 = APIC + 0x380;
const DIVIDE: u64 = APIC + 0x3e0;
const APIC_ENABLED: u32 = 0x1ff;
const SELF: u32 = 1 << 18;
const ASSERT: u32 = 1 << 14;
const NMI: u32 = 4 << 8;
const PERIODIC: u32 = 1 << 17;
const BY_1: u32 = 0xb;

/// A timer's period in counts, 100 us under Bulkhead, and how long to wait for it: many periods on every machine.
const PERIOD: u32 = 100_000;
const WAIT_ROUNDS: u32 = 40_000;

/// Two vectors of different priority classes.
const LOW: u8 = 0x40;
const HIGH: u8 = 0x70;

static COUNT: Global<u32> = Global::new(0);
static RIP: Global<u64> = Global::new(0);
static ORDER: Global<u32> = Global::new(0);
static NESTED: Global<u32> = Global::new(0);

fn interrupt(frame: &mut Frame) {
    COUNT.set(COUNT.get() + 1);
    RIP.set(frame.rip);
    ORDER.set(ORDER.get() << 8 | frame.vector as u32);
    poke(END_OF_INTERRUPT, 0_u32);
}

fn nmi(frame: &mut Frame) {
    COUNT.set(COUNT.get() + 1);
    RIP.set(frame.rip);
    if COUNT.get() == 1 && NESTED.get() == 0 {
        // Another one while this one is being handled: it waits for IRET.
        send(NMI);
        for _ in 0..100 {
            cpu::inb(0x80);
        }
        NESTED.set(COUNT.get());
    }
}

fn send(command: u32) {
    poke(COMMAND_HIGH, 0_u32);
    poke(COMMAND, command | ASSERT);
}

fn send_to_self(vector: u8) {
    poke(COMMAND, u32::from(vector) | SELF | ASSERT);
}

/// Runs `body` with an interrupt of `vector` pending and interrupts off; how many came, and where.
fn pending(body: impl FnOnce()) -> (u32, u64) {
    COUNT.set(0);
    // They are off, but here Bochs lets a hypervisor have the interrupts that it held back since the last entry.
    cpu::cli();
    send_to_self(LOW);
    body();
    cpu::sti();
    cpu::inb(0x80);
    cpu::cli();
    (COUNT.get(), RIP.get())
}

fn run() {
    // The 8259 pair stays silent.
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    poke(SPURIOUS, APIC_ENABLED);
    for vector in [LOW, HIGH] {
        handle(vector, Some(interrupt));
    }
    off();
    shadows();
    halt();
    priorities();
    non_maskable();
}

/// Each expiry but the first finds an interrupt that waits.
fn off() {
    COUNT.set(0);
    poke(DIVIDE, BY_1);
    poke(TIMER, PERIODIC | u32::from(LOW));
    poke(INITIAL_COUNT, PERIOD);
    for _ in 0..WAIT_ROUNDS {
        unsafe { asm!("cli", ".rept 50", "nop", ".endr") };
    }
    equal("none-comes-while-they-are-off", COUNT.get(), 0);
    poke(INITIAL_COUNT, 0_u32);
    pending(|| {});
}

fn shadows() {
    let expected: u64;
    let mut outcome = (0, 0);
    unsafe {
        asm!("lea {}, [rip + 2f]", "jmp 3f", "2: sti", "nop", "nop", "cli", "ret", "3:", out(reg) expected)
    };
    COUNT.set(0);
    send_to_self(LOW);
    unsafe { asm!("call {}", in(reg) expected) };
    outcome.0 = COUNT.get();
    outcome.1 = RIP.get();
    equal("sti-holds-off-for-one-instruction", outcome, (1, expected + 2));
    // A hypervisor's own interrupt may come between the two, and QEMU's VMRUN then forgets the shadow. That is rare.
    let mut came_between = true;
    let mut came = 0;
    for _ in 0..3 {
        came = pending(|| {
            unsafe { asm!("sti", "cli") };
            came_between &= COUNT.get() != 0;
        })
        .0;
    }
    check("sti-cli-lets-none-through", !came_between);
    equal("it-comes-later", came, 1);
    let popf: u64;
    unsafe {
        asm!("lea {}, [rip + 2f]", "jmp 3f", "2: pushfq", "or dword ptr [rsp], 0x200", "popfq", "nop", "cli", "ret", "3:", out(reg) popf)
    };
    COUNT.set(0);
    send_to_self(LOW);
    unsafe { asm!("call {}", in(reg) popf) };
    check("popf-has-no-shadow", COUNT.get() == 1 && RIP.get() > popf);
    // A shadow ends with an instruction that exits to a hypervisor as with any other.
    for (case, name) in [(0, "shadow-over-cpuid"), (1, "shadow-over-port"), (2, "shadow-over-device-memory")]
    {
        COUNT.set(0);
        send_to_self(LOW);
        unsafe {
            match case {
                0 => {
                    asm!("mov r8, rbx", "sti", "cpuid", "cli", "mov rbx, r8", inout("eax") 0 => _, out("r8") _, out("ecx") _, out("edx") _)
                }
                1 => asm!("sti", "in al, 0x80", "cli", out("al") _),
                _ => asm!("sti", "mov eax, [{}]", "cli", in(reg) APIC + 0x30, out("eax") _),
            }
        }
        let counted = COUNT.get();
        equal(name, counted, 1);
        pending(|| {});
    }
}

fn halt() {
    COUNT.set(0);
    send_to_self(LOW);
    let code: u64;
    unsafe { asm!("lea {}, [rip + 2f]", "jmp 3f", "2: sti", "hlt", "cli", "ret", "3:", out(reg) code) };
    unsafe { asm!("call {}", in(reg) code) };
    equal("sti-hlt-wakes-behind-hlt", (COUNT.get(), RIP.get()), (1, code + 2));
}

fn priorities() {
    COUNT.set(0);
    ORDER.set(0);
    send_to_self(LOW);
    send_to_self(HIGH);
    cpu::sti();
    cpu::inb(0x80);
    cpu::cli();
    equal("higher-class-first", (COUNT.get(), ORDER.get()), (2, u32::from(HIGH) << 8 | u32::from(LOW)));
    COUNT.set(0);
    cpu::sti();
    let outcome = catch(|| unsafe { asm!("int 0x40") });
    cpu::cli();
    check("int-n-needs-no-priority", outcome.is_ok() && COUNT.get() == 1);
}

fn non_maskable() {
    handle(2, Some(nmi));
    COUNT.set(0);
    NESTED.set(0);
    send(NMI);
    for _ in 0..1000 {
        cpu::inb(0x80);
    }
    equal("nmi-with-interrupts-off", COUNT.get() != 0, true);
    equal("nmi-is-blocked-until-iret", NESTED.get(), 1);
    equal("nmi-comes-after-iret", COUNT.get(), 2);
    COUNT.set(1);
    NESTED.set(1);
    send(NMI);
    for _ in 0..1000 {
        cpu::inb(0x80);
    }
    equal("nmi-again", COUNT.get(), 2);
    // INT 2 blocks nothing.
    runs("int-2", || unsafe { asm!("int 2") });
    handle(2, None);
}
