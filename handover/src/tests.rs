//! Loaders' information as the specifications have it, and anything else.

use super::fuzzing::ask;
use super::told::{ADDRESS, MAGICS, Memory, Told};
use super::*;
use proptest::prelude::*;
use std::format;
use std::vec;

#[test]
fn any_number_of_modules_is_handed_over() {
    let told = Told {
        loader: "GRUB 2.06".into(),
        command_line: "console=com1 noreboot".into(),
        modules: (0..300)
            .map(|n| (0x10_0000 + n * 0x1000, 0x10_0000 + n * 0x1000 + 7, format!("m{n} x")))
            .collect(),
        areas: (0..300).map(|n| (n << 20, 1 << 19, 1 + n as u32 % 5)).collect(),
    };
    let (one, two) = (told.multiboot1(), told.multiboot2(&[]));
    let one = Handover::read(multiboot1::MAGIC, ADDRESS, &one).unwrap();
    told.check(&one);
    let two = Handover::read(multiboot2::MAGIC, ADDRESS, &two).unwrap();
    told.check(&two);
    assert_eq!((one.protocol(), two.protocol()), ("multiboot 1", "multiboot 2"));
    assert_eq!((one.screen(), two.screen()), (Screen::Unknown, Screen::Unknown));
    // Each module's string, too, and the five tables and strings beside them.
    assert_eq!(one.occupied().count(), 5 + 2 * 300);
    assert_eq!(two.occupied().count(), 1 + 300);
}

#[test]
fn empty_modules_take_no_memory_but_their_place_in_the_list() {
    let modules =
        vec![(0, 0, "a".into()), (0x5000, 0x5000, "b".into()), (0x6000, 0x5000, "c".into())];
    let told =
        Told { loader: "GRUB 2".into(), modules, areas: vec![(0, 1 << 20, 1)], ..Told::default() };
    let (one, two) = (told.multiboot1(), told.multiboot2(&[]));
    for (magic, memory, own) in [(MAGICS[0], &one, 5 + 3), (MAGICS[1], &two, 1)] {
        let handover = Handover::read(magic, ADDRESS, memory).unwrap();
        told.check(&handover);
        assert!(handover.modules().all(|module| module.range.is_empty()));
        assert_eq!(handover.occupied().count(), own);
    }
}

#[test]
fn loaders_but_grub_2_put_the_file_name_first() {
    let told =
        Told { loader: "qemu".into(), command_line: "/bulkhead a b".into(), ..Told::default() };
    let memory = told.multiboot1();
    let handover = Handover::read(multiboot1::MAGIC, ADDRESS, &memory).unwrap();
    assert_eq!(handover.command_line(), "a b");
}

#[test]
fn the_display_and_the_root_pointer_come_by_multiboot_2() {
    let mut framebuffer = vec![0; 24];
    framebuffer[..8].copy_from_slice(&0xfd00_0000u64.to_le_bytes());
    for (offset, value) in [(8, 4096u32), (12, 1024), (16, 768)] {
        framebuffer[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
    framebuffer[20..22].copy_from_slice(&[32, 1]);
    framebuffer.extend([16, 8, 8, 8, 0, 8]);
    let told = Told { areas: vec![(0, 1 << 20, 1)], ..Told::default() };
    let memory = told.multiboot2(&[(14, b"old"), (8, &framebuffer), (15, b"new pointer")]);
    let bytes = memory.0.clone();
    let handover = Handover::read(multiboot2::MAGIC, ADDRESS, &memory).unwrap();
    let at = (handover.rsdp().unwrap() - u64::from(ADDRESS)) as usize;
    assert_eq!(&bytes[at..at + 11], b"new pointer");
    let fields = [(16, 8), (8, 8), (0, 8)];
    let expected = Framebuffer {
        address: 0xfd00_0000,
        pitch_bytes: 4096,
        width: 1024,
        height: 768,
        bits_per_pixel: 32,
        fields,
    };
    assert_eq!(handover.screen(), Screen::Framebuffer(expected));
}

#[test]
fn what_is_no_information_is_refused() {
    let memory = Memory(vec![0; 100]);
    let refusal = |magic, address| Handover::read(magic, address, &memory).err().unwrap();
    assert!(refusal(7, ADDRESS).contains("not loaded by a multiboot loader"));
    assert!(refusal(multiboot1::MAGIC, 0).contains("broken"));
    assert!(refusal(multiboot2::MAGIC, u32::MAX).contains("broken"));
    assert!(refusal(multiboot1::MAGIC, ADDRESS).contains("no memory map"));
}

#[test]
fn other_cpus_start_in_free_ram_below_640_kib() {
    let page = |areas: &[(u64, u64, u32)], modules: &[(u32, u32)]| {
        let modules =
            modules.iter().map(|&(start, end)| (start, end, "small.iso".into())).collect();
        let memory = Told { areas: areas.to_vec(), modules, ..Told::default() }.multiboot2(&[]);
        Handover::read(multiboot2::MAGIC, ADDRESS, &memory).unwrap().real_mode_page()
    };
    let high = (0x10_0000, 0x1000_0000, 1);
    assert_eq!(page(&[], &[]), None);
    assert_eq!(page(&[high], &[]), None, "too high");
    // As a BIOS has it: its extended data area is not RAM.
    let low = [(0, 0x9_fc00, 1), (0x9_fc00, 0x400, 2), high];
    assert_eq!(page(&low, &[]), Some(0x9e));
    assert_eq!(page(&low, &[(0x9_0000, 0x9_dfff), (0x9_e800, 0x9_e810)]), Some(0x8f));
    let contradicted = [low[0], (0x1000, 0x9_e000, 2), high];
    assert_eq!(
        page(&contradicted, &[]),
        None,
        "what is reserved is not free, whatever else says so"
    );
}

prop_compose! {
    fn told()(
        loader in "GRUB 2[ -~]{0,8}",
        command_line in "[ -~]{0,30}",
        modules in prop::collection::vec((any::<u32>(), any::<u32>(), "[ -~]{0,12}"), 0..70),
        areas in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..8), 1..40),
    ) -> Told {
        Told { loader, command_line, modules, areas }
    }
}

proptest! {
    #[test]
    fn what_is_told_is_read(told in told()) {
        let (one, two) = (told.multiboot1(), told.multiboot2(&[]));
        told.check(&Handover::read(multiboot1::MAGIC, ADDRESS, &one).unwrap());
        told.check(&Handover::read(multiboot2::MAGIC, ADDRESS, &two).unwrap());
    }

    #[test]
    fn broken_information_does_no_harm(
        told in told(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        for (magic, mut memory) in [(MAGICS[0], told.multiboot1()), (MAGICS[1], told.multiboot2(&[]))] {
            for (at, value) in &changes {
                let at = at.index(memory.0.len());
                memory.0[at] = *value;
            }
            ask(magic, &memory);
            memory.0.truncate(cut.index(memory.0.len()));
            ask(magic, &memory);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0usize..2) {
        ask(MAGICS[magic], &Memory(bytes));
    }

    #[test]
    fn what_fuzzers_drive_holds(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::multiboot(&data);
    }
}
