//! The fuzzers' functions with bytes that are not led by coverage, a bounded number of times.

use emulator::fuzzing::replay;
use proptest::prelude::*;

#[test]
fn kept_inputs_break_no_promise() {
    replay("devices", super::devices);
    replay("steps", super::steps);
    replay("high_ram", super::high_ram);
    replay("boot_disk", super::boot_disk);
    replay("xl_cfg", super::xl_cfg);
    replay("pc_config", super::pc_config);
    replay("command_line", super::command_line);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_machine_survives_what_its_guest_does(data in prop::collection::vec(any::<u8>(), 0..1500)) {
        super::devices(&data);
    }

    #[test]
    fn sectors_arrive_where_the_boot_rom_asks_for_them(
        data in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        super::boot_disk(&data);
    }

    #[test]
    fn ram_of_any_size_is_found_by_processor_and_devices(
        data in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        super::high_ram(&data);
    }

    #[test]
    fn steps_on_a_device_end_as_on_ram(data in prop::collection::vec(any::<u8>(), 0..400)) {
        super::steps(&data);
    }

    #[test]
    fn every_accepted_configuration_becomes_its_pc(
        memory in prop_oneof![2u32..100, 3500u32..6200], hpet: bool, vcpus in 1u32..4,
        serial in "(none|pty|null)", device in "(hda|hdb|hdd|xvda)", more in "[a-z0-9=;' ]{0,12}") {
        let text = alloc::format!(
            "name='g';memory={memory};hpet={};serial='{serial}';vcpus={vcpus}\n\
             disk=['a.img,raw,{device},rw','b.iso,raw,hdc,ro,cdrom']\n{more}\n", u8::from(hpet));
        super::pc_config(text.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_configuration_is_read_or_refused(text in "([a-z_]{1,10} ?= ?(['\"\\[][a-z0-9,:=]{0,12}['\"\\]]?|[0-9]{1,12})[;\n]){0,6}") {
        super::xl_cfg(text.as_bytes());
    }

    #[test]
    fn every_command_line_is_read(text in "([a-z0-9]{1,8}(=[a-z0-9,:]{0,14})? ){0,6}") {
        super::command_line(text.as_bytes());
    }
}
