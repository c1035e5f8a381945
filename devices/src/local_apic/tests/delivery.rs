//! Requests, priorities, and processors that take interrupts by themselves.

use super::*;

#[test]
fn priorities_nest_and_unwind() {
    let mut machine = Machine::enabled(1);
    let inbox = machine.apics[0].inbox().clone();
    let apic = &mut machine.apics[0];
    inbox.post_vector(0x31, false);
    assert_eq!(apic.highest_pending(), Some(0x31));
    apic.acknowledge(0x31);
    inbox.post_vector(0x35, false);
    assert_eq!(apic.highest_pending(), None, "same class");
    inbox.post_vector(0x80, false);
    assert_eq!(apic.highest_pending(), Some(0x80));
    apic.acknowledge(0x80);
    assert_eq!(read(apic, register::PPR), 0x80);
    assert_eq!(read(apic, register::ISR_FIRST + 1), 1 << 0x11);
    assert_eq!(read(apic, register::IRR_FIRST + 1), 1 << 0x15);
    write(apic, register::EOI, 0);
    assert_eq!(read(apic, register::PPR), 0x30);
    write(apic, register::EOI, 0);
    assert_eq!(apic.highest_pending(), Some(0x35));
    apic.set_tpr(0x30);
    assert_eq!(apic.highest_pending(), None);
    assert_eq!(apic.highest_requested(), Some(0x35));
    apic.set_tpr(0x2f);
    assert_eq!(serve(apic), Some(0x35));
    assert_eq!(apic.highest_requested(), None);
    assert!(!apic.has_pending());
}

#[test]
fn a_request_notifies_once_until_taken() {
    let mut machine = Machine::enabled(1);
    let inbox = machine.apics[0].inbox().clone();
    machine.kicks[0].take_notifications();
    assert!(inbox.post_vector(0x50, false));
    assert!(inbox.post_vector(0x50, false));
    assert_eq!(machine.kicks[0].take_notifications(), 1);
    assert_eq!(machine.apics[0].highest_pending(), Some(0x50));
    machine.apics[0].acknowledge(0x50);
    assert!(inbox.post_vector(0x50, false));
    assert_eq!(machine.kicks[0].take_notifications(), 1);
}

#[test]
fn level_interrupts_come_back_until_the_line_falls() {
    let mut machine = Machine::enabled(1);
    let io_apic = IoApic::new(machine.bus.clone());
    let line = IrqLine::new(io_apic.clone(), 11);
    io_apic.mmio_write(Access::new(0, 4), 0x10 + 22);
    io_apic.mmio_write(Access::new(0x10, 4), 0xa059);
    line.set(true);
    assert_eq!(read(&mut machine.apics[0], register::TMR_FIRST + 2), 1 << 0x19);
    assert_eq!(serve(&mut machine.apics[0]), Some(0x59));
    assert_eq!(machine.apics[0].highest_pending(), Some(0x59), "still asserted");
    machine.apics[0].acknowledge(0x59);
    line.set(false);
    write(&mut machine.apics[0], register::EOI, 0);
    assert_eq!(machine.apics[0].highest_pending(), None);
}

#[test]
fn posts_from_other_threads_are_never_lost() {
    extern crate std;
    const ROUNDS: u32 = 2000;
    let machine = Machine::enabled(1);
    let inbox = machine.apics[0].inbox().clone();
    let mut apic = machine.apics.into_iter().next().unwrap();
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                barrier.wait();
                inbox.post(0x41, false);
                inbox.post(0x52, true);
                barrier.wait();
            }
        });
        for round in 0..ROUNDS {
            barrier.wait();
            // While they are posted, and when they were.
            let early = apic.highest_pending();
            barrier.wait();
            assert_eq!(apic.highest_pending(), Some(0x52), "round {round}, {early:?} before");
            assert_eq!(
                (serve(&mut apic), serve(&mut apic)),
                (Some(0x52), Some(0x41)),
                "round {round}"
            );
            assert!(!apic.has_arrivals(), "round {round}");
        }
    });
}

#[test]
fn a_processor_may_take_edge_triggered_vectors_by_itself() {
    let mut machine = Machine::enabled(1);
    let apic = &mut machine.apics[0];
    let inbox = apic.inbox().clone();
    assert!(inbox.descriptor_address().is_multiple_of(4096));
    for vector in [0x31, 0xff, 0x31] {
        inbox.post_vector(vector, false);
    }
    assert_eq!(machine.kicks[0].take_notifications(), 1, "one is on its way");
    inbox.process_posted(apic.page());
    assert!(!apic.has_arrivals());
    assert_eq!((serve(apic), serve(apic), serve(apic)), (Some(0xff), Some(0x31), None));
    inbox.post_vector(0x31, false);
    inbox.post_vector(0x72, true);
    assert_eq!((machine.kicks[0].take_notifications(), machine.kicks[0].take()), (1, 1));
    inbox.process_posted(apic.page());
    assert!(apic.has_arrivals(), "the level-triggered one waits for the vCPU");
    assert_eq!(apic.highest_pending(), Some(0x72));
}

#[test]
fn a_processor_that_takes_and_ends_interrupts_in_the_page_is_followed() {
    let mut machine = Machine::enabled(1);
    let io_apic = IoApic::new(machine.bus.clone());
    let line = IrqLine::new(io_apic.clone(), 11);
    io_apic.mmio_write(Access::new(0, 4), 0x10 + 22);
    io_apic.mmio_write(Access::new(0x10, 4), 0xa059);
    line.set(true);
    let apic = &mut machine.apics[0];
    assert!(apic.has_arrivals());
    assert_eq!(apic.highest_pending(), Some(0x59));
    assert!(!apic.has_arrivals() && apic.has_pending());
    // Delivery and EOI, as SDM 30.2.2 and 30.1.4 have them: the end of a level-triggered one exits.
    let page = apic.page().clone();
    page.remove(Vectors::Requested, 0x59);
    page.insert(Vectors::InService, 0x59);
    assert_eq!(apic.highest_pending(), None);
    assert!(!apic.has_pending());
    page.remove(Vectors::InService, 0x59);
    apic.ended(0x59);
    assert_eq!(apic.highest_pending(), Some(0x59), "still asserted");
}

#[test]
fn a_look_that_is_kept_is_no_new_one() {
    let machine = Machine::enabled(1);
    let apic = &machine.apics[0];
    assert_eq!(apic.take_look(), None);
    apic.keep_look();
    assert!(apic.has_pending() && !apic.has_messages());
    assert_eq!(apic.take_look(), Some(Look::Again));
    apic.keep_look();
    apic.inbox().post_look();
    assert!(apic.has_pending() && !apic.has_messages());
    assert_eq!(apic.take_look(), Some(Look::New));
    assert_eq!((apic.take_look(), apic.has_pending()), (None, false));
}
