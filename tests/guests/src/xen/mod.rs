//! The PV-on-HVM platform, for topics about it: hypercalls from code of every mode, and the
//! structures of Xen's public headers. The guests of these topics have the platform.

pub mod bytes;
pub mod event;
pub mod mode;
pub mod shared;
pub mod store;
pub mod vcpu;

use core::fmt::{self, Write};

use crate::{cpu, pic, report, smp};

/// Numbers of hypercalls (xen.h, `__HYPERVISOR_*`).
#[allow(missing_docs)]
pub mod number {
    pub const MEMORY_OP: u64 = 12;
    pub const MULTICALL: u64 = 13;
    pub const SET_TIMER_OP: u64 = 15;
    pub const XEN_VERSION: u64 = 17;
    pub const CONSOLE_IO: u64 = 18;
    pub const GRANT_TABLE_OP: u64 = 20;
    pub const VM_ASSIST: u64 = 21;
    pub const VCPU_OP: u64 = 24;
    pub const SCHED_OP: u64 = 29;
    pub const EVENT_CHANNEL_OP: u64 = 32;
    pub const HVM_OP: u64 = 34;
}

/// Results of calls that fail (errno.h).
#[allow(missing_docs)]
pub mod error {
    pub const PERM: i64 = -1;
    pub const NOENT: i64 = -2;
    pub const SRCH: i64 = -3;
    pub const NXIO: i64 = -6;
    pub const FAULT: i64 = -14;
    pub const EXIST: i64 = -17;
    pub const INVAL: i64 = -22;
    pub const NOSPC: i64 = -28;
    pub const NOSYS: i64 = -38;
}

/// The guest's own number, as it may call itself.
pub const DOMAIN_SELF: u16 = 0x7ff0;
/// A number that no domain has (xen.h, `DOMID_INVALID`).
pub const DOMAIN_INVALID: u16 = 0x7ff4;
/// The page size of everything here.
pub const PAGE_BYTES: u64 = 4096;

/// The first leaf of CPUID.
pub const LEAF: u32 = 0x4000_0000;
/// The MSR by which a guest asks for the page of hypercalls.
pub const HYPERCALL_MSR: u32 = 0x4000_0000;

/// A page of RAM for the structures of calls, a part for each virtual CPU.
const ARGUMENTS: u64 = 0x20_0000;
const ARGUMENT_BYTES: u64 = 0x400;
/// An address that has no memory behind it: the guests have 64 MiB.
pub const NOWHERE: u64 = 0x8000_0000;
/// Where RAM ends.
pub const RAM_END: u64 = 64 << 20;

/// A page of RAM that is written as the page of hypercalls.
pub const CALLS: u64 = 0x2f_0000;
/// Vendor and device of the platform's PCI device.
pub const PLATFORM_DEVICE: u32 = 0x0001_5853;
/// Virtual CPUs of the topics that need several.
pub const CPUS: usize = 2;

/// The place for the structures of this virtual CPU's calls.
pub fn arguments() -> u64 {
    ARGUMENTS + smp::index() as u64 * ARGUMENT_BYTES
}

/// Ends the topic if there is no platform.
pub fn require() {
    let [_, signature @ ..] = cpu::cpuid(LEAF, 0);
    if signature != [*b"XenV", *b"MMXe", *b"nVMM"].map(u32::from_le_bytes) {
        report::fail("platform", "CPUID does not tell of Xen");
        report::end();
    }
}

/// Begins a topic about two virtual CPUs: the second one waits for jobs.
pub fn begin_with_two() {
    require();
    pic::set_up();
    smp::set_up(None);
    report::check("the-second-starts", smp::start_others(CPUS - 1));
}

/// Asks for the page of hypercalls, which latches the 64-bit layout of shared structures.
pub fn latch_64() {
    cpu::wrmsr(HYPERCALL_MSR, CALLS);
}

/// The guest's own number.
pub fn domain() -> u16 {
    cpu::cpuid(LEAF + 4, 0)[2] as u16
}

/// `xen_hvm_param`.
pub fn param(domain: u16, index: u32, value: u64) -> bytes::Bytes {
    bytes::Bytes::new().u16(domain).u32(index).u64(value)
}

/// The value of a parameter.
///
/// # Errors
/// As the call.
pub fn get_param(index: u32) -> Result<u64, i64> {
    match mode::op(number::HVM_OP, 1, param(DOMAIN_SELF, index, 0)) {
        0 => Ok(cpu::peek(arguments() + 8)),
        error => Err(error),
    }
}

/// Nanoseconds of the platform's time.
pub fn now_ns() -> u64 {
    let result = mode::op(number::HVM_OP, 10, bytes::Bytes::new());
    assert_eq!(result, 0);
    cpu::peek(arguments())
}

/// A name of a case, made of parts: `name!("{}-{}", mode, call)`.
#[macro_export]
macro_rules! name {
    ($($part:tt)*) => { $crate::xen::Name::new(format_args!($($part)*)) };
}

/// See [`name!`](crate::name).
#[derive(Clone, Copy, Debug)]
pub struct Name {
    text: [u8; Self::CAPACITY],
    length: usize,
}

impl Name {
    const CAPACITY: usize = 64;

    /// From parts.
    pub fn new(parts: fmt::Arguments) -> Self {
        let mut name = Self { text: [0; Self::CAPACITY], length: 0 };
        name.write_fmt(parts).unwrap_or_else(|_| panic!("a name is too long"));
        name
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.text.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl core::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        core::str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }
}
