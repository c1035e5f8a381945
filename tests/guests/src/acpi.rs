//! ACPI's tables, as far as topics need them.

use crate::cpu::peek;

/// Where the root pointer is looked for (ACPI 6.4, section 5.2.5.1).
const BIOS: core::ops::Range<u64> = 0xe_0000..0x10_0000;
const RSDT_POINTER: u64 = 16;
const LENGTH: u64 = 4;
const HEADER_BYTES: u64 = 36;

/// The address of the table with this signature.
pub fn table(signature: &[u8; 4]) -> Option<u64> {
    let root = BIOS.step_by(16).find(|&at| peek::<[u8; 8]>(at) == *b"RSD PTR ")?;
    let root = u64::from(peek::<u32>(root + RSDT_POINTER));
    let end = root + u64::from(peek::<u32>(root + LENGTH));
    (root + HEADER_BYTES..end)
        .step_by(4)
        .map(|entry| peek::<u32>(entry).into())
        .find(|&table| peek::<[u8; 4]>(table) == *signature)
}

/// Tells `each` of the local APICs that the MADT has as enabled: the number of the processor, and
/// the APIC ID (section 5.2.12.2).
pub fn local_apics(mut each: impl FnMut(u8, u8)) {
    const ENTRIES: u64 = 44;
    const LOCAL_APIC: u8 = 0;
    const ENABLED: u32 = 1;
    let Some(madt) = table(b"APIC") else { return };
    let end = madt + u64::from(peek::<u32>(madt + LENGTH));
    let mut entry = madt + ENTRIES;
    while entry < end {
        if peek::<u8>(entry) == LOCAL_APIC && peek::<u32>(entry + 4) & ENABLED != 0 {
            each(peek(entry + 2), peek(entry + 3));
        }
        entry += u64::from(peek::<u8>(entry + 1)).max(2);
    }
}
