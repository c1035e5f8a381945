//! Loaders' information as the specifications have it, and anything else.

use super::*;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const ADDRESS: u32 = 0x1_0000;
const MAGICS: [u32; 2] = [multiboot1::MAGIC, multiboot2::MAGIC];

/// Memory with something at [`ADDRESS`].
struct Memory(Vec<u8>);

impl LoaderMemory for Memory {
    fn bytes(&self, address: u32, length_bytes: usize) -> Option<&[u8]> {
        self.0.get(address.checked_sub(ADDRESS)? as usize..)?.get(..length_bytes)
    }
}

/// What a loader has to tell.
#[derive(Clone, Debug, Default)]
struct Told {
    loader: String,
    command_line: String,
    modules: Vec<(u32, u32, String)>,
    areas: Vec<(u64, u64, u32)>,
}

impl Told {
    fn multiboot1(&self) -> Memory {
        let mut memory = Memory(vec![0; 68]);
        let mut put = |bytes: &[u8]| {
            memory.0.extend_from_slice(bytes);
            ADDRESS + (memory.0.len() - bytes.len()) as u32
        };
        let mut string = |text: &str| put(format!("{text}\0").as_bytes());
        let loader = string(&self.loader);
        let line = string(&self.command_line);
        let strings: Vec<u32> = self.modules.iter().map(|(.., text)| string(text)).collect();
        let modules: Vec<u8> = self
            .modules
            .iter()
            .zip(strings)
            .flat_map(|(&(start, end, _), string)| [start, end, string, 0])
            .flat_map(u32::to_le_bytes)
            .collect();
        let modules_at = put(&modules);
        let areas: Vec<u8> = self
            .areas
            .iter()
            .flat_map(|&(start, length, kind)| {
                [
                    &24u32.to_le_bytes()[..],
                    &start.to_le_bytes(),
                    &length.to_le_bytes(),
                    &kind.to_le_bytes(),
                    &[0; 4],
                ]
                .concat()
            })
            .collect();
        let areas_at = put(&areas);
        for (offset, value) in [
            (0, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9),
            (16, line),
            (20, self.modules.len() as u32),
            (24, modules_at),
            (44, areas.len() as u32),
            (48, areas_at),
            (64, loader),
        ] {
            memory.0[offset..offset + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        memory
    }

    fn multiboot2(&self, more: &[(u32, &[u8])]) -> Memory {
        let mut bytes = vec![0; 8];
        let mut tag = |kind: u32, content: &[u8]| {
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&(8 + content.len() as u32).to_le_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        };
        tag(2, format!("{}\0", self.loader).as_bytes());
        tag(1, format!("{}\0", self.command_line).as_bytes());
        for (start, end, text) in &self.modules {
            tag(3, &[&start.to_le_bytes()[..], &end.to_le_bytes(), text.as_bytes(), &[0]].concat());
        }
        let mut map = [24u32.to_le_bytes(), [0; 4]].concat();
        for (start, length, kind) in &self.areas {
            map.extend(
                [&start.to_le_bytes()[..], &length.to_le_bytes(), &kind.to_le_bytes(), &[0; 4]].concat(),
            );
        }
        tag(6, &map);
        for (kind, content) in more {
            tag(*kind, content);
        }
        tag(0, &[]);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        Memory(bytes)
    }

    fn check(&self, handover: &Handover) {
        assert_eq!(
            (handover.loader(), handover.command_line()),
            (self.loader.as_str(), self.command_line.as_str())
        );
        let modules: Vec<_> = handover
            .modules()
            .map(|module| {
                (module.range.start as u32, module.range.end as u32, module.command_line.to_string())
            })
            .collect();
        assert_eq!(modules, self.modules);
        let areas: Vec<_> = handover.areas().map(|area| (area.range.start, area.range.end)).collect();
        let expected = self.areas.iter().map(|&(start, length, _)| (start, start.saturating_add(length)));
        assert_eq!(areas, expected.filter(|(start, end)| start < end).collect::<Vec<_>>());
        for (start, end, _) in self.modules.iter().filter(|(start, end, _)| start < end) {
            let module = u64::from(*start)..u64::from(*end);
            assert!(handover.occupied().any(|range| range == module));
        }
    }
}

/// Asks for everything.
fn ask(magic: u32, memory: &Memory) -> usize {
    let Ok(handover) = Handover::read(magic, ADDRESS, memory) else { return 0 };
    let told = handover.loader().len() + handover.command_line().len();
    let modules: usize = handover.modules().map(|module| module.command_line.len()).sum();
    handover.screen();
    handover.rsdp();
    handover.real_mode_page();
    told + modules + handover.areas().count() + handover.occupied().count()
}

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
    let modules = vec![(0, 0, "a".into()), (0x5000, 0x5000, "b".into()), (0x6000, 0x5000, "c".into())];
    let told = Told { loader: "GRUB 2".into(), modules, areas: vec![(0, 1 << 20, 1)], ..Told::default() };
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
    let told = Told { loader: "qemu".into(), command_line: "/bulkhead a b".into(), ..Told::default() };
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
        let modules = modules.iter().map(|&(start, end)| (start, end, "small.iso".into())).collect();
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
    assert_eq!(page(&contradicted, &[]), None, "what is reserved is not free, whatever else says so");
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
}
