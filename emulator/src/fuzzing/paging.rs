//! Page tables of any content.

use super::Input;
use crate::paging::{Access, AccessKind, PagingState, Privilege};
use crate::registers::{Cr0, Cr4, Efer};
use devices::memory::{GuestMemory, TestMemory};

const TABLES: u64 = 16;
const MAX_ENTRIES: usize = 256;
const MAX_WALKS: usize = 16;
/// Two bits of each entry on the way may change, one walk after the other.
const SETTLING_WALKS: usize = 16;

/// Random tables and walks through them: each ends, leads to an address that exists, and settles.
pub fn paging(data: &[u8]) {
    let mut input = Input::new(data);
    let _ = run(&mut input);
}

fn run(input: &mut Input<'_>) -> Option<()> {
    let memory = TestMemory::new((TABLES * 4096) as usize);
    let state = state(input)?;
    let entries = usize::from(input.u8()?) % MAX_ENTRIES;
    for _ in 0..entries {
        let at = u64::from(input.u16()?) * 8 % (TABLES * 4096);
        GuestMemory::write(&*memory, at, &entry(input)?.to_le_bytes()).ok()?;
    }
    for _ in 0..MAX_WALKS {
        walk(&state, &memory, input)?;
    }
    Some(())
}

fn state(input: &mut Input<'_>) -> Option<PagingState> {
    Some(PagingState {
        cr0: Cr0::from(input.u64()? | u64::from(Cr0::new().with_paging(true))),
        cr3: input.u64()? % (TABLES * 4096),
        cr4: Cr4::from(input.u64()?),
        efer: Efer::from(input.u64()?),
        alignment_check: input.flag()?,
        pkru: input.u32()?,
        physical_address_bits: 32 + input.u8()? % 21,
    })
}

/// Mostly a pointer to one of the tables, sometimes anything.
fn entry(input: &mut Input<'_>) -> Option<u64> {
    let (kind, flags) = (input.u8()?, u64::from(input.u8()?));
    if kind & 7 == 0 {
        return input.u64();
    }
    let no_execute = u64::from(kind & 0x80) << 56;
    Some(((u64::from(kind) % TABLES) << 12) | flags | 1 | no_execute)
}

fn walk(state: &PagingState, memory: &TestMemory, input: &mut Input<'_>) -> Option<()> {
    let linear = input.u64()?;
    let kind = input.pick(&[AccessKind::Read, AccessKind::Write, AccessKind::Execute])?;
    let privilege =
        input.pick(&[Privilege::Supervisor, Privilege::ImplicitSupervisor, Privilege::User])?;
    let access = Access { kind, privilege };
    let mut last = state.translate(memory, linear, access);
    if let Ok(translation) = last {
        let bits = state.physical_address_bits.max(32);
        assert!(translation.gpa >> bits == 0, "{:#x} has more than {bits} bits", translation.gpa);
    }
    // A table that refers to itself is changed by its own walk. But bits are only ever set, so that
    // comes to an end.
    for _ in 0..SETTLING_WALKS {
        let next = state.translate(memory, linear, access);
        if next == last {
            return Some(());
        }
        last = next;
    }
    panic!("the walk to {linear:#x} never settles");
}
