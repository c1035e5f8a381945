//! The PC that a guest sees, one module a device.
//!
//! A device is a struct built from what it is wired to: interrupt lines ([`irq::IrqLine`]), a clock
//! and an alarm ([`time`]), memory for DMA ([`memory::GuestMemory`]), and the back ends that carry
//! its data ([`block`], [`console`]). It declares the ports and memory that it answers ([`bus`]).
//! It never reads the host's clock, sleeps, prints or panics, whatever the guest does to it.
//!
//! ```
//! use devices::bus::{Access, PioDevice};
//! use devices::port92::Port92;
//! use devices::system_control::{SystemControl, SystemProbe};
//! # use std::sync::Arc;
//!
//! let system = Arc::new(SystemProbe::default());
//! let port = Port92::new(system.clone());
//! assert_eq!(port.ports()[0].base, 0x92);
//! // A guest opens the A20 gate.
//! port.pio_write(Access::new(0, 1), 2);
//! assert!(system.a20());
//! assert_eq!(port.pio_read(Access::new(0, 1)), Some(2));
//! ```
//!
//! Lock order: a device's own lock, then the interrupt controllers that its lines lead to, then
//! nothing: the local APICs are reached through atomics. A device never calls another device while
//! holding its lock, except through these wires. Tests check it ([`lock`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod atomic;
pub mod boot_disk;
pub mod bus;
pub mod console;
pub mod coprocessor;
pub mod cpu_hotplug;
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
pub mod lock;
pub mod memory;
pub mod nospec;
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
