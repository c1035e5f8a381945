//! Interrupts by messages: MSI and MSI-X (PCI 6.8), one a device.

use alloc::sync::Arc;

use super::{Function, capability};
use crate::hardware::{Bell, Hardware, Message, Window};

const ENABLE_MSI: u32 = 1 << 16;
const SEVERAL_MSI: u32 = 0b111 << 20;
const WIDE_MSI: u32 = 1 << 23;

const ENABLE_MSI_X: u32 = 1 << 31;
const MASK_MSI_X: u32 = 1 << 30;
const BAR_OF_TABLE: u32 = 0b111;
const ENTRY_BYTES: u64 = 16;

/// How a device tells that it has done something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// By MSI-X, entry 0 of its table.
    MsiX,
    /// By MSI.
    Msi,
    /// Not at all: it is looked at now and then.
    Polled,
}

impl Signal {
    /// Makes a function, which answers at its addresses, ring `bell` in the best way that it has.
    pub fn connect(hardware: &dyn Hardware, function: &Function<'_>, bell: &Arc<Bell>) -> Self {
        let find = |wanted| function.capabilities().find(|&(id, _)| id == wanted);
        let message = |_| hardware.connect_interrupt(bell.clone());
        if let Some((_, at)) = find(capability::MSI_X)
            && let Some(table) = msi_x_table(hardware, function, at)
            && let Some(message) = message(())
        {
            set_msi_x(function, at, &table, message);
            return Self::MsiX;
        }
        if let Some((_, at)) = find(capability::MSI)
            && let Some(message) = message(())
        {
            set_msi(function, at, message);
            return Self::Msi;
        }
        Self::Polled
    }
}

/// The first entry of the table.
fn msi_x_table(hardware: &dyn Hardware, function: &Function<'_>, at: u8) -> Option<Window> {
    let table = function.read(at + 4);
    function.map(
        hardware,
        (table & BAR_OF_TABLE) as u8,
        (table & !BAR_OF_TABLE).into(),
        ENTRY_BYTES,
    )
}

fn set_msi_x(function: &Function<'_>, at: u8, table: &Window, message: Message) {
    let control = function.read(at) & !(ENABLE_MSI_X | MASK_MSI_X);
    function.write(at, control | ENABLE_MSI_X | MASK_MSI_X);
    table.write_u64(0, message.address);
    table.write_u32(8, message.data);
    table.write_u32(12, 0);
    function.write(at, control | ENABLE_MSI_X);
}

fn set_msi(function: &Function<'_>, at: u8, message: Message) {
    let control = function.read(at) & !(ENABLE_MSI | SEVERAL_MSI);
    function.write(at, control);
    function.write(at + 4, message.address as u32);
    let data_at = if control & WIDE_MSI == 0 {
        at + 8
    } else {
        function.write(at + 8, (message.address >> 32) as u32);
        at + 12
    };
    let above = function.read(data_at) & 0xffff_0000;
    function.write(data_at, above | message.data & 0xffff);
    function.write(at, control | ENABLE_MSI);
}
