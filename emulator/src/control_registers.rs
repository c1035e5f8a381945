//! The values that MOV to CR0 and CR4 takes (SDM volume 2, MOV to control registers; APM volume 2,
//! 3.1).

use crate::registers::{Cr0, Cr4, Efer, SegmentAttributes};
use raw_cpuid::CpuIdResult;

/// The state that decides, beside a value's own bits, whether MOV to CR0 or CR4 takes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// CR0 before it.
    pub cr0: Cr0,
    /// CR3.
    pub cr3: u64,
    /// CR4 before it.
    pub cr4: Cr4,
    /// EFER.
    pub efer: Efer,
    /// The instruction is 64-bit code.
    pub is_64_bit_code: bool,
    /// TR.
    pub task: SegmentAttributes,
}

impl Mode {
    /// False if MOV to CR0 raises #GP (SDM volume 2, MOV to control registers).
    pub fn takes_cr0(&self, value: u64) -> bool {
        const BUSY_TSS_16: u8 = 3;
        let new = Cr0::from(value);
        let is_sound = value >> 32 == 0
            && (!new.not_write_through() || new.cache_disable())
            && (!new.paging() || new.protection());
        let may_change_paging = match (self.cr0.paging(), new.paging()) {
            (true, false) => !self.is_64_bit_code && !self.cr4.pcide(),
            (false, true) if self.efer.long_mode_enable() => {
                self.cr4.pae() && !self.is_64_bit_code && self.task.kind() != BUSY_TSS_16
            }
            _ => true,
        };
        is_sound && may_change_paging
    }

    /// False if MOV to CR4 raises #GP, by bits that the guest may set.
    pub fn takes_cr4(&self, value: u64) -> bool {
        /// CR3: the PCID.
        const PCID: u64 = 0xfff;
        let new = Cr4::from(value);
        let is_long = self.efer.long_mode_active();
        let sets_pcide = new.pcide() && !self.cr4.pcide();
        (new.pae() || !is_long) && (!sets_pcide || is_long && self.cr3 & PCID == 0)
    }
}

/// A feature that has a bit in CR4: the bits, and where CPUID tells of it.
struct Feature {
    cr4: Cr4,
    leaf: u32,
    register: fn(&CpuIdResult) -> u32,
    bit: u32,
}

const fn feature(cr4: Cr4, leaf: u32, register: fn(&CpuIdResult) -> u32, bit: u32) -> Feature {
    Feature { cr4, leaf, register, bit }
}

const EBX: fn(&CpuIdResult) -> u32 = |result| result.ebx;
const ECX: fn(&CpuIdResult) -> u32 = |result| result.ecx;
const EDX: fn(&CpuIdResult) -> u32 = |result| result.edx;

const FEATURES: [Feature; 17] = [
    feature(Cr4::new().with_vme(true).with_pvi(true), 1, EDX, 1),
    feature(Cr4::new().with_de(true), 1, EDX, 2),
    feature(Cr4::new().with_pse(true), 1, EDX, 3),
    feature(Cr4::new().with_tsd(true), 1, EDX, 4),
    feature(Cr4::new().with_pae(true), 1, EDX, 6),
    feature(Cr4::new().with_mce(true), 1, EDX, 7),
    feature(Cr4::new().with_pge(true), 1, EDX, 13),
    feature(Cr4::new().with_osfxsr(true), 1, EDX, 24),
    feature(Cr4::new().with_osxmmexcpt(true), 1, EDX, 25),
    feature(Cr4::new().with_pcide(true), 1, ECX, 17),
    feature(Cr4::new().with_osxsave(true), 1, ECX, 26),
    feature(Cr4::new().with_fsgsbase(true), 7, EBX, 0),
    feature(Cr4::new().with_smep(true), 7, EBX, 7),
    feature(Cr4::new().with_smap(true), 7, EBX, 20),
    feature(Cr4::new().with_umip(true), 7, ECX, 2),
    feature(Cr4::new().with_pke(true), 7, ECX, 3),
    feature(Cr4::new().with_la57(true), 7, ECX, 16),
];

