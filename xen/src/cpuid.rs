//! The leaves of CPUID by which a guest finds Xen (arch-x86/cpuid.h).

/// The version whose interface this is: 4.17.
pub const VERSION: u32 = 4 << 16 | 17;
/// The first leaf.
pub const BASE: u32 = 0x4000_0000;
/// The last leaf.
pub const LAST: u32 = BASE + 5;
/// "XenVMMXenVMM", in the order of EBX, ECX and EDX.
const SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];
/// The MSR by whose writes a page of hypercalls is filled.
pub const HYPERCALL_MSR: u32 = 0x4000_0000;

/// Leaf 4: mappings of grants are good for DMA.
const IOMMU_MAPPINGS: u32 = 1 << 2;
/// EBX has the virtual CPU's number.
const VCPU_ID: u32 = 1 << 3;
/// ECX has the domain's.
const DOMAIN_ID: u32 = 1 << 4;
/// Each virtual CPU can have a vector of its own for events.
const UPCALL_VECTOR: u32 = 1 << 6;
/// `tsc_mode`: the time stamp counter is the processor's.
const TSC_NATIVE: u32 = 2;
/// It keeps its rate.
const TSC_RELIABLE: u32 = 1 << 1;
const RDTSCP: u32 = 1 << 2;

/// The facts that the leaves tell.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The virtual CPU that asks.
    pub vcpu: u32,
    /// The guest's number.
    pub domain: u32,
    /// Rate of the time stamp counter.
    pub tsc_khz: u32,
    /// The guest has RDTSCP.
    pub rdtscp: bool,
    /// Nanoseconds a tick, with 32 fractional bits.
    pub ns_per_tick_q32: u64,
}

/// EAX, EBX, ECX and EDX of a leaf from [`BASE`] to [`LAST`]; zeroes for one that has nothing.
pub const fn leaf(number: u32, subleaf: u32, facts: &Facts) -> [u32; 4] {
    match (number.wrapping_sub(BASE), subleaf) {
        (0, _) => [LAST, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]],
        (1, _) => [VERSION, 0, 0, 0],
        // One page of hypercalls.
        (2, _) => [1, HYPERCALL_MSR, 0, 0],
        (3, 0) => {
            let flags = TSC_RELIABLE | if facts.rdtscp { RDTSCP } else { 0 };
            [flags, TSC_NATIVE, facts.tsc_khz, 0]
        }
        (3, 1) => {
            let scale = crate::time::TimeScale {
                zero_tsc: 0,
                ns_per_tick_q32: facts.ns_per_tick_q32,
                stable: true,
            };
            let info = scale.info(0);
            [0, 0, info.tsc_to_system_mul.get(), info.tsc_shift as u32]
        }
        (3, 2) => [facts.tsc_khz, 0, 0, 0],
        (4, 0) => {
            [IOMMU_MAPPINGS | VCPU_ID | DOMAIN_ID | UPCALL_VECTOR, facts.vcpu, facts.domain, 0]
        }
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_finds_xen_by_the_signature() {
        let facts = Facts {
            vcpu: 3,
            domain: 7,
            tsc_khz: 2_000_000,
            rdtscp: true,
            ns_per_tick_q32: 1 << 31,
        };
        let text: Vec<u8> =
            leaf(BASE, 0, &facts)[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(text, b"XenVMMXenVMM");
        assert_eq!(leaf(BASE + 1, 0, &facts)[0], 0x0004_0011);
        assert_eq!(leaf(BASE + 4, 0, &facts), [0x5c, 3, 7, 0]);
        assert_eq!(leaf(BASE + 4, 1, &facts), [0; 4]);
        assert_eq!(leaf(BASE + 6, 0, &facts), [0; 4]);
    }
}
