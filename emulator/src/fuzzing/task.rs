//! Task switches through tables of any content.

use super::Input;
use crate::event::Event;
use crate::registers::{Exception, Fault, Rflags, SegmentName};
use crate::task_switch::fake::{Cpu, GDT, GDT_BYTES, NEW, NEW_TSS, OLD, OLD_TSS};
use crate::task_switch::{Source, TaskCpu, TaskSwitch, switch};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use devices::memory::GuestMemory;

/// The longest TSS, without its I/O map.
const TSS_BYTES: u64 = 0x68;
/// A page directory and the table for all of the memory behind it.
const DIRECTORY: u64 = 0x1_8000;
const MAX_CHANGES: u8 = 12;
const RESUME: u32 = 0x4002;

/// A task switch either changes nothing, or has saved the old task whole and runs the new one,
/// whatever its segments then do; a VM entry takes what it leaves. The error code of a fault during
/// an event's delivery says so.
pub fn task_switch(data: &[u8]) {
    let mut input = Input::new(data);
    let _ = run(&mut input);
}

fn run(input: &mut Input<'_>) -> Option<()> {
    let choice = input.u8()?;
    let mut cpu = if choice & 1 == 0 { Cpu::new() } else { Cpu::in_virtual_8086_mode() };
    change_tables(&cpu, input)?;
    if choice & 2 != 0 {
        turn_paging_on(&mut cpu, input)?;
    }
    let source =
        [Source::Call, Source::Iret, Source::Jump, Source::Gate][usize::from(choice >> 2 & 3)];
    let event = match choice >> 4 & 3 {
        _ if source != Source::Gate => None,
        0 => None,
        1 => Some(Event::Interrupt(input.u8()?)),
        2 => Some(Event::Nmi),
        _ => {
            Some(Event::Fault(Fault { error_code: Some(input.u16()?.into()), ..Fault::PROTECTION }))
        }
    };
    let selector = if choice & 0xc0 == 0 { input.u16()? } else { NEW };
    let before = cpu.clone_state();
    let memory = contents(&cpu);
    let task = TaskSwitch { selector, source, resume_rip: RESUME.into(), event };
    let result = switch(&mut cpu, task);
    if let Err(Fault { exception, error_code: Some(code), .. }) = result
        && exception != Exception::PageFault
    {
        assert_eq!(code & 1 == 1, event.is_some(), "{result:?} while {event:?} is delivered");
    }
    if before.cr0 == cpu.cr0 {
        assert!(
            result.is_err() && before.is_same(&cpu),
            "a fault before the switch has changed something"
        );
        // Page tables get their accessed and dirty bits.
        let changed = differences(&memory, &contents(&cpu));
        assert!(changed.iter().all(|&at| at >= DIRECTORY), "{changed:x?}");
        return Some(());
    }
    check_switched(&before, &cpu, task, &memory, result);
    Some(())
}

/// Descriptors and tasks.
fn change_tables(cpu: &Cpu, input: &mut Input<'_>) -> Option<()> {
    for _ in 0..input.u8()? % MAX_CHANGES {
        let (choice, value) = (input.u8()?, input.u32()?);
        let at = match choice & 3 {
            0 => GDT + u64::from(choice >> 2) % GDT_BYTES,
            1 => OLD_TSS + u64::from(choice >> 2) * 2,
            2 => NEW_TSS + u64::from(choice >> 2) * 2,
            // Selectors of the new task, and its LDT.
            _ => {
                const FIELDS: [u64; 7] = [0x48, 0x4c, 0x50, 0x54, 0x58, 0x5c, 0x60];
                let selector = (u32::from(choice >> 2) % 10) << 3 | value & 7;
                cpu.put(NEW_TSS + FIELDS[(value >> 8) as usize % FIELDS.len()], selector);
                continue;
            }
        };
        cpu.put(at, value);
    }
    Some(())
}

