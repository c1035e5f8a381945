//! The DSDT: what cannot be discovered on the PC's buses.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, LessThan, Local,
    Memory32Fixed, Method, MethodCall, Name, OpRegion, OpRegionSpace, Or, Package, PackageBuilder,
    Path, ResourceTemplate, Return, Scope, Store,
};
use alloc::format;
use alloc::vec::Vec;
use devices::cpu_hotplug;

use super::aml::{IsaIrq, NullName, SharedInterrupts, Terms};
use super::processors::{event, processors};
use super::{GPE0_BLOCK, GPE0_BYTES, HPET_GPA, PM_BASE, SCI_IRQ, SMI_COMMAND_PORT};
use crate::MachineDescription;

/// Base port and interrupt of COM1 to COM4.
const COM_PORTS: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];

/// Interrupts that a PCI link can be wired to. SeaBIOS wires A and B to 10, C and D to 11.
const LINK_IRQS: [u32; 3] = [5, 10, 11];

/// The terms of the DSDT.
pub fn terms(machine: &MachineDescription) -> Terms {
    let mut terms = Terms::new();
    terms.push(&Scope::new(
        "\\_SB_".into(),
        Vec::from([
            &pci_host(machine) as &dyn Aml,
            &link_methods(),
            &links(),
            &processors(machine),
        ]),
    ));
    if machine.hpet {
        terms.push(&Scope::new("\\_SB_".into(), Vec::from([&hpet() as &dyn Aml])));
    }
    if machine.apic_ids.len() > 1 {
        terms.push(&event());
    }
    // The PIIX4's type for soft off is 0 (82371AB datasheet, section 7.2.3).
    let soft_off = Package::new(Vec::from([&0u8 as &dyn Aml, &0u8, &0u8, &0u8]));
    terms.push(&Name::new("\\_S5_".into(), &soft_off));
    terms
}

/// A device.
pub fn device(name: &str, children: &[&dyn Aml]) -> Terms {
    Terms::new().with(&Device::new(name.into(), children.to_vec()))
}

fn pnp_id(id: &str) -> Name {
    Name::new("_HID".into(), &EISAName::new(id))
}

fn resources(descriptors: &[&dyn Aml]) -> Name {
    Name::new("_CRS".into(), &ResourceTemplate::new(descriptors.to_vec()))
}

/// A fixed range of ports.
fn ports(first: u16, count: u8) -> IO {
    IO::new(first, first, 1, count)
}

/// The i440FX and what lies behind it.
fn pci_host(machine: &MachineDescription) -> Terms {
    let hole = machine.ram.pci_hole();
    // Both ends lie below 4 GiB.
    let (hole_start, hole_last) = (hole.start as u32, (hole.end - 1) as u32);
    let windows = resources(&[
        &AddressSpace::new_bus_number(0u16, 0xff),
        &ports(0xcf8, 8),
        &AddressSpace::new_io(0u16, 0xcf7, None),
        &AddressSpace::new_io(0xd00u16, 0xffff, None),
        &AddressSpace::new_memory(
            AddressSpaceCacheable::Cacheable,
            true,
            0xa_0000u32,
            0xb_ffff,
            None,
        ),
        &AddressSpace::new_memory(
            AddressSpaceCacheable::NotCacheable,
            true,
            hole_start,
            hole_last,
            None,
        ),
    ]);
    device(
        "PCI0",
        &[
            &pnp_id("PNP0A03"),
            &Name::new("_UID".into(), &0u8),
            &windows,
            &routing(),
            &isa_bridge(machine),
        ],
    )
}

