//! A loader for tests: it puts its information into memory by either protocol.

use super::{Handover, LoaderMemory, multiboot1, multiboot2};
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// Where the information is.
pub const ADDRESS: u32 = 0x1_0000;
/// Of both protocols.
pub const MAGICS: [u32; 2] = [multiboot1::MAGIC, multiboot2::MAGIC];

/// Memory with something at [`ADDRESS`].
pub struct Memory(pub Vec<u8>);

impl LoaderMemory for Memory {
    fn bytes(&self, address: u32, length_bytes: usize) -> Option<&[u8]> {
        self.0.get(address.checked_sub(ADDRESS)? as usize..)?.get(..length_bytes)
    }
}

/// All that a loader has to tell.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub loader: String,
    pub command_line: String,
    pub modules: Vec<(u32, u32, String)>,
    pub areas: Vec<(u64, u64, u32)>,
}

impl Told {
    /// As a loader of multiboot 1 puts it into memory.
    pub fn multiboot1(&self) -> Memory {
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

    /// As a loader of multiboot 2 puts it into memory, with more tags.
    pub fn multiboot2(&self, more: &[(u32, &[u8])]) -> Memory {
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
                [&start.to_le_bytes()[..], &length.to_le_bytes(), &kind.to_le_bytes(), &[0; 4]]
                    .concat(),
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

    /// All of it was handed over.
    pub fn check(&self, handover: &Handover) {
        assert_eq!(
            (handover.loader(), handover.command_line()),
            (self.loader.as_str(), self.command_line.as_str())
        );
        let modules: Vec<_> = handover
            .modules()
            .map(|module| {
                (
                    module.range.start as u32,
                    module.range.end as u32,
                    module.command_line.to_string(),
                )
            })
            .collect();
        assert_eq!(modules, self.modules);
        let areas: Vec<_> =
            handover.areas().map(|area| (area.range.start, area.range.end)).collect();
        let expected =
            self.areas.iter().map(|&(start, length, _)| (start, start.saturating_add(length)));
        assert_eq!(areas, expected.filter(|(start, end)| start < end).collect::<Vec<_>>());
        for (start, end, _) in self.modules.iter().filter(|(start, end, _)| start < end) {
            let module = u64::from(*start)..u64::from(*end);
            assert!(handover.occupied().any(|range| range == module));
        }
    }
}
