//! A guest's CPUID: the processor's own leaves, filtered. `docs/cpuid.md` has the table in
//! words.

use crate::backend::Withheld;
use crate::backend::speculation::GuestSpeculation;
use crate::host::processor::{Processor, Vendor};
use alloc::vec::Vec;
use emulator::control_registers;
use emulator::registers::Cr4;
use raw_cpuid::CpuIdResult;

/// Bits of leaf 1 that depend on the guest's own registers, or that we add.
mod leaf_1 {
    pub const ECX_MONITOR: u32 = 1 << 3;
    pub const ECX_VMX: u32 = 1 << 5;
    pub const ECX_X2APIC: u32 = 1 << 21;
    pub const ECX_TSC_DEADLINE: u32 = 1 << 24;
    pub const ECX_OSXSAVE: u32 = 1 << 27;
    pub const ECX_HYPERVISOR: u32 = 1 << 31;
    /// DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA: hardware that
    /// a guest has not.
    pub const ECX_ABSENT: u32 = 1 << 2
        | ECX_MONITOR
        | 1 << 4
        | ECX_VMX
        | 1 << 6
        | 1 << 7
        | 1 << 8
        | 1 << 10
        | 1 << 11
        | 1 << 14
        | 1 << 15
        | 1 << 18;
    pub const EDX_APIC: u32 = 1 << 9;
    /// PSN, DS, ACPI thermal, SS, HTT, TM, IA64, PBE.
    pub const EDX_ABSENT: u32 =
        1 << 18 | 1 << 21 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 31;
}

/// Structured extended features, leaf 7.
mod leaf_7 {
    /// TSC_ADJUST, SGX, HLE, PQM, MPX, PQE, RTM, processor trace.
    pub const EBX_ABSENT: u32 =
        1 << 1 | 1 << 2 | 1 << 4 | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 25;
    /// WAITPKG, CET_SS, TME, LA57, KL, bus-lock detection, ENQCMD, SGX_LC, PKS.
    pub const ECX_ABSENT: u32 =
        1 << 5 | 1 << 7 | 1 << 13 | 1 << 16 | 1 << 23 | 1 << 24 | 1 << 29 | 1 << 30 | 1 << 31;
    pub const EBX_INVPCID: u32 = 1 << 10;
    pub const ECX_RDPID: u32 = 1 << 22;
    /// OSPKE follows CR4.PKE.
    pub const ECX_OSPKE: u32 = 1 << 4;
    /// Only what needs neither MSRs nor state of its own: AVX512_4VNNIW, AVX512_4FMAPS, FSRM,
    /// VP2INTERSECT, SERIALIZE, AVX512_FP16.
    pub const EDX_KEPT: u32 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 14 | 1 << 23;
}

/// Extended features, leaf 8000_0001h.
mod leaf_8000_0001 {
    pub const EDX_RDTSCP: u32 = 1 << 27;
    /// The logical processors of leaf 1 are cores.
    pub const ECX_CMP_LEGACY: u32 = 1 << 1;
    /// CmpLegacy, SVM, ExtApic, OSVW, IBS, SKINIT, WDT, LWP, TopologyExt, PerfCtr, MONITORX and the
    /// performance counters around them.
    pub const ECX_ABSENT: u32 = 1 << 1
        | 1 << 2
        | 1 << 3
        | 1 << 9
        | 1 << 10
        | 1 << 12
        | 1 << 13
        | 1 << 15
        | 1 << 22
        | 1 << 23
        | 1 << 24
        | 1 << 26
        | 1 << 27
        | 1 << 28
        | 1 << 29;
}

/// The second part of the state components, leaf 0Dh, subleaf 1.
mod leaf_d_1 {
    pub const EAX_XSAVEC: u32 = 1 << 1;
    pub const EAX_XSAVES: u32 = 1 << 3;
    /// XSAVEOPT, XSAVEC, XGETBV with ECX=1, XSAVES.
    pub const EAX_KEPT: u32 = 0xf;
}

/// The part of an XSAVE area that is always there.
const LEGACY_AND_HEADER: u32 = 512 + 64;

