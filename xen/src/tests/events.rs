//! Ports: between virtual CPUs, to back ends, masked and closed.

use super::*;
use crate::events::BackEnd;
use crate::hypercall::Then;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Default)]
struct Disk(AtomicU32);

impl BackEnd for Disk {
    fn notified(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const SHARED_INFO: u64 = 0x2_0000;

fn guest(vcpus: usize) -> Guest {
    let mut guest = Guest::new(Width::Bits64, vcpus);
    assert_eq!(guest.put(0, 0, 0x20), 0);
    assert_eq!(guest.param(0, Some(2 << 56 | 0xf3)), Ok(2 << 56 | 0xf3));
    guest.told();
    guest
}

fn mask(guest: &Guest, port: u32, masked: bool) {
    guest.poke(SHARED_INFO + 2560, &u64::from(masked).wrapping_shl(port).to_le_bytes());
}

#[test]
fn a_masked_port_waits_until_it_is_unmasked() {
    let mut guest = guest(2);
    assert_eq!(guest.event(7, [1, 0]), (0, [1, 1]));
    mask(&guest, 1, true);
    assert_eq!(guest.event(4, [1]).0, 0);
    assert_eq!(guest.told(), []);
    assert_eq!(guest.event(9, [1]).0, 0);
    assert_eq!(guest.told(), [Told::Look { vcpu: 1 }]);
    assert_eq!(guest.u64_at(SHARED_INFO + 64 + 8), 1, "the word is named at the second one");
    assert_eq!(guest.event(9, [1]).0, 0);
    assert_eq!(guest.told(), [], "it was not masked");
}

/// As drivers do that have no vector: INTA of the platform device, slot 3.
#[test]
fn a_line_is_high_until_the_guest_has_seen_to_its_events() {
    let mut guest = guest(2);
    let line = EventLine::Pci { device: 3, pin: 0 };
    assert_eq!(guest.param(0, Some(1 << 56 | 3 << 11)), Ok(1 << 56 | 3 << 11));
    assert_eq!(guest.event(7, [0, 0]), (0, [0, 1]));
    assert_eq!(guest.event(7, [1, 0]), (0, [1, 2]));
    assert_eq!(guest.event(4, [2]).0, 0);
    assert_eq!(guest.told(), [], "it is for the first virtual CPU");
    assert_eq!(guest.event(4, [1]).0, 0);
    assert_eq!(guest.told(), [Told::Line { line, high: true }, Told::Look { vcpu: 0 }]);
    assert!(guest.platform.holds_line(0));
    guest.poke(SHARED_INFO, &[0]);
    guest.told();
    assert!(!guest.platform.holds_line(0));
    assert_eq!(guest.told(), [Told::Line { line, high: false }]);
    assert!(!guest.platform.holds_line(1));
    // Another callback leaves no line behind.
    assert_eq!(guest.param(0, Some(2 << 56 | 0x33)), Ok(2 << 56 | 0x33));
    assert_eq!(guest.told()[0], Told::Line { line, high: false });
}

#[test]
fn a_back_end_and_its_front_end_tell_each_other() {
    let mut guest = guest(1);
    let disk = Arc::new(Disk::default());
    let back_end: Arc<dyn BackEnd> = disk.clone();
    assert_eq!(guest.event(6, [u32::from(SELF), 0]), (0, [u32::from(SELF), 1]));
    assert_eq!(guest.event(4, [1]).0, 0, "nothing is there yet: dropped");
    let connected = guest.platform.with_ports(|ports, _| ports.connect(1, back_end.clone()));
    assert!(connected.is_ok());
    assert_eq!(guest.event(5, [u32::from(SELF), 1, 0, 0, 0, 0]).1[2..], [2, 0, 0, 1]);
    assert_eq!(guest.event(4, [1]).0, 0);
    assert_eq!(disk.0.load(Ordering::Relaxed), 1);
    guest.platform.notify(&back_end);
    assert_eq!(guest.told(), [Told::Look { vcpu: 0 }]);
    guest.platform.with_ports(|ports, _| ports.disconnect(&back_end));
    assert_eq!(guest.event(5, [u32::from(SELF), 1, 0, 0, 0, 0]).1[2..4], [1, 0]);
    assert_eq!(guest.event(4, [1]).0, 0);
    assert_eq!(disk.0.load(Ordering::Relaxed), 1);
    guest.poke(SHARED_INFO + 2048, &[0; 8]);
    guest.told();
    guest.platform.notify(&back_end);
    assert_eq!(guest.told(), []);
}

/// Windows' drivers close all ports at their start, and bind those of XenStore and console anew.
#[test]
fn ports_that_were_bound_at_the_start_are_bound_again_after_a_reset() {
    let mut guest = guest(1);
    let disk = Arc::new(Disk::default());
    let back_end: Arc<dyn BackEnd> = disk.clone();
    let port = guest.platform.with_ports(|ports, words| ports.connect_new(words, back_end.clone()));
    assert_eq!(port, Ok(1));
    let status = guest.event(5, [u32::from(SELF), 1, 0, 0, 0, 0]).1;
    let (far_domain, far_port) = (status[4], status[5]);
    assert_eq!(guest.event(0, [far_domain, far_port, 0]).0, -22, "it is bound");
    assert_eq!(guest.event(10, [u32::from(SELF)]).0, 0);
    assert_eq!(guest.event(4, [1]).0, -22);
    assert_eq!(guest.event(0, [far_domain, far_port, 0]), (0, [far_domain, far_port, 1]));
    assert_eq!(guest.event(4, [1]).0, 0);
    assert_eq!(disk.0.load(Ordering::Relaxed), 1);
    assert_eq!(guest.param(2, Some(1)), Ok(1));
}

#[test]
fn what_cannot_be_bound_sent_or_closed() {
    let mut guest = guest(2);
    assert_eq!(guest.event(1, [0, 2, 0]).0, -2, "no such virtual CPU");
    assert_eq!(guest.event(1, [24, 0, 0]).0, -22);
    assert_eq!(guest.event(1, [24, 2, 0]).0, -22, "its number is looked at first");
    assert_eq!(guest.event(1, [2, 2, 0]).0, -22);
    assert_eq!(guest.event(1, [2, 1, 0]).0, -22, "the console's is global");
    assert_eq!(guest.event(1, [0, 1, 0]), (0, [0, 1, 1]));
    assert_eq!(guest.event(1, [0, 1, 0]).0, -17);
    assert_eq!(guest.event(4, [1]).0, -22, "a virtual interrupt is not sent");
    assert_eq!(guest.event(8, [1, 0]).0, -22, "it belongs to its virtual CPU");
    assert_eq!(guest.event(3, [1]).0, 0);
    assert_eq!(guest.event(3, [1]).0, -22);
    for port in [0, 2, 5000, u32::MAX] {
        assert_eq!(guest.event(3, [port]).0, -22, "{port}");
        assert_eq!(guest.event(4, [port]).0, -22, "{port}");
        assert_eq!(guest.event(9, [port]).0, -22, "{port}");
    }
    assert_eq!(guest.event(5, [u32::from(SELF), 5000, 0, 0, 0, 0]).0, -22);
    assert_eq!(guest.event(5, [u32::from(SELF), 1, 9, 9, 9, 9]).1[2..4], [0, 0]);
    assert_eq!(guest.event(6, [7, 0]).0, -3, "of another domain");
    assert_eq!(guest.event(0, [3, 1, 0]).0, -3);
    assert_eq!(guest.event(14, [0]).0, -38);
}

#[test]
fn a_global_interrupt_is_bound_once_wherever_it_is_told() {
    let mut guest = guest(2);
    assert_eq!(guest.event(1, [2, 0, 0]), (0, [2, 0, 1]));
    assert_eq!(guest.event(8, [1, 1]).0, 0);
    assert_eq!(guest.event(1, [2, 0, 0]).0, -17);
    assert_eq!(guest.event(3, [1]).0, 0);
    assert_eq!(guest.event(1, [2, 0, 0]), (0, [2, 0, 1]));
    // One of a virtual CPU's own is another at the next one.
    assert_eq!(guest.event(1, [1, 0, 0]), (0, [1, 0, 2]));
    assert_eq!(guest.event(1, [1, 1, 0]), (0, [1, 1, 3]));
}

#[test]
fn an_upcall_vector_takes_the_place_of_the_one_before() {
    let mut guest = guest(1);
    let mut set = |vcpu: u8, vector| guest.op(34, 23, [vcpu, 0, 0, 0, vector, 0, 0, 0]).0;
    assert_eq!(set(1, 0x0f), -22, "the vector is looked at first");
    assert_eq!(set(1, 0x40), -2);
    assert_eq!([set(0, 0x40), set(0, 0x41), set(0, 0x0f)], [0, 0, -22]);
    guest.told();
    assert_eq!(guest.event(7, [0, 0]).0, 0);
    assert_eq!(guest.event(4, [1]).0, 0);
    assert_eq!(guest.told(), [Told::Interrupt { vcpu: 0, vector: 0x41 }]);
}

#[test]
fn ports_end_and_come_back() {
    let mut guest = guest(1);
    let mut last = 0;
    loop {
        match guest.event(7, [0, 0]) {
            (0, [_, port]) => last = port,
            (error, _) => {
                assert_eq!(error, -28);
                break;
            }
        }
    }
    assert_eq!(last, 1023);
    assert_eq!(guest.event(3, [500]).0, 0);
    assert_eq!(guest.event(7, [0, 0]), (0, [0, 500]));
}

#[test]
fn a_sleep_ends_by_an_upcall_and_does_not_begin_while_one_waits() {
    let mut guest = guest(1);
    assert_eq!(guest.event(7, [0, 0]), (0, [0, 1]));
    assert_eq!(guest.op(34, 23, [0, 0, 0, 0, 0x40, 0, 0, 0]).0, 0);
    assert_eq!(guest.call_on(0, 29, &[1, 0]).then, Then::Wait);
    guest.told();
    assert_eq!(guest.event(4, [1]).0, 0);
    let told = [Told::Look { vcpu: 0 }, Told::Interrupt { vcpu: 0, vector: 0x40 }];
    assert_eq!(guest.told(), told, "with interrupts off, too");
    assert_eq!(guest.call_on(0, 29, &[1, 0]).then, Then::Continue);
}
