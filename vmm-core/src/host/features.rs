//! The features that the machine's CPUs have in common: a guest's virtual CPUs move between them,
//! and see no more.

use alloc::format;
use alloc::string::String;
use raw_cpuid::CpuIdResult;

/// A register of CPUID in which each bit is a feature (SDM volume 2, CPUID; APM volume 3,
/// appendix E).
struct Word {
    leaf: u32,
    subleaf: u32,
    register: Register,
    /// Bits that tell how the CPU is set, or are no feature.
    others: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl Register {
    const fn of(self, result: CpuIdResult) -> u32 {
        match self {
            Self::Eax => result.eax,
            Self::Ebx => result.ebx,
            Self::Ecx => result.ecx,
            Self::Edx => result.edx,
        }
    }

    const fn in_place(self, result: &mut CpuIdResult) -> &mut u32 {
        match self {
            Self::Eax => &mut result.eax,
            Self::Ebx => &mut result.ebx,
            Self::Ecx => &mut result.ecx,
            Self::Edx => &mut result.edx,
        }
    }
}

const fn word(leaf: u32, subleaf: u32, register: Register, others: u32) -> Word {
    Word { leaf, subleaf, register, others }
}

const OSXSAVE: u32 = 1 << 27;
const APIC: u32 = 1 << 9;
const OSPKE: u32 = 1 << 4;

const WORDS: [Word; 10] = [
    word(1, 0, Register::Ecx, OSXSAVE),
    word(1, 0, Register::Edx, APIC),
    word(7, 0, Register::Ebx, 0),
    word(7, 0, Register::Ecx, OSPKE),
    word(7, 0, Register::Edx, 0),
    word(7, 1, Register::Eax, 0),
    word(0xd, 1, Register::Eax, 0),
    word(0x8000_0001, 0, Register::Ecx, 0),
    word(0x8000_0001, 0, Register::Edx, APIC),
    word(0x8000_0008, 0, Register::Ebx, 0),
];

/// A CPU's features, or those that several have in common.
///
/// ```
/// use vmm_core::host::features::CpuFeatures;
/// # use raw_cpuid::CpuIdResult;
///
/// let all = |_, _| CpuIdResult { eax: 0x8000_0008, ebx: !0, ecx: !0, edx: !0 };
/// let no_avx = |leaf, _| {
///     let ecx = if leaf == 1 { !(1 << 28) } else { !0 };
///     CpuIdResult { eax: 0x8000_0008, ebx: !0, ecx, edx: !0 }
/// };
/// let (first, second) = (CpuFeatures::read(all), CpuFeatures::read(no_avx));
/// assert_eq!(second.differences(&first), Some("CPUID 1 Ecx lacks 10000000".into()));
/// let common = first.common(&second);
/// assert_eq!(common.limit(1, 0, all(1, 0)).ecx, !(1 << 28));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuFeatures {
    /// Family, model and stepping, as leaf 1 has them.
    signature: u32,
    words: [u32; WORDS.len()],
}

impl CpuFeatures {
    /// Those of the CPU whose CPUID `source` is.
    pub fn read(source: impl Fn(u32, u32) -> CpuIdResult) -> Self {
        let is_there = |leaf: u32| leaf <= source(leaf & 0x8000_0000, 0).eax;
        let read = |word: &Word| match is_there(word.leaf) {
            true => word.register.of(source(word.leaf, word.subleaf)) & !word.others,
            false => 0,
        };
        Self { signature: source(1, 0).eax, words: WORDS.each_ref().map(read) }
    }

    /// Those that this and another CPU have.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let words = core::array::from_fn(|index| self.words[index] & other.words[index]);
        Self { words, ..*self }
    }

    /// How it differs from the boot CPU, in words; `None` if it does not.
    pub fn differences(&self, boot: &Self) -> Option<String> {
        let mut parts = String::new();
        let mut add = |part: String| {
            parts += if parts.is_empty() { "" } else { ", " };
            parts += &part;
        };
        if self.signature != boot.signature {
            add(format!("CPUID 1 Eax is {:08x} and not {:08x}", self.signature, boot.signature));
        }
        for (index, word) in WORDS.iter().enumerate() {
            let (mine, its) = (self.words[index], boot.words[index]);
            let name = || format!("CPUID {:x} {:?}", word.leaf, word.register);
            if its & !mine != 0 {
                add(format!("{} lacks {:08x}", name(), its & !mine));
            }
            if mine & !its != 0 {
                add(format!("{} has {:08x} more", name(), mine & !its));
            }
        }
        (!parts.is_empty()).then_some(parts)
    }

    /// The answer `result` of CPUID without features that are not among these.
    pub fn limit(&self, leaf: u32, subleaf: u32, mut result: CpuIdResult) -> CpuIdResult {
        for (word, features) in WORDS.iter().zip(self.words) {
            if (word.leaf, word.subleaf) == (leaf, subleaf) {
                *word.register.in_place(&mut result) &= features | word.others;
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CPU with leaves up to 7, no extended ones, and `ebx` in leaf 7.
    fn cpu(signature: u32, ebx: u32) -> impl Fn(u32, u32) -> CpuIdResult {
        move |leaf, _| match leaf {
            0 => CpuIdResult { eax: 7, ebx: 0, ecx: 0, edx: 0 },
            1 => CpuIdResult { eax: signature, ebx: 0, ecx: OSXSAVE | 1, edx: APIC | 1 },
            7 => CpuIdResult { eax: 0, ebx, ecx: OSPKE, edx: 0 },
            // An answer to a leaf that is not there.
            _ => CpuIdResult { eax: 0, ebx: 0xdead, ecx: 0xdead, edx: 0xdead },
        }
    }

    #[test]
    fn alike_cpus_do_not_differ_however_they_are_set() {
        let boot = CpuFeatures::read(cpu(0x306c3, 5));
        assert_eq!(CpuFeatures::read(cpu(0x306c3, 5)).differences(&boot), None);
        let asleep = |leaf, subleaf| {
            let mut result = cpu(0x306c3, 5)(leaf, subleaf);
            result.ecx &= !(OSXSAVE | OSPKE);
            result
        };
        let asleep = CpuFeatures::read(|leaf, subleaf| match leaf {
            1 | 7 => asleep(leaf, subleaf),
            _ => cpu(0x306c3, 5)(leaf, subleaf),
        });
        assert_eq!(asleep.differences(&boot), None);
        assert_eq!(asleep.common(&boot).limit(1, 0, cpu(0x306c3, 5)(1, 0)).ecx, OSXSAVE | 1);
    }

    #[test]
    fn differences_are_named_and_not_offered() {
        let (boot, other) =
            (CpuFeatures::read(cpu(0x306c3, 5)), CpuFeatures::read(cpu(0x306c4, 6)));
        assert_eq!(
            other.differences(&boot).as_deref(),
            Some(
                "CPUID 1 Eax is 000306c4 and not 000306c3, CPUID 7 Ebx lacks 00000001, \
                 CPUID 7 Ebx has 00000002 more"
            )
        );
        let common = boot.common(&other);
        assert_eq!(common.limit(7, 0, cpu(0x306c3, 5)(7, 0)).ebx, 4);
        assert_eq!(common.limit(7, 1, cpu(0x306c3, 5)(7, 1)).ebx, 5, "another subleaf");
    }
}