/// State components that a guest may switch on in XCR0: x87, SSE, AVX, the three of AVX-512, PKRU.
const XCR0_KNOWN: u64 = 0x2e7;
/// Width of a linear address with four levels of page tables.
const LINEAR_ADDRESS_BITS: u32 = 48;
/// Of those above, some describe what a guest does not have; 15h and 16h describe clocks, which are
/// not the guest's, and which emulators get wrong.
const MAX_BASIC: u32 = 0xd;
const MAX_EXTENDED: u32 = 0x8000_001f;
const HYPERVISOR: u32 = 0x4000_0000;
/// Leaves that have subleaves, and how many are kept.
const SUBLEAVES: [(u32, u32); 4] = [(4, 4), (7, 2), (0xb, 2), (0xd, 10)];

#[derive(Clone, Copy)]
struct Entry {
    leaf: u32,
    subleaf: u32,
    result: CpuIdResult,
}

/// A leaf without its subleaves.
#[derive(Clone, Copy)]
struct Leaf {
    number: u32,
    result: CpuIdResult,
}

/// The leaves without their subleaves. A guest's number finds its place without a bounds check,
/// which a processor could run past: every number has one, and the leaf there may be another.
struct Leaves([Leaf; 2 * Self::OF_A_KIND as usize]);

impl Leaves {
    /// Basic ones, and as many from 8000_0000h on, by turns.
    const OF_A_KIND: u32 = 32;

    const fn place(number: u32) -> usize {
        (number.rotate_left(1) % (2 * Self::OF_A_KIND)) as usize
    }

    /// None is there: they read zero.
    fn new() -> Self {
        // The number of no leaf that is kept.
        Self([Leaf { number: HYPERVISOR, result: NOTHING }; 2 * Self::OF_A_KIND as usize])
    }

    fn set(&mut self, number: u32, result: CpuIdResult) {
        self.0[Self::place(number)] = Leaf { number, result };
    }

    #[inline]
    fn get(&self, number: u32) -> CpuIdResult {
        let leaf = &self.0[Self::place(number)];
        if leaf.number == number { leaf.result } else { NOTHING }
    }
}

const _: () =
    assert!(MAX_BASIC < Leaves::OF_A_KIND && MAX_EXTENDED < 0x8000_0000 + Leaves::OF_A_KIND);

/// The registers of the guest that CPUID depends on.
#[derive(Clone, Copy, Debug)]
pub struct CpuidState {
    /// CR4.OSXSAVE.
    pub osxsave: bool,
    /// CR4.PKE.
    pub pke: bool,
    /// The local APIC is enabled in IA32_APIC_BASE.
    pub apic_enabled: bool,
    /// Its ID.
    pub apic_id: u32,
    /// XCR0.
    pub xcr0: u64,
}

/// A guest's CPUID.
pub struct CpuidTable {
    leaves: Leaves,
    max_basic: u32,
    /// Those with subleaves.
    subleaves: Vec<Entry>,
    max_extended: u32,
    physical_address_bits: u8,
    xcr0: u64,
    withheld: Withheld,
    speculation: GuestSpeculation,
    processor: Processor,
    vcpu_count: u32,
    cr4: Cr4,
    /// The guest finds Xen.
    pv: Option<PvFacts>,
}

/// Facts that a guest with the PV-on-HVM platform reads of its clock and of itself.
#[derive(Clone, Copy, Debug)]
pub struct PvFacts {
    /// Its number.
    pub domain: u32,
    /// Rate of its time stamp counters.
    pub tsc_hz: u64,
    /// Nanoseconds a tick, with 32 fractional bits.
    pub ns_per_tick_q32: u64,
}

const NOTHING: CpuIdResult = CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

impl CpuidTable {
    /// The filtered table of a guest with `vcpu_count` CPUs.
    pub fn new(
        source: impl Fn(u32, u32) -> CpuIdResult,
        vcpu_count: u32,
        withheld: Withheld,
    ) -> Self {
        let max_basic = source(0, 0).eax.min(MAX_BASIC);
        let max_extended = source(0x8000_0000, 0).eax.clamp(0x8000_0000, MAX_EXTENDED);
        let mut xcr0 = 0;
        if max_basic >= 0xd {
            let components = source(0xd, 0);
            xcr0 = (u64::from(components.edx) << 32 | u64::from(components.eax)) & XCR0_KNOWN;
        }
        let mut table = Self {
            leaves: Leaves::new(),
            max_basic,
            subleaves: Vec::new(),
            max_extended,
            physical_address_bits: (source(0x8000_0008, 0).eax as u8).clamp(36, 52),
            xcr0,
            withheld,
            speculation: GuestSpeculation::default(),
            processor: Processor::new(source(0, 0), source(1, 0).eax),
            vcpu_count,
            cr4: Cr4::new(),
            pv: None,
        };
        for leaf in (0..=max_basic).chain(0x8000_0000..=max_extended) {
            let result = table.filter(source(leaf, 0), leaf, 0, vcpu_count);
            table.leaves.set(leaf, result);
        }
        for (leaf, count) in SUBLEAVES {
            for subleaf in 0..if leaf <= max_basic { count } else { 0 } {
                let result = table.filter(source(leaf, subleaf), leaf, subleaf, vcpu_count);
                table.subleaves.push(Entry { leaf, subleaf, result });
            }
        }
        table.cr4 = control_registers::cr4_bits(|leaf| match leaf {
            7 => table.find(leaf, 0),
            _ => table.get_static(leaf, 0),
        });
        table
    }

