//! A loader's information, whole and broken, for the fuzz target in `tests/fuzz` and for bounded
//! property tests.

use super::told::{ADDRESS, MAGICS, Memory, Told};
use super::{AreaKind, Handover};
use arbitrary::{Result, Unstructured};
use core::ops::Range;
use std::string::{String, ToString};
use std::vec::Vec;

/// Modules and areas that a loader tells of.
const MAX_ENTRIES: usize = 24;
const MAX_CHANGES: usize = 16;

/// All that a loader tells by either protocol is handed over as it was told. Where bytes of it are
/// others, or some are missing, what is handed over is still in the loader's memory, and holds
/// together.
pub fn multiboot(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let told = told(input)?;
    let two = input.arbitrary()?;
    let mut memory = if two { told.multiboot2(&[]) } else { told.multiboot1() };
    let magic = MAGICS[usize::from(two)];
    match Handover::read(magic, ADDRESS, &memory) {
        Ok(handover) => told.check(&handover),
        Err(reason) => panic!("{reason}: {told:?}"),
    }
    ask(magic, &memory);
    for _ in 0..input.arbitrary_len::<u8>()?.min(MAX_CHANGES) {
        let at = input.choose_index(memory.0.len())?;
        memory.0[at] = input.arbitrary()?;
        ask(magic, &memory);
    }
    memory.0.truncate(input.choose_index(memory.0.len())?);
    ask(magic, &memory);
    // No information at all.
    let rest = input.bytes(input.len())?.to_vec();
    ask(magic, &Memory(rest));
    Ok(())
}

fn told(input: &mut Unstructured<'_>) -> Result<Told> {
    let mut told =
        Told { loader: text("GRUB 2", input)?, command_line: text("", input)?, ..Told::default() };
    for _ in 0..input.arbitrary_len::<u64>()?.min(MAX_ENTRIES) {
        told.modules.push((input.arbitrary()?, input.arbitrary()?, text("", input)?));
    }
    for _ in 0..input.arbitrary_len::<u64>()?.min(MAX_ENTRIES) {
        // Half of them are where a processor can start.
        let mask = if input.arbitrary()? { u64::MAX } else { 0xf_ffff };
        let (start, length): (u64, u64) = input.arbitrary()?;
        told.areas.push((start & mask, length & mask, input.int_in_range(0..=7)?));
    }
    Ok(told)
}

/// A string as C has it.
fn text(start: &str, input: &mut Unstructured<'_>) -> Result<String> {
    let any: &str = input.arbitrary()?;
    Ok(start.to_string() + any.split('\0').next().unwrap_or_default())
}

/// Asks for everything, and checks that it holds together.
pub fn ask(magic: u32, memory: &Memory) {
    let Ok(handover) = Handover::read(magic, ADDRESS, memory) else { return };
    let own = memory.0.as_ptr_range();
    let is_inside = |text: &str| {
        let text = text.as_bytes().as_ptr_range();
        text.is_empty() || own.start <= text.start && text.end <= own.end
    };
    assert!(is_inside(handover.loader()) && is_inside(handover.command_line()));
    let modules: Vec<_> = handover.modules().collect();
    // By both protocols a module takes at least 16 bytes of the information.
    assert!(modules.len() <= memory.0.len() / 16);
    assert!(modules.iter().all(|module| is_inside(module.command_line)));
    assert!(handover.areas().all(|area| !area.range.is_empty()));
    let occupied: Vec<_> = handover.occupied().collect();
    let is_module = |range: &&Range<u64>| modules.iter().any(|module| module.range == **range);
    // Where a string reaches the end, its zero is behind that.
    let end = u64::from(ADDRESS) + memory.0.len() as u64 + 1;
    for range in occupied.iter().filter(|range| !is_module(range)) {
        assert!(u64::from(ADDRESS) <= range.start && range.end <= end, "{range:x?}");
    }
    assert!(
        modules.iter().all(|module| module.range.is_empty() || occupied.contains(&module.range))
    );
    if let Some(rsdp) = handover.rsdp() {
        assert!((u64::from(ADDRESS)..end).contains(&rsdp));
    }
    handover.screen();
    if let Some(page) = handover.real_mode_page() {
        let page = u64::from(page) << 12..(u64::from(page) + 1) << 12;
        let touches = |range: &Range<u64>| range.start < page.end && page.start < range.end;
        assert!((0x8000..0xa_0000).contains(&page.start) && !occupied.iter().any(touches));
        let areas = || handover.areas().filter(|area| touches(&area.range));
        assert!(areas().count() > 0 && areas().all(|area| area.kind == AreaKind::Ram));
    }
}