/// `_PRT`: pin `p` (A is 0) of slot `s` leads to link `(s + p - 1) mod 4`; pin A of slot 1, which
/// is the PIIX4's power management, to the SCI.
fn routing() -> Name {
    let mut entries = PackageBuilder::new();
    for slot in 1..32u32 {
        for pin in 0..4u8 {
            let link = match (slot, pin) {
                (1, 0) => "\\_SB_.LNKS",
                _ => ["\\_SB_.LNKA", "\\_SB_.LNKB", "\\_SB_.LNKC", "\\_SB_.LNKD"]
                    [(slot as usize + usize::from(pin) - 1) % 4],
            };
            let address = slot << 16 | 0xffff;
            entries.add_element(&Package::new(Vec::from([
                &address as &dyn Aml,
                &pin,
                &Path::new(link),
                &0u8,
            ])));
        }
    }
    Name::new("_PRT".into(), &entries)
}

/// The PIIX3's ISA function, its PIRQ registers (82371SB datasheet, section 2.2.5), and the devices
/// behind it.
fn isa_bridge(machine: &MachineDescription) -> Terms {
    let mut children = Terms::new();
    children.push(&Name::new("_ADR".into(), &0x0001_0000u32));
    children.push(&OpRegion::new("P40C".into(), OpRegionSpace::PCIConfig, &0x60u8, &4u8));
    children.push(&Field::new(
        "P40C".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        [*b"PRQ0", *b"PRQ1", *b"PRQ2", *b"PRQ3"].map(|name| FieldEntry::Named(name, 8)).to_vec(),
    ));
    let legacy: [(&str, &str, &[&dyn Aml]); 7] = [
        ("PIC_", "PNP0000", &[&ports(0x20, 2), &ports(0xa0, 2), &ports(0x4d0, 2), &IsaIrq(2)]),
        ("TMR_", "PNP0100", &[&ports(0x40, 4), &IsaIrq(0)]),
        ("SPKR", "PNP0800", &[&ports(0x61, 1)]),
        ("RTC_", "PNP0B00", &[&ports(0x70, 2), &IsaIrq(8)]),
        ("KBD_", "PNP0303", &[&ports(0x60, 1), &ports(0x64, 1), &IsaIrq(1)]),
        ("MOU_", "PNP0F13", &[&IsaIrq(12)]),
        // The ports that the chipset itself answers: APM, port 92h, power management, CPUs that
        // come and go.
        (
            "MBRD",
            "PNP0C02",
            &[
                &ports(SMI_COMMAND_PORT, 2),
                &ports(0x92, 1),
                &ports(PM_BASE, 0x40),
                &ports(GPE0_BLOCK, GPE0_BYTES),
                &ports(cpu_hotplug::PORT, cpu_hotplug::PORTS),
            ],
        ),
    ];
    for (name, id, descriptors) in legacy {
        children.push(&device(name, &[&pnp_id(id), &resources(descriptors)]));
    }
    for (index, _) in machine.com_ports.iter().enumerate().filter(|&(_, &present)| present) {
        children.push(&com_port(index));
    }
    children.push(&fw_cfg());
    device("ISA_", &[&children])
}

/// COM1 to COM4, from 0.
fn com_port(index: usize) -> Terms {
    let (base, irq) = COM_PORTS[index];
    let number = index as u8 + 1;
    device(
        &format!("COM{number}"),
        &[
            &pnp_id("PNP0501"),
            &Name::new("_UID".into(), &number),
            &resources(&[&ports(base, 8), &IsaIrq(irq)]),
        ],
    )
}

fn fw_cfg() -> Terms {
    const PRESENT_HIDDEN: u8 = 0x0b;
    device(
        "FWCF",
        &[
            &Name::new("_HID".into(), &"QEMU0002"),
            &Name::new("_STA".into(), &PRESENT_HIDDEN),
            &resources(&[&ports(devices::fw_cfg::spec::SELECTOR_PORT, 12)]),
        ],
    )
}