    /// The same table with a guest's own means against speculative execution.
    #[must_use]
    pub fn with_speculation(mut self, speculation: GuestSpeculation) -> Self {
        const ADDRESS_WIDTHS: u32 = 0x8000_0008;
        let features =
            self.subleaves.iter_mut().find(|entry| (entry.leaf, entry.subleaf) == (7, 0));
        if let Some(features) = features {
            features.result.edx |= speculation.leaf_7_edx;
        }
        if self.max_extended >= ADDRESS_WIDTHS {
            let mut widths = self.leaves.get(ADDRESS_WIDTHS);
            widths.ebx |= speculation.leaf_8_ebx;
            self.leaves.set(ADDRESS_WIDTHS, widths);
        }
        Self { speculation, ..self }
    }

    /// The guest's own means against speculative execution.
    pub const fn speculation(&self) -> &GuestSpeculation {
        &self.speculation
    }

    /// XCR0 bits that the guest may set.
    pub const fn xcr0_allowed(&self) -> u64 {
        self.xcr0
    }

    /// Bits of CR4 that the guest may set.
    pub const fn cr4_allowed(&self) -> Cr4 {
        self.cr4
    }

    /// The processor that it shows.
    pub const fn processor(&self) -> Processor {
        self.processor
    }

    /// The table of a guest that finds Xen.
    pub const fn with_pv(mut self, pv: PvFacts) -> Self {
        self.pv = Some(pv);
        self
    }

    /// The number of the guest's CPUs.
    pub const fn vcpu_count(&self) -> u32 {
        self.vcpu_count
    }

    /// Width of a guest-physical address.
    pub const fn physical_address_bits(&self) -> u8 {
        self.physical_address_bits
    }

    fn filter(
        &self,
        mut result: CpuIdResult,
        leaf: u32,
        subleaf: u32,
        vcpu_count: u32,
    ) -> CpuIdResult {
        match leaf {
            0 => result.eax = result.eax.min(MAX_BASIC),
            1 => {
                result.ebx &= 0xffff;
                result.ebx |= vcpu_count.min(255) << 16;
                result.ecx &= !(leaf_1::ECX_ABSENT | leaf_1::ECX_OSXSAVE);
                result.ecx |=
                    leaf_1::ECX_X2APIC | leaf_1::ECX_TSC_DEADLINE | leaf_1::ECX_HYPERVISOR;
                result.edx &= !leaf_1::EDX_ABSENT;
                result.edx |= if vcpu_count > 1 { 1 << 28 } else { 0 };
            }
            // Cache descriptions stay; each CPU has its caches to itself, and is a core.
            4 => {
                let is_cache = result.eax & 0x1f != 0;
                let ids = (1 << core_id_bits(vcpu_count).min(6)) - 1;
                result.eax = result.eax & 0x3ff | if is_cache { ids << 26 } else { 0 };
            }
            7 if subleaf == 0 => {
                result.eax = result.eax.min(1);
                result.ebx &= !leaf_7::EBX_ABSENT;
                result.ecx &= !(leaf_7::ECX_ABSENT | leaf_7::ECX_OSPKE);
                result.ebx &= if self.withheld.invpcid { !leaf_7::EBX_INVPCID } else { u32::MAX };
                result.ecx &= if self.withheld.rdtscp { !leaf_7::ECX_RDPID } else { u32::MAX };
                result.edx &= leaf_7::EDX_KEPT;
            }
            // AVX-VNNI, AVX512-BF16, fast string operations.
            7 => {
                result = CpuIdResult { eax: result.eax & 0x1c30, ..NOTHING };
            }
            0xb => result = topology(subleaf, vcpu_count),
            0xd => result = self.extended_state(subleaf, result),
            0x8000_0000 => result.eax = self.max_extended,
            0x8000_0001 => {
                result.ecx &= !leaf_8000_0001::ECX_ABSENT;
                if self.counts_cores(vcpu_count) {
                    result.ecx |= leaf_8000_0001::ECX_CMP_LEGACY;
                }
                result.edx &=
                    if self.withheld.rdtscp { !leaf_8000_0001::EDX_RDTSCP } else { u32::MAX };
            }
            // Only that the TSC is invariant, whether the processor says so or not: guest time is
            // the machine's TSC, and CPUs whose TSCs differ are not used.
            0x8000_0007 => result = CpuIdResult { edx: 1 << 8, ..NOTHING },
            // Address widths, linear ones without LA57; CLZERO, always-saved FP error pointers,
            // WBNOINVD; on AMD's processors the cores, too.
            0x8000_0008 => {
                let linear = (result.eax >> 8 & 0xff).min(LINEAR_ADDRESS_BITS);
                let cores = core_id_bits(vcpu_count) << 12 | (vcpu_count - 1).min(255);
                result = CpuIdResult {
                    eax: linear << 8 | result.eax & 0xff,
                    ebx: result.ebx & 0x205,
                    ecx: if self.counts_cores(vcpu_count) { cores } else { 0 },
                    edx: 0,
                };
            }
            2 | 0x8000_0002..=0x8000_0006 | 0x8000_0019 | 0x8000_001a => {}
            _ => result = NOTHING,
        }
        result
    }

