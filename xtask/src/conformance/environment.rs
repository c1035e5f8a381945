//! The machines that the conformance guests run on.

use clap::ValueEnum;

use super::config::has_platform;
use super::guests::Guest;
use crate::emulator::{Backend, EmulatorKind, Spec};

/// A machine: an emulator, and what stands between it and the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Environment {
    /// QEMU by itself
    Qemu,
    /// Bochs by itself, with an Intel processor
    Bochs,
    /// Bulkhead on AMD-V in QEMU
    SvmQemu,
    /// Bulkhead on AMD-V in Bochs
    SvmBochs,
    /// Bulkhead on VT-x in Bochs
    VmxBochs,
    /// The same with the local APIC in hardware
    VmxBochsApicv,
    /// The same with a second processor, which keeps the timers and posts their interrupts
    VmxBochsPosted,
    /// Bochs by itself, with the processor of these two, which has AVX-512
    BochsAvx512,
}

/// The topic of all instruction forms, of which each processor has its own.
pub const FORMS_TOPIC: &str = "forms";

/// A processor with the local APIC in hardware and posted interrupts, and the topics that are about
/// these.
const APICV_CPU: &str = "corei7_skylake_x";
const APICV_TOPICS: [&str; 13] = [
    "apic_timer",
    FORMS_TOPIC,
    "interrupts",
    "io_apic",
    "local_apic",
    "pic",
    "smp_ipi",
    "smp_memory",
    "smp_routing",
    "smp_start",
    "task_priority",
    "tsc_deadline",
    "x2apic",
];
const POSTED_TOPICS: [&str; 9] =
    ["apic_timer", "clocks", "hpet", "io_apic", "local_apic", "pic", "pit", "rtc", "tsc_deadline"];

/// The topic of defences against speculative execution, and the processor of Bochs's that has them.
const SPECULATION_TOPIC: &str = "speculation";
const SPECULATION_CPU: &str = "sapphire_rapids";

/// The topics about several processors, and how many their guests have.
const SMP_TOPICS: [(&str, u32); 8] = [
    ("smp_ipi", 4),
    ("smp_memory", 4),
    ("smp_resets", 2),
    ("smp_routing", 2),
    ("smp_start", 4),
    ("xen_events", 2),
    ("xen_hostile", 2),
    ("xen_shared", 2),
];

/// The processors of a machine whose guest has several, under Bulkhead: fewer, so that they are
/// shared.
const SHARED_CPUS: u32 = 2;

/// The processors of a topic's guest.
pub fn vcpus(topic: &str) -> u32 {
    SMP_TOPICS.iter().find(|(name, _)| *name == topic).map_or(1, |&(_, vcpus)| vcpus)
}

/// The topic of code on devices, which runs on bounce pages. Bochs 3.0 stops there now and then, by
/// the hypervisor's build: its instruction cache (`BX_CPU_C::getICacheEntry`) gives a trace without
/// an instruction for ever, and its time stands still. All 49 cases pass where it does not.
const DEVICE_CODE_TOPIC: &str = "device_code";

/// The guests' memory.
pub const MEMORY_MIB: u32 = 64;

impl Environment {
    /// The name used on the command line and in lists.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether guests of `topic` run there.
    pub fn has(self, topic: &str) -> bool {
        match self {
            // The platform is the hypervisor's; once with each way into it.
            _ if has_platform(topic) => matches!(self, Self::SvmQemu | Self::VmxBochs),
            Self::VmxBochsApicv => APICV_TOPICS.contains(&topic),
            Self::VmxBochsPosted => POSTED_TOPICS.contains(&topic),
            Self::BochsAvx512 => topic == FORMS_TOPIC,
            Self::Bochs | Self::VmxBochs => topic != DEVICE_CODE_TOPIC,
            // No AMD processor of Bochs's has any.
            Self::SvmBochs => ![DEVICE_CODE_TOPIC, SPECULATION_TOPIC].contains(&topic),
            Self::Qemu | Self::SvmQemu => true,
        }
    }

    /// Whether the guest runs on the emulator itself.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Qemu | Self::Bochs | Self::BochsAvx512)
    }

    /// The machine with the same processor, and nothing between it and the guest, on which `topic`
    /// runs.
    pub fn counterpart(self, topic: &str) -> Option<Self> {
        let direct = match self {
            Self::SvmQemu => Some(Self::Qemu),
            Self::VmxBochs => Some(Self::Bochs),
            Self::VmxBochsApicv => Some(Self::BochsAvx512),
            Self::Qemu
            | Self::Bochs
            | Self::BochsAvx512
            | Self::SvmBochs
            | Self::VmxBochsPosted => None,
        };
        direct.filter(|direct| direct.has(topic))
    }

    /// More of QEMU's arguments: its HPET sends no messages unless it is told to.
    fn arguments(self, guest: &Guest) -> Vec<String> {
        match self {
            Self::Qemu if guest.topic == "hpet" => {
                ["-global", "hpet.msi=on"].map(str::to_owned).into()
            }
            _ => Vec::new(),
        }
    }

    /// The machine that runs `guest`.
    pub fn spec(self, guest: &Guest) -> Spec {
        let (emulator, backend, direct) = match self {
            Self::Qemu => (EmulatorKind::Qemu, Backend::Svm, true),
            Self::Bochs | Self::BochsAvx512 => (EmulatorKind::Bochs, Backend::Vmx, true),
            Self::SvmQemu => (EmulatorKind::Qemu, Backend::Svm, false),
            Self::SvmBochs => (EmulatorKind::Bochs, Backend::Svm, false),
            Self::VmxBochs | Self::VmxBochsApicv | Self::VmxBochsPosted => {
                (EmulatorKind::Bochs, Backend::Vmx, false)
            }
        };
        let (cpu, cmdline) = match self {
            Self::VmxBochsApicv | Self::VmxBochsPosted => (Some(APICV_CPU), "apicv=on"),
            Self::BochsAvx512 => (Some(APICV_CPU), ""),
            Self::Bochs | Self::VmxBochs if guest.topic == SPECULATION_TOPIC => {
                (Some(SPECULATION_CPU), "")
            }
            _ => (None, ""),
        };
        let vcpus = vcpus(&guest.topic);
        let smp = match self {
            Self::VmxBochsPosted => 2,
            _ if direct => vcpus,
            _ => vcpus.min(SHARED_CPUS),
        };
        Spec {
            emulator: Some(emulator),
            backend,
            direct,
            iso: Some(guest.iso.clone()),
            config: Some(guest.config.clone()),
            hard_disk: guest.hard_disks.first().cloned(),
            disks: guest.hard_disks.iter().skip(1).cloned().collect(),
            memory_mib: MEMORY_MIB,
            cpu: cpu.map(str::to_owned),
            cmdline: cmdline.to_owned(),
            arguments: self.arguments(guest),
            smp,
            vcpus,
            ..Spec::default()
        }
    }
}
