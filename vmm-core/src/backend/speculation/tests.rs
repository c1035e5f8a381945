//! The decision for processors of both vendors, by the CPUID and IA32_ARCH_CAPABILITIES that they
//! have.

use super::{Defences, GuestSpeculation, LastGuest, Means, ReturnStack, spec_ctrl};
use crate::host::owner::GuestId;
use crate::host::processor::CpuidSource;
use config::CommandLine;
use config::command_line::SpecCtrl;
use raw_cpuid::CpuIdResult;

const INTEL: [u32; 3] = [0x756e_6547, 0x6c65_746e, 0x4965_6e69];
const AMD: [u32; 3] = [0x6874_7541, 0x444d_4163, 0x6974_6e65];

/// EAX, EBX, ECX, EDX.
const fn result([eax, ebx, ecx, edx]: [u32; 4]) -> CpuIdResult {
    CpuIdResult { eax, ebx, ecx, edx }
}

/// CPUID of a processor by its name, signature, and the leaves that matter.
macro_rules! cpuid {
    ($name:ident, $signature:expr $(, $leaf:pat => $result:expr)*) => {
        |leaf, subleaf| match (leaf, subleaf) {
            (0, _) => result([0x1f, $name[0], $name[1], $name[2]]),
            (1, _) => result([$signature, 0, 0, 0]),
            (0x8000_0000, _) => result([0x8000_0026, 0, 0, 0]),
            $($leaf => result($result),)*
            _ => result([0; 4]),
        }
    };
}

const HASWELL: CpuidSource = cpuid!(INTEL, 0x306c3, (7, 0) => [0, 0x2fbb, 0, 0x9c00_0400]);
/// With transactions, and the microcode that lets VERW overwrite buffers.
const CASCADE_LAKE: CpuidSource =
    cpuid!(INTEL, 0x50657, (7, 0) => [0, 0xd39f_fffb, 0x808, 0xbc00_0400]);
const CASCADE_LAKE_ARCH: u64 = 0xab;
/// Ice Lake, Alder Lake: branch history control.
const ALDER_LAKE: CpuidSource = cpuid!(
    INTEL, 0x90672, (7, 0) => [2, 0x239c_27eb, 0, 0xfc18_c410], (7, 2) => [0, 0, 0, 0x1f]
);
const ALDER_LAKE_ARCH: u64 = 0x1e00_fd6b;
/// Zen 2, Zen 3, Zen 4 and Zen 5: EBX of 8000_0008h, EAX of 8000_0021h.
const ZEN_2: CpuidSource = cpuid!(AMD, 0x830f10, (0x8000_0008, _) => [0x3030, 0x010e_d205, 0, 0]);
const ZEN_3: CpuidSource = cpuid!(
    AMD, 0xa20f10,
    (0x8000_0008, _) => [0x3030, 0x310f_f205, 0, 0],
    (0x8000_0021, _) => [0x1000_004d, 0, 0, 0]
);
const ZEN_4: CpuidSource = cpuid!(
    AMD, 0xa10f11,
    (0x8000_0008, _) => [0x3034, 0x710e_f205, 0, 0],
    (0x8000_0021, _) => [0x1100_016d, 0, 0, 0]
);
const ZEN_5: CpuidSource = cpuid!(
    AMD, 0xb00f21,
    (0x8000_0008, _) => [0x3034, 0x710e_f205, 0, 0],
    (0x8000_0021, _) => [0xd100_016d, 0, 6, 0]
);
/// Without any means.
const OLD: CpuidSource = cpuid!(AMD, 0x60fb1);

fn defences(cpuid: CpuidSource, arch: u64, choices: &str) -> Defences {
    let (options, warnings) = CommandLine::parse(&format!("spec-ctrl={choices}"));
    assert_eq!(warnings, [""; 0]);
    let read = || {
        assert_ne!(cpuid(7, 0).edx & 1 << 29, 0, "the register is there");
        arch
    };
    Defences::new(&Means::new(cpuid, read), &options.spec_ctrl)
}

#[test]
fn nothing_is_done_that_the_processor_cannot() {
    let all = "ibrs,ibpb,ibpb-entry,stibp,ssbd,psfd,bhi-dis-s,l1d-flush,verw";
    for choices in ["yes", all] {
        let old = defences(OLD, 0, choices);
        let expected = Defences {
            return_stack: ReturnStack::All,
            clears_registers: true,
            ..Defences::default()
        };
        assert_eq!(old, expected);
        assert_eq!(old.to_string(), "return stack filled, registers cleared; guests: none");
    }
}