/// `IQST` and `IQCR`: a link's state and its interrupt, from its PIRQ register. Bit 7 of the
/// register disconnects it.
fn link_methods() -> Terms {
    const PRESENT: u8 = 0x09;
    const PRESENT_ENABLED: u8 = 0x0b;
    let disconnected = And::new(&NullName, &Arg(0), &0x80u8);
    let mut terms = Terms::new();
    terms.push(&Method::new(
        "IQST".into(),
        1,
        false,
        Vec::from([
            &If::new(&disconnected, Vec::from([&Return::new(&PRESENT) as &dyn Aml])) as &dyn Aml,
            &Else::new(Vec::from([&Return::new(&PRESENT_ENABLED) as &dyn Aml])),
        ]),
    ));
    let number = Path::new("PRRI");
    let buffer = Local(0);
    let template = ResourceTemplate::new(Vec::from([&SharedInterrupts(&[0]) as &dyn Aml]));
    terms.push(&Method::new(
        "IQCR".into(),
        1,
        true,
        Vec::from([
            &Store::new(&buffer, &template) as &dyn Aml,
            &CreateDWordField::new(&number, &buffer, &NUMBER_OFFSET),
            &If::new(
                &LessThan::new(&Arg(0), &0x80u8),
                Vec::from([&Store::new(&number, &Arg(0)) as &dyn Aml]),
            ),
            &Return::new(&buffer),
        ]),
    ));
    terms
}

/// Where the interrupt's number lies in an `Interrupt` descriptor.
const NUMBER_OFFSET: u8 = 5;

/// The links A to D, and the SCI's, which cannot be changed.
fn links() -> Terms {
    let mut terms = Terms::new();
    for (index, name) in ["LNKA", "LNKB", "LNKC", "LNKD"].into_iter().enumerate() {
        terms.push(&link(name, index as u8));
    }
    let sci = ResourceTemplate::new(Vec::from([&SharedInterrupts(&[SCI_IRQ as u32]) as &dyn Aml]));
    terms.push(&device(
        "LNKS",
        &[
            &pnp_id("PNP0C0F"),
            &Name::new("_UID".into(), &4u8),
            &Name::new("_PRS".into(), &sci),
            &Name::new("_CRS".into(), &sci),
            &Name::new("_STA".into(), &0x0bu8),
            &Method::new("_DIS".into(), 0, false, Vec::new()),
            &Method::new("_SRS".into(), 1, false, Vec::new()),
        ],
    ));
    terms
}

fn link(name: &str, index: u8) -> Terms {
    let register = Path::new(&format!("\\_SB_.PCI0.ISA_.PRQ{index}"));
    let register = &register as &dyn Aml;
    let possible = ResourceTemplate::new(Vec::from([&SharedInterrupts(&LINK_IRQS) as &dyn Aml]));
    let number = Path::new("PRRI");
    let call =
        |method: &str| Terms::new().with(&MethodCall::new(method.into(), Vec::from([register])));
    device(
        name,
        &[
            &pnp_id("PNP0C0F"),
            &Name::new("_UID".into(), &index),
            &Name::new("_PRS".into(), &possible),
            &Method::new(
                "_STA".into(),
                0,
                false,
                Vec::from([&Return::new(&call("IQST")) as &dyn Aml]),
            ),
            &Method::new(
                "_DIS".into(),
                0,
                false,
                Vec::from([&Or::new(register, register, &0x80u8) as &dyn Aml]),
            ),
            &Method::new(
                "_CRS".into(),
                0,
                false,
                Vec::from([&Return::new(&call("IQCR")) as &dyn Aml]),
            ),
            &Method::new(
                "_SRS".into(),
                1,
                true,
                Vec::from([
                    &CreateDWordField::new(&number, &Arg(0), &NUMBER_OFFSET) as &dyn Aml,
                    &Store::new(register, &number),
                ]),
            ),
        ],
    )
}

fn hpet() -> Terms {
    device(
        "HPET",
        &[
            &pnp_id("PNP0103"),
            &Name::new("_UID".into(), &0u8),
            &resources(&[&Memory32Fixed::new(false, HPET_GPA, 0x400)]),
        ],
    )
}