    /// True if the leaves of AMD's processors have to say that the logical processors of leaf 1 are
    /// cores, and not threads of one (APM volume 3, section E.5).
    fn counts_cores(&self, vcpu_count: u32) -> bool {
        self.processor.vendor == Vendor::Amd && vcpu_count > 1
    }

    /// Leaf 0Dh: only the components of [`XCR0_KNOWN`], and no supervisor state.
    fn extended_state(&self, subleaf: u32, result: CpuIdResult) -> CpuIdResult {
        match subleaf {
            0 => CpuIdResult { eax: self.xcr0 as u32, edx: (self.xcr0 >> 32) as u32, ..result },
            1 if self.withheld.xsaves => CpuIdResult {
                eax: result.eax & leaf_d_1::EAX_KEPT & !leaf_d_1::EAX_XSAVES,
                ..NOTHING
            },
            1 => CpuIdResult { eax: result.eax & leaf_d_1::EAX_KEPT, ..NOTHING },
            component if self.xcr0 >> component & 1 != 0 => result,
            _ => NOTHING,
        }
    }

    fn find(&self, leaf: u32, subleaf: u32) -> CpuIdResult {
        let found =
            self.subleaves.iter().find(|entry| entry.leaf == leaf && entry.subleaf == subleaf);
        found.map_or(NOTHING, |entry| entry.result)
    }

    /// The answer to CPUID. `state` is asked for only where the answer depends on it.
    #[inline]
    pub fn get(&self, leaf: u32, subleaf: u32, state: impl FnOnce() -> CpuidState) -> CpuIdResult {
        match leaf {
            1 | 7 | 0xb | 0xd if leaf <= self.max_basic => {
                self.get_dynamic(leaf, subleaf, &state())
            }
            // AMD's processors repeat the bit of the local APIC there; Intel's have none.
            0x8000_0001 => {
                let result = self.get_static(leaf, subleaf);
                CpuIdResult { edx: with_apic(result.edx, state().apic_enabled), ..result }
            }
            HYPERVISOR..=xen::cpuid::LAST => self.get_hypervisor(leaf, subleaf, &state()),
            _ => self.get_static(leaf, subleaf),
        }
    }

    /// Ours, or Xen's.
    #[cold]
    fn get_hypervisor(&self, leaf: u32, subleaf: u32, state: &CpuidState) -> CpuIdResult {
        let Some(pv) = self.pv else {
            let [ebx, ecx, edx] = [*b"Bulk", *b"head", *b"HVM\0"].map(u32::from_le_bytes);
            return match leaf {
                HYPERVISOR => CpuIdResult { eax: HYPERVISOR, ebx, ecx, edx },
                _ => NOTHING,
            };
        };
        let facts = xen::cpuid::Facts {
            vcpu: state.apic_id,
            domain: pv.domain,
            tsc_khz: (pv.tsc_hz / 1000) as u32,
            rdtscp: self.get_static(0x8000_0001, 0).edx & leaf_8000_0001::EDX_RDTSCP != 0,
            ns_per_tick_q32: pv.ns_per_tick_q32,
        };
        let [eax, ebx, ecx, edx] = xen::cpuid::leaf(leaf, subleaf, &facts);
        CpuIdResult { eax, ebx, ecx, edx }
    }