#[test]
fn nothing_is_done_if_nothing_is_wanted() {
    let all = [
        (HASWELL, 0),
        (CASCADE_LAKE, CASCADE_LAKE_ARCH),
        (ALDER_LAKE, ALDER_LAKE_ARCH),
        (ZEN_2, 0),
        (ZEN_3, 0),
        (ZEN_4, 0),
        (ZEN_5, 0),
        (OLD, 0),
    ];
    for (cpuid, arch) in all {
        let none = defences(cpuid, arch, "no");
        assert_eq!(none, Defences::default());
        assert!(!none.is_guarded() && !none.switches_control(0));
        assert_eq!(none.to_string(), "no defences; guests: none");
        // The guests keep theirs.
        let own = defences(cpuid, arch, "no-xen");
        let guest = defences(cpuid, arch, "yes").guest;
        let has_control = guest.control != 0;
        assert_eq!(own, Defences { has_control, guest, ..Defences::default() });
        // And the other way round.
        let guests = defences(cpuid, arch, "no-msr-sc");
        assert_eq!(guests.guest, GuestSpeculation::default());
        assert!(guests.is_guarded() && guests.clears_registers);
    }
}

#[test]
fn a_choice_holds_whatever_else_is_said() {
    let rsb = defences(HASWELL, 0, "no,rsb,verw");
    let expected = Defences { return_stack: ReturnStack::All, verw: true, ..Defences::default() };
    assert_eq!(rsb, expected);
    assert!(rsb.is_guarded());
    let less = defences(HASWELL, 0, "no-ibrs,no-ibpb,no-rsb,no-l1d-flush");
    assert_eq!((less.host_control, less.return_stack), (0, ReturnStack::Kept));
    assert!(!less.guest_barrier && !less.l1d_flush);
    assert!(less.verw, "the cache is not emptied");
}

#[test]
fn a_processor_before_enhanced_ibrs_restricts_branches_anew_at_each_exit() {
    let haswell = defences(HASWELL, 0, "yes");
    assert_eq!(haswell.host_control, spec_ctrl::IBRS);
    assert!(haswell.renews_control && haswell.switches_control(spec_ctrl::IBRS));
    assert_eq!(haswell.return_stack, ReturnStack::All);
    assert!(haswell.guest_barrier && !haswell.exit_barrier);
    assert!(haswell.l1d_flush && !haswell.verw, "the flush overwrites the buffers");
    assert_eq!(
        haswell.to_string(),
        "IBRS, IBPB between guests, return stack filled, L1D flush, registers cleared; guests: \
         IBRS, SSBD, IBPB, L1D flush, VERW"
    );
}

#[test]
fn one_with_enhanced_ibrs_writes_the_register_only_where_values_differ() {
    let alder_lake = defences(ALDER_LAKE, ALDER_LAKE_ARCH, "yes");
    let control = spec_ctrl::IBRS | spec_ctrl::BHI_DIS_S;
    assert_eq!((alder_lake.host_control, alder_lake.kept_control), (control, 0));
    assert!(alder_lake.switches_control(spec_ctrl::IBRS), "BHI_DIS_S is not the guest's");
    let plain = defences(ALDER_LAKE, ALDER_LAKE_ARCH, "no-bhi-dis-s");
    assert!(!plain.switches_control(spec_ctrl::IBRS));
    assert!(plain.switches_control(0) && plain.switches_control(spec_ctrl::IBRS | spec_ctrl::SSBD));
    assert_eq!(plain.return_stack, ReturnStack::Last);
    let fixed = defences(ALDER_LAKE, ALDER_LAKE_ARCH | 1 << 24, "yes");
    assert_eq!(fixed.return_stack, ReturnStack::Kept);
    assert!(!alder_lake.l1d_flush && !alder_lake.verw);
    assert!(defences(ALDER_LAKE, ALDER_LAKE_ARCH, "verw").verw);
}

/// Each of the weaknesses that VERW helps against, and the bit that denies it.
#[test]
fn buffers_are_overwritten_where_they_leak() {
    const MDS_NO: u64 = 1 << 5;
    const TAA_NO: u64 = 1 << 8;
    const MMIO_NO: u64 = 0b111 << 13;
    const FB_CLEAR: u64 = 1 << 17;
    const RFDS_NO: u64 = 1 << 27;
    const RFDS_CLEAR: u64 = 1 << 28;
    let verw = |cpuid, arch| defences(cpuid, arch | 1, "yes").verw;
    assert!(verw(ALDER_LAKE, 0), "MDS");
    assert!(!verw(ALDER_LAKE, MDS_NO));
    assert!(verw(CASCADE_LAKE, MDS_NO), "TAA, although CPUID hides transactions from guests");
    assert!(!verw(CASCADE_LAKE, MDS_NO | TAA_NO));
    assert!(verw(ALDER_LAKE, MDS_NO | FB_CLEAR), "stale data of MMIO");
    assert!(!verw(ALDER_LAKE, MDS_NO | FB_CLEAR | MMIO_NO));
    assert!(verw(ALDER_LAKE, MDS_NO | RFDS_CLEAR));
    assert!(!verw(ALDER_LAKE, MDS_NO | RFDS_CLEAR | RFDS_NO));
    assert!(verw(ZEN_4, 0), "TSA");
    assert!(!verw(ZEN_5, 0));
}

