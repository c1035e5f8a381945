//! A firmware's tables, whole and broken, for the fuzz target in `tests/fuzz` and for bounded
//! property tests.

use crate::firmware::{BASE, Memory, aml, entry, fadt, fadt_bytes, generic, madt, mcfg, u32};
use crate::power::{Fadt, RESET_REGISTER_SUPPORTED};
use crate::{InterruptSource, IoApicInfo, PciConfigSpace, Register, Tables, find_root, read};
use alloc::vec::Vec;
use arbitrary::{Result, Unstructured};

/// Entries of a MADT.
const MAX_ENTRIES: usize = 24;
const MAX_CHANGES: usize = 16;

/// All that a firmware says is read as it was said. Where bytes of it are others, or some are
/// missing, it is read to the end, and says no more than there is room for.
pub fn tables(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let mut memory = Memory::default();
    let mut told = Tables::default();
    let entries = controllers(input, &mut told)?;
    let controllers = memory.put_table(b"APIC", &madt(&entries));
    let sleep_types = input.arbitrary()?;
    told.power.s5 = Some(sleep_types);
    let dsdt = memory.put_table(b"DSDT", &aml(sleep_types));
    let description = description(input, dsdt, &mut told)?;
    let description = memory.put_table(b"FACP", &description);
    let (base, first_bus): (u16, u8) = input.arbitrary()?;
    let base = (u64::from(base) + 1) << 20;
    let last_bus = input.int_in_range(first_bus..=255)?;
    told.pci_config = Some(PciConfigSpace { base, first_bus, last_bus });
    let config = memory.put_table(b"MCFG", &mcfg(&[(0, base, first_bus, last_bus)]));
    let other = memory.put_table(b"HPET", &[1; 20]);
    let root = memory.put_root(&[other, controllers, description, config], input.arbitrary()?);
    assert_eq!(find_root(&memory), Some(root));
    assert_eq!(read(&memory, Some(root)), told);
    for _ in 0..input.arbitrary_len::<u8>()?.min(MAX_CHANGES) {
        let at = input.choose_index(memory.0.len())?;
        let new: u8 = input.arbitrary()?;
        let old = core::mem::replace(&mut memory.0[at], new);
        if input.arbitrary()? {
            // The sum of it is as it was.
            let next = input.choose_index(memory.0.len())?;
            memory.0[next] = memory.0[next].wrapping_add(old).wrapping_sub(new);
        }
        ask(&memory, root);
    }
    memory.0.truncate(input.choose_index(memory.0.len())?);
    ask(&memory, root);
    let rest = input.bytes(input.len())?.to_vec();
    ask(&Memory(rest), BASE);
    Ok(())
}

/// Reads what is there, twice with one result.
fn ask(memory: &Memory, root: u64) {
    if let Some(found) = find_root(memory) {
        assert!(found % 16 == 0 && found < BASE + memory.0.len() as u64);
        read(memory, Some(found));
    }
    let tables = read(memory, Some(root));
    assert_eq!(read(memory, Some(root)), tables);
    // An entry of the shortest kind has eight bytes.
    assert!(tables.cpus.len() + tables.io_apics.len() <= memory.0.len() / 8);
    let is_unique = |(index, cpu): (usize, &u32)| !tables.cpus[..index].contains(cpu);
    assert!(tables.cpus.iter().enumerate().all(is_unique));
    assert!(tables.pm_timer != Some(0) && tables.century_register != Some(0));
    let power = tables.power;
    assert!([power.pm1a_control, power.pm1b_control].into_iter().flatten().all(|port| port != 0));
    assert!(power.enable.is_none_or(|(port, value)| port != 0 && value != 0));
    assert!(!matches!(power.reset, Some((Register::Port(0) | Register::Memory(0), _))));
}

