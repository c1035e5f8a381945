//! The PC that a guest sees, one module a device.
//!
//! A device is a struct built from what it is wired to: interrupt lines ([`irq::IrqLine`]), a clock
//! and an alarm ([`time`]), memory for DMA ([`memory::GuestMemory`]), and the back ends that carry
//! its data ([`block`], [`console`]). It declares the ports and memory that it answers ([`bus`]).
//! It never reads the host's clock, sleeps, prints or panics, whatever the guest does to it.
//!
//! Lock order: a device's own lock, then the interrupt controllers that its lines lead to, then
//! nothing: the local APICs are reached through atomics. A device never calls another device while
//! holding its lock, except through these wires.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod atomic;
pub mod block;
pub mod boot_disk;
pub mod bus;
pub mod console;
pub mod coprocessor;
pub mod debug_port;
pub mod dma;
pub mod fw_cfg;
pub mod hpet;
pub mod i8042;
pub mod ide;
pub mod io_apic;
pub mod irq;
pub mod keys;
pub mod local_apic;
pub mod memory;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod port92;
pub mod ram_layout;
pub mod ring;
pub mod rtc;
pub mod shared_line;
pub mod system_control;
pub mod ticks;
pub mod time;
pub mod uart;
pub mod vga;