    fn get_static(&self, leaf: u32, subleaf: u32) -> CpuIdResult {
        match leaf {
            4 => self.find(leaf, subleaf),
            // Beyond the last leaf Intel's processors answer with the last basic one, AMD's with
            // zeroes.
            _ => self.leaves.get(leaf),
        }
    }

    /// The leaves that depend on the guest's registers.
    fn get_dynamic(&self, leaf: u32, subleaf: u32, state: &CpuidState) -> CpuIdResult {
        if leaf == 1 {
            let mut result = self.get_static(leaf, 0);
            result.ebx |= state.apic_id << 24;
            result.ecx |= if state.osxsave { leaf_1::ECX_OSXSAVE } else { 0 };
            result.edx = with_apic(result.edx, state.apic_enabled);
            return result;
        }
        let mut result = self.find(leaf, subleaf);
        match leaf {
            7 if subleaf == 0 && state.pke => result.ecx |= leaf_7::ECX_OSPKE,
            // Beyond the last level too (SDM volume 2, CPUID).
            0xb => {
                result.ecx |= subleaf & 0xff;
                result.edx = state.apic_id;
            }
            0xd if subleaf == 0 => {
                result.ebx = self.save_area_bytes(state.xcr0);
                result.ecx = self.save_area_bytes(self.xcr0);
            }
            0xd if subleaf == 1
                && result.eax & (leaf_d_1::EAX_XSAVEC | leaf_d_1::EAX_XSAVES) != 0 =>
            {
                result.ebx = self.compacted_area_bytes(state.xcr0);
            }
            _ => {}
        }
        result
    }

    /// True if the guest has XSAVES, and with it IA32_XSS.
    pub fn has_xsaves(&self) -> bool {
        self.find(0xd, 1).eax & leaf_d_1::EAX_XSAVES != 0
    }

    /// Size of the XSAVE area, in the standard form, for the components that XCR0 switches on.
    fn save_area_bytes(&self, xcr0: u64) -> u32 {
        let components = (2..10).filter(|component| xcr0 >> component & 1 != 0);
        let ends = components.map(|component| {
            let area = self.find(0xd, component);
            area.eax + area.ebx
        });
        ends.max().unwrap_or(0).max(LEGACY_AND_HEADER)
    }

    /// The same in the compacted form (SDM volume 1, 13.4.3): one component behind the other, some
    /// of them aligned.
    fn compacted_area_bytes(&self, xcr0: u64) -> u32 {
        const ALIGNED: u32 = 1 << 1;
        const ALIGNMENT: u32 = 64;
        let components = (2..10).filter(|component| xcr0 >> component & 1 != 0);
        components.fold(LEGACY_AND_HEADER, |end, component| {
            let area = self.find(0xd, component);
            let start = if area.ecx & ALIGNED != 0 { end.next_multiple_of(ALIGNMENT) } else { end };
            start + area.eax
        })
    }
}

/// The features of leaf 1's EDX, or of those that leaf 8000_0001h repeats, with the switch of the
/// local APIC.
const fn with_apic(edx: u32, enabled: bool) -> u32 {
    if enabled { edx } else { edx & !leaf_1::EDX_APIC }
}

/// The low bits of an APIC ID that number the cores of the one package.
const fn core_id_bits(vcpu_count: u32) -> u32 {
    vcpu_count.next_power_of_two().trailing_zeros()
}