/// All of memory is mapped to itself, but for some pages that are absent or read-only.
fn turn_paging_on(cpu: &mut Cpu, input: &mut Input<'_>) -> Option<()> {
    cpu.put(DIRECTORY, DIRECTORY as u32 + 0x1000 + 7);
    for page in 0..0x20 {
        let flags = match input.u8()? {
            0..8 => 0,
            8..16 => 5,
            _ => 7,
        };
        cpu.put(DIRECTORY + 0x1000 + 4 * page, (page as u32) << 12 | flags);
    }
    cpu.put(
        NEW_TSS + 0x1c,
        if input.u8()? < 16 { input.u32()? & 0x1_f000 } else { DIRECTORY as u32 },
    );
    cpu.cr3 = DIRECTORY;
    cpu.cr0 = cpu.cr0.with_paging(true);
    Some(())
}

fn contents(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; Cpu::MEMORY_BYTES];
    assert!(GuestMemory::read(&*cpu.memory, 0, &mut bytes).is_ok());
    bytes
}

fn differences(before: &[u8], after: &[u8]) -> Vec<u64> {
    let pairs = (0..).zip(before.iter().zip(after));
    pairs.filter(|(_, (before, after))| before != after).map(|(at, _)| at).collect()
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn check_switched(
    before: &Cpu,
    after: &Cpu,
    task: TaskSwitch,
    memory: &[u8],
    result: Result<(), Fault>,
) {
    let tr = after.segment(SegmentName::Tr);
    assert_eq!(after.cr0, before.cr0.with_task_switched(true));
    assert_eq!(
        (tr.selector, tr.attributes.kind() & 2),
        (task.selector, 2),
        "TR is that of a busy task"
    );
    assert!(after.is_legal(), "no VM entry takes these segments");
    let nests = matches!(task.source, Source::Call | Source::Gate);
    let (tables, old) = (GDT..GDT + GDT_BYTES, OLD_TSS..OLD_TSS + TSS_BYTES);
    let new = tr.base..tr.base.saturating_add(TSS_BYTES);
    let reaches = |range: &Range<u64>| range.end <= DIRECTORY;
    if !reaches(&new) || overlap(&new, &old) || overlap(&new, &tables) {
        return;
    }
    let is_wide = tr.attributes.kind() & 8 != 0;
    let word = |offset: u64| {
        let at = (new.start + offset) as usize;
        u32::from_le_bytes([memory[at], memory[at + 1], memory[at + 2], memory[at + 3]])
    };
    let half = |offset: u64| word(offset) & 0xffff;
    // SDM volume 3, 9.2.1 and 9.6: EIP, EFLAGS, then the general registers.
    let (eip, eflags) = if is_wide { (word(0x20), word(0x24)) } else { (half(0x0e), half(0x10)) };
    assert_eq!(after.rip, eip.into());
    let flags = Rflags::from_image(eflags);
    assert_eq!(after.rflags, flags.with_nested_task(flags.nested_task() || nests));
    // The trap of the new task's T flag comes after all else.
    let is_done = matches!(result, Ok(()) | Err(Fault { exception: Exception::Debug, .. }));
    for (index, &value) in (0_u64..8).zip(&after.gprs.0) {
        let image = if is_wide { word(0x28 + 4 * index) } else { half(0x12 + 2 * index) };
        let is_stack =
            index == 4 && task.event.is_some_and(|event| matches!(event, Event::Fault(_)));
        assert!(
            is_stack && is_done || value == image.into(),
            "register {index}: {value:#x}, {image:#x}"
        );
    }
    let pushes = matches!(task.event, Some(Event::Fault(_)));
    let is_elsewhere = after.cr0.paging() && after.cr3 != DIRECTORY;
    if pushes || is_elsewhere {
        // The stack or other page tables may be in the old task or the descriptors.
        return;
    }
    assert_eq!(after.get(OLD_TSS + 0x20), RESUME);
    for (index, &value) in (0..8).zip(&before.gprs.0) {
        assert_eq!(after.get(OLD_TSS + 0x28 + 4 * index), value as u32);
    }
    if nests {
        assert_eq!(after.get(new.start) & 0xffff, OLD.into(), "the link to the old task");
    }
    let busy = |selector: u16| after.access_byte(selector) & 2 != 0;
    if task.selector & !7 != OLD {
        let was_busy = memory[(GDT + u64::from(OLD)) as usize + 5] & 2 != 0;
        assert_eq!(busy(OLD), nests && was_busy);
        assert!(busy(task.selector));
    }
}
