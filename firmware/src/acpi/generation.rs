//! The VM generation ID: 128 bits by which a system finds out that it is another instance of
//! itself (Microsoft, "Virtual Machine Generation ID", 2012).

use acpi_tables::aml::{Name, Package, Scope};
use acpi_tables::{Aml, AmlSink};
use alloc::vec::Vec;

use super::aml::Terms;
use super::dsdt;

/// A number of four bytes, whatever it is: the firmware changes it in place.
struct DWord(u32);

impl Aml for DWord {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const DWORD_PREFIX: u8 = 0x0c;
        sink.byte(DWORD_PREFIX);
        sink.dword(self.0);
    }
}

/// Bytes behind the address: the upper half of it, `ZeroOp`.
const BEHIND_ADDRESS: u32 = 1;
const ADDRESS_BYTES: u32 = 4;

/// The device, with the ID at `address`, and where in the terms the address is.
pub fn device(address: u32) -> (Terms, u32) {
    let halves: [&dyn Aml; 2] = [&DWord(address), &0u8];
    // The package with the address comes last.
    let device = dsdt::device(
        "VGEN",
        &[
            &Name::new("_HID".into(), &"BULK0001"),
            &Name::new("_CID".into(), &"VM_Gen_Counter"),
            &Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &Name::new("ADDR".into(), &Package::new(halves.to_vec())),
        ],
    );
    let terms = Terms::new().with(&Scope::new("\\_SB_".into(), Vec::from([&device as &dyn Aml])));
    let end = terms.as_slice().len() as u32;
    (terms, end - BEHIND_ADDRESS - ADDRESS_BYTES)
}
