//! Where CPUID says that a processor has a feature.

use iced_x86::CpuidFeature::{self, *};

/// A bit of CPUID: leaf, subleaf, register (0 is EAX), number.
pub type Bit = (u32, u32, u8, u8);

const EAX: u8 = 0;
const EBX: u8 = 1;
const ECX: u8 = 2;
const EDX: u8 = 3;

/// The bit of a feature; no bit for what every processor has that runs 64-bit code.
///
/// Intel SDM volume 2, CPUID; APM volume 3, appendix E.
pub fn bit(feature: CpuidFeature) -> Result<Option<Bit>, String> {
    let leaf1 = |register, bit| (1, 0, register, bit);
    let leaf7 = |register, bit| (7, 0, register, bit);
    let leaf7_1 = |register, bit| (7, 1, register, bit);
    let extended = |register, bit| (0x8000_0001, 0, register, bit);
    Ok(Some(match feature {
        INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | X64 | FPU | FPU387
        | MULTIBYTENOP => {
            return Ok(None);
        }
        CX8 => leaf1(EDX, 8),
        CMOV => leaf1(EDX, 15),
        CLFSH => leaf1(EDX, 19),
        MMX => leaf1(EDX, 23),
        FXSR => leaf1(EDX, 24),
        SSE => leaf1(EDX, 25),
        SSE2 => leaf1(EDX, 26),
        SSE3 => leaf1(ECX, 0),
        PCLMULQDQ => leaf1(ECX, 1),
        SSSE3 => leaf1(ECX, 9),
        FMA => leaf1(ECX, 12),
        CMPXCHG16B => leaf1(ECX, 13),
        SSE4_1 => leaf1(ECX, 19),
        SSE4_2 => leaf1(ECX, 20),
        MOVBE => leaf1(ECX, 22),
        POPCNT => leaf1(ECX, 23),
        AES => leaf1(ECX, 25),
        XSAVE => leaf1(ECX, 26),
        AVX => leaf1(ECX, 28),
        F16C => leaf1(ECX, 29),
        BMI1 => leaf7(EBX, 3),
        AVX2 => leaf7(EBX, 5),
        BMI2 => leaf7(EBX, 8),
        INVPCID => leaf7(EBX, 10),
        AVX512F => leaf7(EBX, 16),
        AVX512DQ => leaf7(EBX, 17),
        ADX => leaf7(EBX, 19),
        AVX512_IFMA => leaf7(EBX, 21),
        CLFLUSHOPT => leaf7(EBX, 23),
        CLWB => leaf7(EBX, 24),
        AVX512PF => leaf7(EBX, 26),
        AVX512ER => leaf7(EBX, 27),
        AVX512CD => leaf7(EBX, 28),
        SHA => leaf7(EBX, 29),
        AVX512BW => leaf7(EBX, 30),
        AVX512VL => leaf7(EBX, 31),
        PREFETCHWT1 => leaf7(ECX, 0),
        AVX512_VBMI => leaf7(ECX, 1),
        AVX512_VBMI2 => leaf7(ECX, 6),
        GFNI => leaf7(ECX, 8),
        VAES => leaf7(ECX, 9),
        VPCLMULQDQ => leaf7(ECX, 10),
        AVX512_VNNI => leaf7(ECX, 11),
        AVX512_BITALG => leaf7(ECX, 12),
        AVX512_VPOPCNTDQ => leaf7(ECX, 14),
        CLDEMOTE => leaf7(ECX, 25),
        MOVDIRI => leaf7(ECX, 27),
        MOVDIR64B => leaf7(ECX, 28),
        AVX512_4VNNIW => leaf7(EDX, 2),
        AVX512_4FMAPS => leaf7(EDX, 3),
        AVX512_VP2INTERSECT => leaf7(EDX, 8),
        AVX512_FP16 => leaf7(EDX, 23),
        SM3 => leaf7_1(EAX, 1),
        SM4 => leaf7_1(EAX, 2),
        RAO_INT => leaf7_1(EAX, 3),
        AVX_VNNI => leaf7_1(EAX, 4),
        AVX512_BF16 => leaf7_1(EAX, 5),
        CMPCCXADD => leaf7_1(EAX, 7),
        AVX_IFMA => leaf7_1(EAX, 23),
        AVX_VNNI_INT8 => leaf7_1(EDX, 4),
        AVX_NE_CONVERT => leaf7_1(EDX, 5),
        AVX_VNNI_INT16 => leaf7_1(EDX, 10),
        PREFETCHITI => leaf7_1(EDX, 14),
        XSAVEOPT => (0xd, 1, EAX, 0),
        XSAVEC => (0xd, 1, EAX, 1),
        XSAVES => (0xd, 1, EAX, 3),
        LZCNT => extended(ECX, 5),
        SSE4A => extended(ECX, 6),
        PREFETCHW => extended(ECX, 8),
        XOP => extended(ECX, 11),
        FMA4 => extended(ECX, 16),
        TBM => extended(ECX, 21),
        D3NOWEXT => extended(EDX, 30),
        D3NOW => extended(EDX, 31),
        other => return Err(format!("no bit for {other:?}")),
    }))
}
