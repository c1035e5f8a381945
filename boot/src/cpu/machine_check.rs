//! Machine checks: this CPU's banks, and a #MC in the hypervisor itself.

use super::descriptors::TrapFrame;
use super::{interrupts, percpu};
use core::sync::atomic::Ordering;
use raw_cpuid::CpuId;
use spin::Once;
use vmm_core::host::machine_check::{self, Interrupted, Maker, Register, Registers, Verdict};
use x86::msr::{rdmsr, wrmsr};

const VECTOR: u8 = 18;

/// The registers of the CPU that this is used on, if all CPUs have the architecture and its
/// exception.
static BANKS: Once<Banks> = Once::new();

struct Banks(Maker);

impl Banks {
    fn find() -> Option<Self> {
        let cpuid = CpuId::new();
        let features = cpuid.get_feature_info()?;
        let vendor = cpuid.get_vendor_info()?;
        let maker = match vendor.as_str() {
            "AuthenticAMD" | "HygonGenuine" => {
                let leaf = cpuid.get_advanced_power_mgmt_info();
                Maker::Amd { contains: leaf.is_some_and(|leaf| leaf.has_succor()) }
            }
            _ => Maker::Intel {
                keeps_first_control: features.family_id() == 6 && features.model_id() < 0x1a,
            },
        };
        (features.has_mce() && features.has_mca()).then_some(Self(maker))
    }
}

impl Registers for Banks {
    fn read(&self, register: Register) -> u64 {
        // SAFETY: the CPU has the architecture (`find`), and the caller asks for what MCG_CAP
        // promises; reading changes nothing.
        unsafe { rdmsr(register.msr()) }
    }

    fn write(&self, register: Register, value: u64) {
        // SAFETY: as above; these registers say what errors are told of, and nothing else depends
        // on them.
        unsafe { wrmsr(register.msr(), value) };
    }

    fn maker(&self) -> Maker {
        self.0
    }
}

/// The registers, once [`enable`] has found them.
pub fn registers() -> Option<&'static dyn Registers> {
    BANKS.get().map(|banks| banks as &dyn Registers)
}

/// Makes this CPU tell of errors; logs those of before.
pub fn enable() {
    let Some(banks) = Banks::find() else { return };
    machine_check::enable(BANKS.call_once(|| banks), percpu::current().index as usize);
}

/// A #MC while the hypervisor ran. It may have been anywhere, holding any lock: what goes on is
/// logged later.
pub fn exception(frame: &TrapFrame) {
    let Some(registers) = registers() else { interrupts::exception(VECTOR, frame) };
    match machine_check::verdict(registers, Interrupted::Hypervisor) {
        Verdict::GoesOn => {
            percpu::current().machine_check.store(true, Ordering::Release);
            machine_check::finish(registers);
        }
        _ => interrupts::exception(VECTOR, frame),
    }
}

/// True once after such an exception.
pub fn take() -> bool {
    let machine_check = &percpu::current().machine_check;
    machine_check.load(Ordering::Acquire) && machine_check.swap(false, Ordering::AcqRel)
}
