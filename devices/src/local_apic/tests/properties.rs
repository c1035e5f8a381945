//! Properties that hold for all that a guest can do.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    Read(u16),
    Write(u16, u32),
    ReadMsr(u32),
    WriteMsr(u32, u64),
    Base(u64),
    Deadline(u64),
    Serve,
    Post(u8, bool),
    Pass(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0u16..0x400).prop_map(Action::Read),
        (0u16..0x40, any::<u32>()).prop_map(|(n, value)| Action::Write(n << 4, value)),
        (0x7f0u32..0x850).prop_map(Action::ReadMsr),
        (0x7f0u32..0x850, any::<u64>()).prop_map(|(index, value)| Action::WriteMsr(index, value)),
        any::<u64>().prop_map(|value| Action::Base(0xfee0_0000 | value & 0xd00)),
        any::<u64>().prop_map(Action::Deadline),
        Just(Action::Serve),
        any::<(u8, bool)>().prop_map(|(vector, level)| Action::Post(vector, level)),
        (0u64..1_000_000_000_000).prop_map(Action::Pass),
    ]
}

proptest! {
    #[test]
    fn no_access_panics_and_priority_holds(actions in prop::collection::vec(action(), 1..200)) {
        let mut machine = Machine::enabled(2);
        let _io_apic = IoApic::new(machine.bus.clone());
        for action in actions {
            let apic = &mut machine.apics[0];
            match action {
                Action::Read(offset) => { apic.mmio_read(offset); }
                Action::Write(offset, value) => apic.mmio_write(offset, value),
                Action::ReadMsr(index) => { let _ = apic.read_msr(index); }
                Action::WriteMsr(index, value) => { let _ = apic.write_msr(index, value); }
                Action::Base(value) => { let _ = apic.set_apic_base(value); }
                Action::Deadline(at) => apic.set_tsc_deadline(Some(GuestTime::from_ns(at)), at),
                Action::Serve => {
                    if let Some(vector) = apic.highest_pending() {
                        prop_assert!(u32::from(vector >> 4) > read(apic, register::PPR) >> 4);
                        prop_assert!(vector >= 16);
                        apic.acknowledge(vector);
                        prop_assert!(apic.highest_pending().is_none_or(|next| next >> 4 > vector >> 4));
                    }
                }
                Action::Post(vector, level) => { apic.inbox().post_vector(vector, level); }
                Action::Pass(ns) => {
                    machine.clock.advance_ns(ns);
                    while let Some(slot) = machine.deadlines.take_expired(machine.clock.now()) {
                        machine.apics[slot].timer().expired(machine.clock.now());
                    }
                }
            }
            let apic = &mut machine.apics[0];
            prop_assert!(read(apic, register::CURRENT_COUNT) <= read(apic, register::INITIAL_COUNT));
        }
    }
    #[test]
    fn a_write_that_the_processor_carried_out_comes_to_the_same(
        writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..50), x2apic: bool
    ) {
        // The registers that SDM 30.4.3.1 and 30.5 let the processor write.
        const MEMORY: &[u8] = &[
            0x02, 0x08, 0x0b, 0x0d, 0x0e, 0x0f, 0x28, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x3e,
        ];
        const MSRS: &[u8] = &[register::TPR, register::EOI, register::SELF_IPI];
        let machine = || if x2apic { Machine::x2apic(2) } else { Machine::enabled(2) };
        let (mut ours, mut theirs) = (machine(), machine());
        for (choice, value) in writes {
            let number = *choice.get(if x2apic { MSRS } else { MEMORY });
            let value = if number == register::SELF_IPI { value & 0xff } else { value };
            let index = spec::X2APIC_FIRST_MSR + u32::from(number);
            if x2apic && theirs.apics[0].write_msr(index, value.into()).is_err() {
                continue;
            }
            if !x2apic {
                write(&mut theirs.apics[0], number, value);
            }
            ours.apics[0].page().set(number, value);
            ours.apics[0].written(u16::from(number) << 4);
            for writable in (0..=register::LAST).filter(|&n| n != register::SELF_IPI && n != register::EOI) {
                let value = |machine: &Machine| machine.apics[0].page().get(writable);
                prop_assert_eq!(value(&ours), value(&theirs), "register {:#x}", writable);
            }
            prop_assert_eq!(ours.deadlines.earliest(), theirs.deadlines.earliest());
            prop_assert_eq!(ours.pending(), theirs.pending());
        }
    }
}