/// Processors and interrupt controllers.
fn controllers(input: &mut Unstructured<'_>, told: &mut Tables) -> Result<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    for _ in 0..input.arbitrary_len::<u64>()?.min(MAX_ENTRIES) {
        let kind = input.int_in_range(0..=4)?;
        let (wide, enabled) = (input.arbitrary::<u32>()?, input.arbitrary::<bool>()?);
        let flags = u32::from(enabled) | input.arbitrary::<u32>()? << 1;
        let mut add_cpu = |cpu: u32| {
            if enabled && !told.cpus.contains(&cpu) {
                told.cpus.push(cpu);
            }
        };
        entries.push(match kind {
            0 => {
                add_cpu(wide & 0xff);
                entry(0, &[&[7, wide as u8][..], &flags.to_le_bytes()].concat())
            }
            1 => {
                add_cpu(wide);
                entry(
                    9,
                    &[&[0; 2][..], &wide.to_le_bytes(), &flags.to_le_bytes(), &[0; 4]].concat(),
                )
            }
            2 => {
                let first_gsi = input.arbitrary()?;
                told.io_apics.push(IoApicInfo { address: wide.into(), first_gsi });
                entry(1, &[&[3, 0][..], &wide.to_le_bytes(), &first_gsi.to_le_bytes()].concat())
            }
            3 => {
                let (irq, gsi) = (wide as u8 & 0x1f, input.arbitrary::<u32>()?);
                let (polarity, trigger) =
                    (input.int_in_range(0..=3_u16)?, input.int_in_range(0..=3_u16)?);
                if let Some(slot) = told.isa_interrupts.get_mut(usize::from(irq)) {
                    *slot = InterruptSource { gsi, level: trigger == 3, active_low: polarity == 3 };
                }
                let flags = trigger << 2 | polarity;
                entry(2, &[&[0, irq][..], &gsi.to_le_bytes(), &flags.to_le_bytes()].concat())
            }
            // Local APIC NMI, and what is reserved.
            _ => entry(4 | wide as u8 & 0x80, &[5, 6, 7, 1]),
        });
    }
    Ok(entries)
}

/// The fixed description of any version.
fn description(input: &mut Unstructured<'_>, dsdt: u64, told: &mut Tables) -> Result<Vec<u8>> {
    /// Of ACPI 1.0, 2.0 and later.
    const LENGTHS: [usize; 3] = [116 - 36, 132 - 36, size_of::<Fadt>()];
    let version = input.choose_index(LENGTHS.len())?;
    let mut fadt = fadt();
    let (timer, control_a, control_b, command): (u16, u16, u16, u16) = input.arbitrary()?;
    let port = |port: u16| (port != 0).then_some(port);
    (fadt.pm_timer, fadt.pm1a_control) = (u32(timer.into()), u32(control_a.into()));
    (fadt.pm1b_control, fadt.smi_command) = (u32(control_b.into()), u32(command.into()));
    (told.pm_timer, told.power.pm1a_control) = (port(timer), port(control_a));
    told.power.pm1b_control = port(control_b);
    fadt.acpi_enable = input.arbitrary()?;
    told.power.enable =
        port(command).filter(|_| fadt.acpi_enable != 0).map(|port| (port, fadt.acpi_enable));
    fadt.century = input.arbitrary()?;
    told.century_register = (fadt.century != 0).then_some(fadt.century);
    fadt.dsdt = u32(dsdt as u32);
    // From 2.0 on.
    let (space, address): (u8, u64) = (input.int_in_range(0..=2)?, input.arbitrary()?);
    let address = if input.arbitrary()? { address & 0xffff } else { address };
    fadt.flags = u32(RESET_REGISTER_SUPPORTED * u32::from(input.arbitrary::<bool>()?));
    (fadt.reset_register, fadt.reset_value) = (generic(space, address), input.arbitrary()?);
    if version >= 1 && fadt.flags.get() != 0 && address != 0 {
        let register = match space {
            0 => Some(Register::Memory(address)),
            1 => u16::try_from(address).ok().map(Register::Port),
            _ => None,
        };
        told.power.reset = register.map(|register| (register, fadt.reset_value));
    }
    // From 3.0 on: the later field counts where it says something.
    if version == 2 && input.arbitrary()? {
        let other: u16 = input.arbitrary()?;
        fadt.x_pm_timer = generic(1, other.into());
        told.pm_timer = port(other).or(told.pm_timer);
        // No port: it is in memory.
        fadt.x_pm1a_control = generic(0, 0x604);
        told.power.pm1a_control = None;
        (fadt.x_dsdt, fadt.dsdt) = (dsdt.into(), u32(0x10));
    }
    Ok(fadt_bytes(&fadt, LENGTHS[version]))
}