/// The bits of CR4 that a processor with this CPUID has. All others are reserved.
pub fn cr4_bits(cpuid: impl Fn(u32) -> CpuIdResult) -> Cr4 {
    // RDPMC outside ring 0 is older than CPUID's bits.
    let always = Cr4::new().with_pce(true).into_bits();
    let has = |feature: &&Feature| (feature.register)(&cpuid(feature.leaf)) >> feature.bit & 1 != 0;
    Cr4::from_bits(
        FEATURES.iter().filter(has).fold(always, |bits, feature| bits | feature.cr4.into_bits()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cr4_has_the_bits_that_cpuid_tells_of() {
        let nothing = CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
        assert_eq!(cr4_bits(|_| nothing).into_bits(), 1 << 8);
        let everything = CpuIdResult { eax: 0, ebx: u32::MAX, ecx: u32::MAX, edx: u32::MAX };
        assert_eq!(
            cr4_bits(|_| everything).into_bits(),
            0x77_1fff,
            "neither VMXE nor SMXE nor CET"
        );
        let smep = |leaf| CpuIdResult { ebx: if leaf == 7 { 1 << 7 } else { 0 }, ..nothing };
        assert_eq!(cr4_bits(smep).into_bits(), 1 << 20 | 1 << 8);
    }

    #[test]
    fn cr0_takes_what_the_manual_allows() {
        let plain = Mode::default();
        let takes = |value| plain.takes_cr0(value);
        assert!(takes(0x6000_0011) && takes(0x4000_0011) && !takes(0x2000_0011), "NW without CD");
        assert!(!takes(1 << 32));
        assert!(takes(0x8000_0011) && !takes(0x8000_0010), "PG without PE");
    }

    #[test]
    fn paging_goes_on_and_off_where_the_manual_allows() {
        const ON: u64 = 0x8000_0011;
        const OFF: u64 = 0x11;
        let long = Efer::new().with_long_mode_enable(true);
        let to_long = Mode { cr4: Cr4::new().with_pae(true), efer: long, ..Mode::default() };
        assert!(to_long.takes_cr0(ON));
        assert!(!Mode { cr4: Cr4::new(), ..to_long }.takes_cr0(ON), "LME without PAE");
        assert!(
            !Mode { task: SegmentAttributes::new().with_kind(3), ..to_long }.takes_cr0(ON),
            "TSS of 16 bits"
        );
        // That of 64-bit code without long mode: a code segment with the L bit.
        assert!(!Mode { is_64_bit_code: true, ..to_long }.takes_cr0(ON));
        let paging = Mode { cr0: ON.into(), ..to_long };
        assert!(paging.takes_cr0(OFF), "from compatibility mode");
        assert!(!Mode { is_64_bit_code: true, ..paging }.takes_cr0(OFF));
        assert!(!Mode { cr4: paging.cr4.with_pcide(true), ..paging }.takes_cr0(OFF));
        assert!(Mode { is_64_bit_code: true, ..paging }.takes_cr0(ON | 1 << 30));
    }

    #[test]
    fn cr4_takes_what_the_manual_allows() {
        const PAE: u64 = 1 << 5;
        const PCIDE: u64 = 1 << 17;
        let efer = Efer::new().with_long_mode_enable(true).with_long_mode_active(true);
        let long = Mode { cr4: PAE.into(), efer, ..Mode::default() };
        assert!(long.takes_cr4(PAE) && !long.takes_cr4(0), "PAE off in long mode");
        assert!(Mode::default().takes_cr4(0));
        assert!(
            long.takes_cr4(PAE | PCIDE) && !Mode::default().takes_cr4(PAE | PCIDE),
            "PCIDE needs long mode"
        );
        let with_pcid = Mode { cr3: 0x1008, ..long };
        assert!(!with_pcid.takes_cr4(PAE | PCIDE), "bits of CR3 would become a PCID");
        assert!(Mode { cr4: (PAE | PCIDE).into(), ..with_pcid }.takes_cr4(PAE | PCIDE | 1 << 6));
    }
}