#[test]
fn returns_of_amds_processors_have_a_barrier_until_the_processor_guards_them() {
    let of = |cpuid| defences(cpuid, 0, "yes");
    assert!(of(ZEN_2).exit_barrier && of(ZEN_3).exit_barrier && of(ZEN_4).exit_barrier);
    assert!(!of(ZEN_5).exit_barrier && of(ZEN_5).reduced_speculation);
    assert!(!of(ZEN_4).reduced_speculation);
    assert!(!defences(ZEN_2, 0, "no-ibpb-entry").exit_barrier);
    assert!(of(ZEN_2).serializing_lfence && !of(ZEN_3).serializing_lfence);
}

#[test]
fn automatic_ibrs_needs_neither_the_register_nor_a_filled_return_stack() {
    let zen_4 = defences(ZEN_4, 0, "no-stibp");
    assert!(zen_4.automatic_ibrs && !zen_4.renews_control);
    assert_eq!((zen_4.host_control, zen_4.return_stack), (0, ReturnStack::Kept));
    assert!(zen_4.has_control, "guests use it");
    let off = defences(ZEN_4, 0, "no-ibrs");
    assert!(!off.automatic_ibrs);
    assert_eq!(off.return_stack, ReturnStack::All);
}

/// STIBP where the processor asks for it, or the user: it stays on while guests run.
#[test]
fn what_is_better_left_on_is() {
    let zen_3 = defences(ZEN_3, 0, "yes");
    let both = spec_ctrl::IBRS | spec_ctrl::STIBP;
    assert_eq!((zen_3.host_control, zen_3.kept_control), (both, both));
    assert_eq!(zen_3.guest_control(spec_ctrl::SSBD), both | spec_ctrl::SSBD);
    assert!(!zen_3.renews_control && !zen_3.switches_control(0));
    let haswell = defences(HASWELL, 0, "stibp");
    assert_eq!((haswell.host_control, haswell.kept_control), (both, spec_ctrl::STIBP));
    assert_eq!(defences(HASWELL, 0, "ssbd").host_control, spec_ctrl::IBRS | spec_ctrl::SSBD);
}

#[test]
fn guests_have_what_needs_no_other_register() {
    let alder_lake = defences(ALDER_LAKE, u64::MAX, "yes").guest;
    assert_eq!(alder_lake.leaf_7_edx, 0xbc00_0400);
    assert_eq!(alder_lake.control, 7);
    assert_eq!(alder_lake.arch_capabilities & (1 << 7 | 1 << 10 | 1 << 18 | 1 << 25), 0);
    assert_ne!(alder_lake.arch_capabilities & 1 << 5, 0, "MDS_NO");
    assert!(alder_lake.has_pred_cmd() && alder_lake.has_flush_cmd());
    let zen_3 = defences(ZEN_3, 0, "yes").guest;
    assert_eq!((zen_3.leaf_7_edx, zen_3.leaf_8_ebx), (0, 0x310f_d000));
    assert_eq!(zen_3.control, 0x87);
    assert!(zen_3.has_pred_cmd() && !zen_3.has_flush_cmd() && !zen_3.has_arch_capabilities());
}

#[test]
fn registers_without_a_cpuid_bit_are_left_to_a_hypervisor_underneath() {
    let virtual_zen_2: CpuidSource = |leaf, subleaf| match leaf {
        1 => CpuIdResult { ecx: 1 << 31, ..ZEN_2(leaf, subleaf) },
        _ => ZEN_2(leaf, subleaf),
    };
    assert!(!defences(virtual_zen_2, 0, "yes").serializing_lfence);
}

#[test]
fn a_processor_with_few_leaves_is_no_trouble() {
    let nothing: CpuidSource = |_, _| result([0; 4]);
    let means = Means::new(nothing, || unreachable!());
    let defences = Defences::new(&means, &SpecCtrl::default());
    assert_eq!(defences.guest, GuestSpeculation::default());
}

#[test]
fn a_cpu_knows_when_it_goes_to_another_guest() {
    let (last, [one, other]) = (LastGuest::default(), [GuestId::next(), GuestId::next()]);
    let turns = [one, one, other, one, one, other].map(|guest| last.turn_to(guest));
    assert_eq!(turns, [true, false, true, true, false, true]);
}
