extern crate std;

use super::*;
use crate::irq::IrqLine;
use crate::local_apic::{ApicInbox, Kick, LocalApic};
use crate::time::{Alarm, TestClock};
use proptest::prelude::*;

struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

fn machine() -> (Arc<IoApic>, LocalApic) {
    let inbox = ApicInbox::new(Arc::new(NoKick));
    let bus = ApicBus::new(alloc::vec![inbox.clone()]);
    let io_apic = IoApic::new(bus.clone());
    let mut apic = LocalApic::new(0, inbox, bus, TestClock::new(), Alarm::detached());
    apic.mmio_write(0xf0, 0x1ff);
    (io_apic, apic)
}

fn read(io_apic: &IoApic, number: u8) -> u32 {
    io_apic.mmio_write(Access::new(offset::SELECT, 4), number.into());
    io_apic.mmio_read(Access::new(offset::WINDOW, 4)).unwrap() as u32
}

fn write(io_apic: &IoApic, number: u8, value: u32) {
    io_apic.mmio_write(Access::new(offset::SELECT, 4), number.into());
    io_apic.mmio_write(Access::new(offset::WINDOW, 4), value.into());
}

fn serve(apic: &mut LocalApic) -> Option<u8> {
    let vector = apic.highest_pending()?;
    apic.acknowledge(vector);
    apic.end_of_interrupt();
    Some(vector)
}

/// Another CPU takes the interrupt and ends it, as soon as it is kicked.
#[derive(Default)]
struct QuickCpu {
    io_apic: spin::Once<Arc<IoApic>>,
    ends: spin::Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Kick for QuickCpu {
    fn kick(&self) {
        let Some(io_apic) = self.io_apic.get().cloned() else { return };
        let end = std::thread::spawn(move || {
            // The handler sees to the device first.
            io_apic.set_line(1, false);
            io_apic.eoi(0x41);
        });
        // It has the time to be faster than the sender, unless it has to wait for it.
        for _ in 0..1000 {
            if end.is_finished() {
                break;
            }
            std::thread::yield_now();
        }
        self.ends.lock().push(end);
    }
}

#[test]
fn an_end_that_comes_before_the_sender_goes_on_counts() {
    let cpu = Arc::new(QuickCpu::default());
    let inbox = ApicInbox::new(cpu.clone());
    let bus = ApicBus::new(alloc::vec![inbox.clone()]);
    let io_apic = IoApic::new(bus.clone());
    let mut apic = LocalApic::new(0, inbox, bus, TestClock::new(), Alarm::detached());
    apic.mmio_write(0xf0, 0x1ff);
    cpu.io_apic.call_once(|| io_apic.clone());
    write(&io_apic, 0x13, 0);
    write(&io_apic, 0x12, 0x8041);
    let line = IrqLine::new(io_apic.clone(), 1);
    line.set(true);
    let ends = core::mem::take(&mut *cpu.ends.lock());
    assert_eq!(ends.len(), 1);
    for end in ends {
        end.join().unwrap();
    }
    assert_eq!(read(&io_apic, 0x12) & 1 << 14, 0);
}

#[test]
fn linux_finds_it_and_programs_the_timer_pin() {
    let (io_apic, mut apic) = machine();
    assert_eq!(read(&io_apic, 1), 0x0017_0020);
    write(&io_apic, 0, 0x0200_0000);
    assert_eq!(read(&io_apic, 0), 0x0200_0000);
    // clear_IO_APIC: every entry masked.
    for pin in 0..24 {
        assert_eq!(read(&io_apic, 0x10 + 2 * pin), 0x10000);
        write(&io_apic, 0x10 + 2 * pin, 0x10000);
        write(&io_apic, 0x11 + 2 * pin, 0);
    }
    // IRQ 0 on pin 2: edge, vector 30h, to APIC 0.
    let line = IrqLine::new(io_apic.clone(), 2);
    line.pulse();
    write(&io_apic, 0x15, 0);
    write(&io_apic, 0x14, 0x30);
    assert_eq!(serve(&mut apic), None, "the edge under the mask is lost");
    line.pulse();
    assert_eq!(serve(&mut apic), Some(0x30));
    assert_eq!(serve(&mut apic), None);
    // Rate of one message an edge: a line that stays high does not repeat.
    line.set(true);
    assert_eq!(serve(&mut apic), Some(0x30));
    assert_eq!(serve(&mut apic), None);
}

#[test]
fn a_masked_level_is_found_when_unmasked() {
    let (io_apic, mut apic) = machine();
    let line = IrqLine::new(io_apic.clone(), 10);
    write(&io_apic, 0x24, 0x18040);
    line.set(true);
    assert_eq!(serve(&mut apic), None);
    write(&io_apic, 0x24, 0x8040);
    assert_eq!(read(&io_apic, 0x24), 0xc040, "remote IRR");
    line.set(false);
    assert_eq!(serve(&mut apic), Some(0x40));
    assert_eq!(read(&io_apic, 0x24), 0x8040);
    assert_eq!(serve(&mut apic), None);
}

#[test]
fn the_eoi_register_and_the_edge_trick_clear_remote_irr() {
    let (io_apic, mut apic) = machine();
    let line = IrqLine::new(io_apic.clone(), 10);
    write(&io_apic, 0x24, 0x8040);
    line.set(true);
    line.set(false);
    io_apic.mmio_write(Access::new(offset::EOI, 4), 0x41);
    assert_eq!(read(&io_apic, 0x24), 0xc040, "another vector");
    io_apic.mmio_write(Access::new(offset::EOI, 4), 0x40);
    assert_eq!(read(&io_apic, 0x24), 0x8040);
    line.set(true);
    assert_eq!(read(&io_apic, 0x24), 0xc040);
    write(&io_apic, 0x24, 0x10040);
    write(&io_apic, 0x24, 0x18040);
    assert_eq!(read(&io_apic, 0x24), 0x18040);
    assert_eq!(serve(&mut apic), Some(0x40));
}

proptest! {
    #[test]
    fn remote_irr_only_on_level_entries(
        actions in prop::collection::vec((0u8..5, 0u8..64, any::<u32>()), 1..300),
    ) {
        let (io_apic, mut apic) = machine();
        let lines: Vec<_> = (0..INPUTS as u32).map(|n| IrqLine::new(io_apic.clone(), n)).collect();
        for (kind, place, value) in actions {
            match kind {
                0 => write(&io_apic, place, value),
                1 => lines[usize::from(place) % INPUTS].set(value & 1 != 0),
                2 => { serve(&mut apic); }
                3 => { io_apic.mmio_read(Access::new(value.into(), 1 << (place & 3))); }
                _ => io_apic.mmio_write(Access::new(u64::from(value) & 0xff, 4), place.into()),
            }
            for pin in 0..INPUTS as u8 {
                let entry = Redirection::from_bits(read(&io_apic, 0x10 + 2 * pin).into());
                prop_assert!(!entry.remote_irr() || entry.level());
            }
        }
    }
}