/// Leaf 0Bh without the level's number and the APIC ID: every virtual CPU is a core of its own in
/// one package.
fn topology(subleaf: u32, vcpu_count: u32) -> CpuIdResult {
    const SMT: u32 = 1;
    const CORE: u32 = 2;
    match subleaf {
        0 => CpuIdResult { eax: 0, ebx: 1, ecx: SMT << 8, edx: 0 },
        1 => CpuIdResult { eax: core_id_bits(vcpu_count), ebx: vcpu_count, ecx: CORE << 8, edx: 0 },
        _ => NOTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::processor::CpuidSource;

    fn everything(leaf: u32, _subleaf: u32) -> CpuIdResult {
        let eax = match leaf {
            0 => 0x20,
            0x8000_0000 => 0x8000_0025,
            _ => u32::MAX,
        };
        CpuIdResult { eax, ebx: u32::MAX, ecx: u32::MAX, edx: u32::MAX }
    }

    const STATE: CpuidState =
        CpuidState { osxsave: false, pke: false, apic_enabled: true, apic_id: 3, xcr0: 1 };

    #[test]
    fn what_the_guest_has_not_is_not_promised() {
        let table = CpuidTable::new(everything, 1, Withheld::default());
        let features = table.get(1, 0, || STATE);
        assert_eq!(features.ecx & (leaf_1::ECX_VMX | leaf_1::ECX_MONITOR | leaf_1::ECX_OSXSAVE), 0);
        assert_ne!(features.ecx & leaf_1::ECX_HYPERVISOR, 0);
        assert_eq!(features.ebx >> 24, 3);
        assert_eq!(table.get(0x8000_0001, 0, || STATE).ecx & 1 << 2, 0, "SVM");
        assert_eq!(table.get(7, 0, || STATE).ecx & 1 << 16, 0, "LA57");
        assert_eq!(table.get(0, 0, || STATE).eax, MAX_BASIC);
        assert_eq!(table.get(0x8000_0000, 0, || STATE).eax, MAX_EXTENDED);
        assert_eq!(
            table.get(0x8000_0008, 0, || STATE).eax >> 8,
            48,
            "linear addresses without LA57"
        );
        for leaf in [3, 5, 6, 8, 9, 0xa, 0xc, 0xe, 0xf, 0x10, 0x11, 0x12, 0x13, 0x14] {
            assert_eq!(table.get(leaf, 0, || STATE), NOTHING, "{leaf:#x}");
        }
        assert_eq!(table.get(0x17, 0, || STATE), NOTHING);
        assert_eq!(table.get(0x8000_000a, 0, || STATE), NOTHING);
    }

    #[test]
    fn bits_follow_the_guests_registers() {
        let table = CpuidTable::new(everything, 2, Withheld::default());
        let state = CpuidState { osxsave: true, pke: true, apic_enabled: false, ..STATE };
        assert_ne!(table.get(1, 0, || state).ecx & leaf_1::ECX_OSXSAVE, 0);
        assert_eq!(table.get(1, 0, || state).edx & leaf_1::EDX_APIC, 0);
        assert_ne!(table.get(7, 0, || state).ecx & leaf_7::ECX_OSPKE, 0);
        assert_eq!(table.get(0x8000_0001, 0, || state).edx & leaf_1::EDX_APIC, 0);
        assert_ne!(table.get(0x8000_0001, 0, || STATE).edx & leaf_1::EDX_APIC, 0);
        assert_eq!(table.get(0xb, 1, || state).ebx, 2);
        let levels = [0, 1, 2, 0x107].map(|level| table.get(0xb, level, || STATE).ecx);
        assert_eq!(levels, [0x100, 0x201, 2, 7]);
    }

    #[test]
    fn all_leaves_tell_of_the_same_cores() {
        fn of(vendor: &[u8; 12], leaf: u32) -> CpuIdResult {
            let word = |at: usize| {
                u32::from_le_bytes([vendor[at], vendor[at + 1], vendor[at + 2], vendor[at + 3]])
            };
            match leaf {
                0 => CpuIdResult { eax: 0xd, ebx: word(0), ecx: word(8), edx: word(4) },
                0x8000_0000 => CpuIdResult { eax: 0x8000_0008, ..NOTHING },
                _ => everything(leaf, 0),
            }
        }
        let amd: CpuidSource = |leaf, _| of(b"AuthenticAMD", leaf);
        // Subleaf 3 of leaf 4 is behind the last cache.
        let intel: CpuidSource = |leaf, subleaf| match (leaf, subleaf) {
            (4, 3) => NOTHING,
            _ => of(b"GenuineIntel", leaf),
        };
        for (vcpus, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (128, 7)] {
            for (source, is_amd) in [(amd, true), (intel, false)] {
                let table = CpuidTable::new(source, vcpus, Withheld::default());
                let features = table.get(1, 0, || STATE);
                assert_eq!(features.ebx >> 16 & 0xff, vcpus);
                assert_eq!(features.edx >> 28 & 1 != 0, vcpus > 1, "HTT");
                let cores = table.get(0xb, 1, || STATE);
                assert_eq!((cores.eax, cores.ebx), (bits, vcpus));
                let caches = table.get(4, 0, || STATE).eax;
                assert_eq!(caches >> 14, ((1 << bits.min(6)) - 1) << 12, "cores, and no sharing");
                let amds = (is_amd && vcpus > 1).then_some((1, bits << 12 | (vcpus - 1)));
                let shown = (
                    table.get(0x8000_0001, 0, || STATE).ecx >> 1 & 1,
                    table.get(0x8000_0008, 0, || STATE).ecx,
                );
                assert_eq!(shown, amds.unwrap_or_default());
            }
            assert_eq!(CpuidTable::new(intel, vcpus, Withheld::default()).find(4, 3), NOTHING);
        }
    }

    #[test]
    fn what_virtualisation_withholds_is_not_promised() {
        let withheld = Withheld { rdtscp: true, invpcid: true, xsaves: true };
        let bits = |table: &CpuidTable| {
            [
                table.get(0x8000_0001, 0, || STATE).edx & 1 << 27,
                table.get(7, 0, || STATE).ecx & 1 << 22,
                table.get(7, 0, || STATE).ebx & 1 << 10,
                table.get(0xd, 1, || STATE).eax & 1 << 3,
            ]
        };
        assert_eq!(bits(&CpuidTable::new(everything, 1, withheld)), [0; 4]);
        assert!(
            bits(&CpuidTable::new(everything, 1, Withheld::default())).iter().all(|&bit| bit != 0)
        );
    }

    #[test]
    fn means_against_speculation_are_shown_where_they_are_offered() {
        let bits = |table: &CpuidTable| {
            [table.get(7, 0, || STATE).edx, table.get(0x8000_0008, 0, || STATE).ebx]
        };
        let without = CpuidTable::new(everything, 1, Withheld::default());
        assert_eq!(bits(&without), [leaf_7::EDX_KEPT, 0x205]);
        let offer = GuestSpeculation {
            leaf_7_edx: 0xbc00_0400,
            leaf_8_ebx: 1 << 12,
            ..GuestSpeculation::default()
        };
        let with = without.with_speculation(offer);
        assert_eq!(bits(&with), [leaf_7::EDX_KEPT | 0xbc00_0400, 0x1205]);
        assert_eq!(with.speculation(), &offer);
        assert_eq!(with.get(7, 1, || STATE).edx, 0);
    }

    /// AVX at 576 with 256 bytes, and, aligned, AVX-512 masks at 1088 with 64 bytes.
    fn two_components(leaf: u32, subleaf: u32) -> CpuIdResult {
        match (leaf, subleaf) {
            (0, _) => CpuIdResult { eax: 0xd, ..NOTHING },
            (0xd, 0) => CpuIdResult { eax: 0x27, ..NOTHING },
            (0xd, 1) => CpuIdResult { eax: 0xf, ..NOTHING },
            (0xd, 2) => CpuIdResult { eax: 256, ebx: 576, ..NOTHING },
            (0xd, 5) => CpuIdResult { eax: 64, ebx: 1088, ecx: 2, ..NOTHING },
            _ => NOTHING,
        }
    }

    #[test]
    fn save_areas_have_the_sizes_of_both_forms() {
        let table = CpuidTable::new(two_components, 1, Withheld::default());
        let sizes = |xcr0| {
            [0, 1].map(|subleaf| table.get(0xd, subleaf, || CpuidState { xcr0, ..STATE }).ebx)
        };
        assert_eq!(sizes(3), [576, 576]);
        assert_eq!(sizes(7), [832, 832]);
        assert_eq!(sizes(0x27), [1152, 896]);
        assert_eq!(sizes(0x23), [1152, 640]);
        assert_eq!(table.get(0xd, 0, || STATE).ecx, 1152, "of all that the guest may switch on");
    }

    #[test]
    fn a_processor_with_few_leaves_is_no_trouble() {
        let table = CpuidTable::new(|_, _| NOTHING, 1, Withheld::default());
        assert_eq!(table.get(1, 0, || STATE), NOTHING);
        assert_eq!(table.xcr0_allowed(), 0);
        assert_eq!(table.get(0xd, 0, || STATE).eax, 0);
    }
}
