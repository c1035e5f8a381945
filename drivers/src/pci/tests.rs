use super::*;
use crate::testing::{FakeFunction, FakeMachine};
use proptest::prelude::*;

fn at(bus: u8, device: u8, function: u8) -> Address {
    Address { bus, device, function }
}

/// A bridge to a bus.
fn bridge(address: Address, secondary: u8) -> FakeFunction {
    let mut bridge = FakeFunction::new(address, 0x8086, 1);
    (bridge.config[3], bridge.config[6]) = (0x1_0000, u32::from(secondary) << 8);
    bridge
}

#[test]
fn buses_behind_bridges_are_looked_at_once() {
    let mut several = FakeFunction::new(at(3, 1, 0), 0x8086, 2);
    several.config[3] = 1 << 23;
    let machine = FakeMachine::leak(vec![
        FakeFunction::new(at(0, 0, 0), 0x8086, 3),
        bridge(at(0, 1, 0), 3),
        bridge(at(0, 2, 0), 0),
        several,
        FakeFunction::new(at(3, 1, 7), 0x8086, 4),
        // Not a device of several functions: the second is its own shadow.
        FakeFunction::new(at(0, 0, 1), 0x8086, 3),
        bridge(at(3, 2, 0), 3),
        // No bridge leads here.
        FakeFunction::new(at(9, 0, 0), 0x8086, 5),
    ]);
    let expected = [at(0, 0, 0), at(0, 1, 0), at(0, 2, 0), at(3, 1, 0), at(3, 1, 7), at(3, 2, 0)];
    assert_eq!(functions(machine), expected);
}

#[test]
fn memory_is_sized_and_is_as_it_was_afterwards() {
    let mut function = FakeFunction::new(at(0, 1, 0), 1, 2)
        .with_bar(0, 0xfe00_0000, 0x4000)
        .with_bar(3, 0, 0x1000);
    // 64 bits wide, above 4 GiB, prefetchable.
    (function.config[8], function.config[9]) = (0xc, 0x80);
    (function.bar_masks[4], function.bar_masks[5]) = (0xffff_c000, u32::MAX);
    function.config[1] = 3;
    let before = function.config;
    let machine = FakeMachine::leak(vec![function]);
    let function = Function::new(machine, at(0, 1, 0));
    let bar = |address, length_bytes| Some(Bar { address, length_bytes });
    assert_eq!(function.memory_bar(0), bar(0xfe00_0000, 0x4000));
    assert_eq!(function.memory_bar(4), bar(0x80_0000_0000, 0x4000));
    assert_eq!(function.memory_bar(1), None, "there is none");
    assert_eq!(function.memory_bar(3), None, "no address");
    assert_eq!(function.memory_bar(6), None);
    for (register, value) in (0..).zip(before) {
        assert_eq!(function.read(register * 4), value, "register {register}");
    }
}

#[test]
fn a_list_of_capabilities_in_a_circle_ends() {
    let mut function = FakeFunction::new(at(0, 1, 0), 1, 2)
        .with_capabilities(&[(capability::MSI, &[0]), (capability::VENDOR, &[0])]);
    let machine = |function| FakeMachine::leak(vec![function]);
    let whole =
        machine(FakeFunction { config: function.config, ..FakeFunction::new(at(0, 1, 0), 1, 2) });
    let list: Vec<_> = Function::new(whole, at(0, 1, 0)).capabilities().collect();
    assert_eq!(list, [(capability::MSI, 0x40), (capability::VENDOR, 0x44)]);
    function.config[17] |= 0x40 << 8;
    let circle = machine(function);
    assert_eq!(Function::new(circle, at(0, 1, 0)).capabilities().count(), 48);
}

proptest! {
    /// The search ends, and finds each function once, in any configuration space.
    #[test]
    fn any_configuration_space_is_walked_to_its_end(
        seeds in proptest::collection::vec((0_u8..8, 0_u8..32, 0_u8..8, any::<u64>()), 0..40),
    ) {
        let functions = seeds.iter().map(|&(bus, device, number, seed)| {
            let mut function = FakeFunction::new(at(bus, device, number), 1, 2);
            let mut state = seed | 1;
            for register in 1..64 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                function.config[register] = (state >> 32) as u32;
            }
            // A bridge more often than not, to one of few buses.
            function.config[3] &= !(0x7e << 16);
            function.config[6] &= 0xffff_07ff;
            function
        });
        let machine = FakeMachine::leak(functions.collect());
        let found = super::functions(machine);
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        for address in found {
            let function = Function::new(machine, address);
            let before: Vec<u32> = (0..64).map(|register| function.read(register * 4)).collect();
            prop_assert!(function.capabilities().count() <= 48);
            for index in 0..8 {
                function.memory_bar(index);
            }
            let after: Vec<u32> = (0..64).map(|register| function.read(register * 4)).collect();
            prop_assert_eq!(before, after);
        }
    }
}
