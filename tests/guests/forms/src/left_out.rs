//! The forms that are not compared, each with the reason.

use iced_x86::{Code, CpuidFeature, CpuidFeature::*};

use crate::layout::Mode;

const OTHER_VENDOR: &str = "on processors of Cyrix, VIA or Intel's Itanium only";
const OLD: &str = "on single old processors only, which run no 64-bit code";
const KNIGHTS_CORNER: &str = "on Knights Corner only";
const HIDDEN: &str = "of a feature that a guest's CPUID never shows: #UD, whatever the operand";
const VIRTUALIZATION: &str =
    "of virtualization, which a guest does not have: #UD, whatever the operand";

/// Why a form is left out in code of that size, if it is.
pub fn reason(code: Code, mode: Mode) -> Option<&'static str> {
    code.cpuid_features()
        .iter()
        .find_map(|&feature| of_feature(feature))
        .or_else(|| of_code(code, mode))
}

fn of_feature(feature: CpuidFeature) -> Option<&'static str> {
    Some(match feature {
        KNC => KNIGHTS_CORNER,
        CYRIX_D3NOW | CYRIX_EMMI | CYRIX_SHR | CYRIX_SMM | PADLOCK_ACE | PADLOCK_GMI
        | PADLOCK_PHE | PADLOCK_PMM | PADLOCK_RNG | IA64 => OTHER_VENDOR,
        INTEL386_A0_ONLY | INTEL486_A_ONLY | INTEL8086_ONLY | UMOV => OLD,
        VMX | INVEPT | INVVPID | SEV_SNP => VIRTUALIZATION,
        AESKLE | WIDE_KL | AMX_TILE | CET_SS | ENQCMD | FRED | LKGS | LWP | MPX | MSRLIST
        | PTWRITE | TSE | UINTR | WAITPKG => HIDDEN,
        _ => return None,
    })
}

fn of_code(code: Code, mode: Mode) -> Option<&'static str> {
    use Code::*;
    // The target is 16 bits wide on AMD's processors, and the prefix has no effect on Intel's.
    const BRANCH_SIZE: &str =
        "a near branch of 16 bits in 64-bit code: Intel's processors have none";
    const UNDEFINED: &str = "#UD by definition";
    const SHORT_ADDRESS: &str = "with addresses of 16 bits in 32-bit code, which do not reach a device (but do in 16-bit code)";
    match code {
        Call_rm16 | Call_rel16 | Retnw | Retnw_imm16 | Jmp_rm16 if mode == Mode::Bits64 => {
            Some(BRANCH_SIZE)
        }
        Movdir64b_r16_m512 if mode == Mode::Bits32 => Some(SHORT_ADDRESS),
        Ud0_r16_rm16 | Ud0_r32_rm32 | Ud0_r64_rm64 | Ud1_r16_rm16 | Ud1_r32_rm32 | Ud1_r64_rm64 => {
            Some(UNDEFINED)
        }
        _ => None,
    }
}
