//! The processor underneath, as far as its name goes.

use raw_cpuid::CpuIdResult;

/// CPUID of the processor underneath, or of a test.
pub type CpuidSource = fn(leaf: u32, subleaf: u32) -> CpuIdResult;

/// Whose processor it is, which decides what model-specific registers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// AMD, and Hygon, whose processors are AMD's.
    Amd,
    /// Intel, and all others with VT-x.
    Intel,
}

/// The processor that CPUID shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Its vendor.
    pub vendor: Vendor,
    /// Its family, the extended part added.
    pub family: u32,
}

impl Processor {
    /// From CPUID leaf 0, and EAX of leaf 1.
    pub(crate) fn new(name: CpuIdResult, signature: u32) -> Self {
        let name = [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes);
        let vendor = match name.as_flattened() {
            b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
            _ => Vendor::Intel,
        };
        let family = match signature >> 8 & 0xf {
            0xf => 0xf + (signature >> 20 & 0xff),
            family => family,
        };
        Self { vendor, family }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_told_by_name_and_signature() {
        let processor = |name: &[u8; 12], signature| {
            let word =
                |at| u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
            Processor::new(
                CpuIdResult { eax: 1, ebx: word(0), ecx: word(8), edx: word(4) },
                signature,
            )
        };
        let amd = |family| Processor { vendor: Vendor::Amd, family };
        let intel = |family| Processor { vendor: Vendor::Intel, family };
        // Haswell, Pentium 4, Athlon 64, Ryzen, Dhyana.
        assert_eq!(processor(b"GenuineIntel", 0x306c3), intel(6));
        assert_eq!(processor(b"GenuineIntel", 0xf43), intel(0xf));
        assert_eq!(processor(b"AuthenticAMD", 0x60fb1), amd(0xf));
        assert_eq!(processor(b"AuthenticAMD", 0x810f10), amd(0x17));
        assert_eq!(processor(b"HygonGenuine", 0x900f02), amd(0x18));
    }
}
