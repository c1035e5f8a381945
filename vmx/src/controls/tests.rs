//! Capability values of real processors, as published in public register dumps.

use super::*;
use crate::spec::msr;
use std::string::ToString;
use std::vec::Vec;

const PRIMARY_BASE: u64 = 0xfff9_fffe_0401_e172;
const PRIMARY_TRUE: u64 = 0xfff9_fffe_0400_6172;
const PIN: u64 = 0x7f_0000_0016;
const PIN_POSTED: u64 = 0xff_0000_0016;
const EXIT: u64 = 0x7f_ffff_0003_6dfb;
const EXIT_BOCHS: u64 = 0x407f_ffff_0003_6dfb;
const ENTRY_BASE: u64 = 0xffff_0000_11ff;
const ENTRY_TRUE: u64 = 0xffff_0000_11fb;

/// A processor's capability MSRs; those that are not here are the same from Westmere to Skylake.
pub struct Model {
    pub name: &'static str,
    basic: u64,
    pin: u64,
    secondary: u64,
    exit: u64,
    ept_vpid: u64,
}

const fn model(name: &'static str, basic: u64, secondary: u64, ept_vpid: u64) -> Model {
    Model { name, basic, pin: PIN, secondary, exit: EXIT, ept_vpid }
}

/// As Bochs 3.0 has it, read by the image itself (`loglvl=debug` prints the capabilities).
const fn bochs(name: &'static str, pin: u64, secondary: u64, ept_vpid: u64) -> Model {
    Model { name, basic: 0x00d8_1000_0000_002b, pin, secondary, exit: EXIT_BOCHS, ept_vpid }
}

const MODELS: [Model; 10] = [
    model("Core i7-2635QM (Sandy Bridge)", 0x00da_0400_0000_0010, 0xff_0000_0000, 0xf01_0611_4141),
    model(
        "Core i7-3960X (Sandy Bridge-E)",
        0x00da_0400_0000_0010,
        0x4ff_0000_0000,
        0xf01_0613_4141,
    ),
    model("Core i5-3570 (Ivy Bridge)", 0x00da_0400_0000_0010, 0x8ff_0000_0000, 0xf01_0611_4141),
    model(
        "Core i7-5600U (Broadwell)",
        0x00da_0400_0000_0012,
        0x0005_7cff_0000_0000,
        0xf01_0633_4141,
    ),
    model("Pentium N3530 (Silvermont)", 0x00da_0400_0000_0002, 0x28ef_0000_0000, 0xf01_0611_4141),
    bochs("Bochs corei5_arrandale_m520", PIN, 0xff_0000_0000, 0xf01_0611_4141),
    bochs("Bochs corei7_sandy_bridge_2600k", PIN, 0xef_0000_0000, 0xf01_0611_4141),
    bochs("Bochs corei7_haswell_4770", PIN, 0x0004_7fff_0000_0000, 0xf01_0633_4141),
    bochs("Bochs corei7_skylake_x", PIN_POSTED, 0x0257_7fff_0000_0000, 0xf01_0673_4141),
    bochs("Bochs corei7_icelake_u", PIN_POSTED, 0x02d7_7fff_0000_0000, 0xf01_0673_4141),
];

/// The capabilities of one of [`MODELS`].
pub fn processor(name: &str) -> Capabilities {
    capabilities(
        MODELS.iter().find(|model| model.name.starts_with(name)).expect("a processor of the table"),
    )
}

fn capabilities(model: &Model) -> Capabilities {
    Capabilities::from(|index| match index {
        msr::VMX_BASIC => model.basic,
        msr::VMX_PIN | msr::VMX_TRUE_PIN => model.pin,
        msr::VMX_PRIMARY => PRIMARY_BASE,
        msr::VMX_TRUE_PRIMARY => PRIMARY_TRUE,
        msr::VMX_SECONDARY => model.secondary,
        msr::VMX_EPT_VPID => model.ept_vpid,
        msr::VMX_EXIT | msr::VMX_TRUE_EXIT => model.exit,
        msr::VMX_ENTRY => ENTRY_BASE,
        msr::VMX_TRUE_ENTRY => ENTRY_TRUE,
        msr::VMX_MISC => 0x3004_81e5,
        msr::VMX_CR0_FIXED0 => 0x8000_0021,
        msr::VMX_CR0_FIXED1 => 0xffff_ffff,
        msr::VMX_CR4_FIXED0 => 0x2000,
        msr::VMX_CR4_FIXED1 => 0x37_67ff,
        _ => panic!("MSR {index:#x} need not exist"),
    })
}

/// A 45 nm Core 2 (VMCS revision 0Dh): no TRUE MSRs, no EPT.
fn core_2() -> Capabilities {
    Capabilities::from(|index| match index {
        msr::VMX_BASIC => 0x005a_0800_0000_000d,
        msr::VMX_PIN => 0x3f_0000_0016,
        msr::VMX_PRIMARY => 0xf7f9_fffe_0401_e172,
        msr::VMX_SECONDARY => 0x41_0000_0000,
        msr::VMX_EXIT => 0x3_ffff_0003_6dff,
        msr::VMX_ENTRY => 0x3fff_0000_11ff,
        msr::VMX_MISC => 0x4_03c0,
        msr::VMX_CR0_FIXED0 => 0x8000_0021,
        msr::VMX_CR0_FIXED1 => 0xffff_ffff,
        msr::VMX_CR4_FIXED0 => 0x2000,
        msr::VMX_CR4_FIXED1 => 0x27ff,
        _ => panic!("MSR {index:#x} does not exist on this processor"),
    })
}

fn assert_allowed(name: &str, value: u32, capability: u64) {
    let (must, may) = (capability as u32, (capability >> 32) as u32);
    assert_eq!(value & must, must, "{name}: {value:#x} lacks bits of {must:#x}");
    assert_eq!(value & !may, 0, "{name}: {value:#x} has bits outside {may:#x}");
}

const INTERFACES: [Interface; 3] =
    [Interface::None, Interface::Memory(0xfee0_0000), Interface::Msrs];

#[test]
fn every_word_is_what_the_processor_allows() {
    for model in &MODELS {
        let (name, capabilities) = (model.name, capabilities(model));
        let controls =
            Controls::new(&capabilities).unwrap_or_else(|missing| panic!("{name}: {missing:?}"));
        assert_allowed(name, controls.pin.bits(), capabilities.pin);
        assert_allowed(name, controls.primary.bits(), capabilities.primary);
        assert!(controls.has_monitor_trap() && controls.may_watch_debug_registers(), "{name}");
        assert!(controls.may_watch_descriptors(), "{name}");
        assert!(!controls.secondary.contains(SecondaryControls::DESCRIPTOR_TABLES), "{name}");
        assert!(
            !controls.primary.intersects(PrimaryControls::MONITOR_TRAP | PrimaryControls::MOV_DR),
            "{name}"
        );
        assert_allowed(
            name,
            (controls.primary | controls.primary_at_times).bits(),
            capabilities.primary,
        );
        for interface in INTERFACES {
            let secondary = controls.secondary | controls.apic_interface(interface);
            assert_allowed(name, secondary.bits(), capabilities.secondary);
        }
        assert_allowed(name, controls.exit.bits(), capabilities.exit);
        assert_allowed(name, controls.entry.bits(), capabilities.entry);
        assert!(
            controls.has_tpr_shadow() && controls.has_vpid() && controls.has_preemption_timer(),
            "{name}"
        );
        assert!(
            !controls.primary.intersects(PrimaryControls::CR3_LOAD | PrimaryControls::CR8_LOAD),
            "{name}"
        );
        let emulated = controls.with_emulated_apic();
        assert_allowed(name, emulated.pin.bits(), capabilities.pin);
        assert_allowed(name, emulated.exit.bits(), capabilities.exit);
    }
}

/// The options that each model offers beyond those of all.
#[test]
fn options_are_used_where_they_are_there() {
    use SecondaryControls as S;
    let in_hardware = S::APIC_REGISTERS | S::VIRTUAL_INTERRUPTS;
    let new = in_hardware | S::XSAVES | S::PAGE_LOG;
    let options = new | S::APIC_ACCESSES | S::X2APIC | S::RDTSCP | S::INVPCID | S::PAUSE_LOOP;
    let old = S::RDTSCP | S::APIC_ACCESSES | S::X2APIC;
    let expected = [
        old,
        old | S::PAUSE_LOOP,
        old,
        old | S::PAUSE_LOOP | S::INVPCID,
        S::RDTSCP | S::APIC_ACCESSES,
        old,
        S::RDTSCP | S::APIC_ACCESSES,
        old | S::PAUSE_LOOP | S::INVPCID | in_hardware,
        old | S::PAUSE_LOOP | S::INVPCID | new,
        old | S::PAUSE_LOOP | S::INVPCID | new,
    ];
    for (model, expected) in MODELS.iter().zip(expected) {
        let controls = Controls::new(&capabilities(model)).unwrap();
        let used = controls.secondary | controls.secondary_at_times;
        assert_eq!(used & options, expected, "{}", model.name);
        assert_eq!(controls.withheld().invpcid, !expected.contains(S::INVPCID), "{}", model.name);
        assert_eq!(controls.withheld().xsaves, !expected.contains(S::XSAVES), "{}", model.name);
        assert_eq!(controls.has_page_log(), expected.contains(S::PAGE_LOG), "{}", model.name);
        assert_eq!(controls.has_posted_interrupts(), model.pin == PIN_POSTED, "{}", model.name);
    }
}

#[test]
fn the_local_apics_interface_chooses_between_two_controls_that_exclude_each_other() {
    let controls = Controls::new(&processor("Bochs corei7_haswell")).unwrap();
    let chosen = INTERFACES.map(|interface| controls.apic_interface(interface));
    assert_eq!(
        chosen,
        [SecondaryControls::empty(), SecondaryControls::APIC_ACCESSES, SecondaryControls::X2APIC]
    );
}

#[test]
fn what_is_missing_names_itself() {
    let missing = |capabilities| Controls::new(&capabilities).unwrap_err().0.to_string();
    // Without the TRUE MSRs exits at MOV CR3 cannot be switched off.
    assert!(missing(core_2()).contains("without exits at MOV to CR3"));
    let good = processor("Core i5-3570");
    let nehalem = Capabilities { secondary: 0x6f_0000_0000, ..good };
    assert!(missing(nehalem).contains("unrestricted guest"));
    let no_ept = Capabilities { secondary: 0x1_0000_0000, ..good };
    assert!(missing(no_ept).contains("extended page tables"));
    let uncached = Capabilities { ept_vpid: good.ept_vpid.with_write_back_tables(false), ..good };
    assert!(missing(uncached).contains("write-back"));
}

#[test]
fn every_requirement_is_checked_one_by_one() {
    let good = processor("Core i7-5600U");
    let mut lost = Vec::new();
    for bit in 32..64 {
        let without = |value: u64| value & !(1 << bit);
        for changed in [
            Capabilities { pin: without(good.pin), ..good },
            Capabilities { primary: without(good.primary), ..good },
            Capabilities { secondary: without(good.secondary), ..good },
            Capabilities { exit: without(good.exit), ..good },
            Capabilities { entry: without(good.entry), ..good },
        ] {
            if let Err(Unsupported(text)) = Controls::new(&changed) {
                lost.push(text);
            }
        }
    }
    let count = lost.len();
    lost.sort_unstable();
    lost.dedup();
    assert_eq!(lost.len(), count, "two requirements with one text");
    assert_eq!(count, 3 + 8 + 2 + 6 + 3);
}

#[test]
fn without_a_tpr_shadow_the_local_apic_is_not_in_hardware() {
    let good = processor("Bochs corei7_haswell");
    let tpr_shadow = u64::from(PrimaryControls::TPR_SHADOW.bits()) << 32;
    let controls =
        Controls::new(&Capabilities { primary: good.primary & !tpr_shadow, ..good }).unwrap();
    assert!(!controls.has_virtual_interrupts() && !controls.has_apic_registers());
}

#[test]
fn an_emulated_local_apic_keeps_the_task_priority_in_hardware() {
    let controls = Controls::new(&processor("Bochs corei7_haswell")).unwrap();
    let emulated = controls.with_emulated_apic();
    assert!(controls.has_virtual_interrupts() && controls.has_apic_registers());
    assert!(!emulated.has_virtual_interrupts() && !emulated.has_apic_registers());
    assert!(
        emulated.has_tpr_shadow() && emulated.secondary_at_times == controls.secondary_at_times
    );
}

#[test]
fn interrupts_are_posted_only_where_the_processor_delivers_and_acknowledges_them() {
    let acknowledges =
        |controls: Controls| controls.exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT);
    let good = processor("Bochs corei7_skylake_x");
    let controls = Controls::new(&good).unwrap();
    assert!(controls.has_posted_interrupts() && acknowledges(controls));
    let emulated = controls.with_emulated_apic();
    let acknowledge = u64::from(ExitControls::ACKNOWLEDGE_INTERRUPT.bits()) << 32;
    let never = Controls::new(&Capabilities { exit: good.exit & !acknowledge, ..good }).unwrap();
    let not_delivered = u64::from(SecondaryControls::VIRTUAL_INTERRUPTS.bits()) << 32;
    let secondary = good.secondary & !not_delivered;
    let injected = Controls::new(&Capabilities { secondary, ..good }).unwrap();
    for controls in [emulated, never, injected] {
        assert!(!controls.has_posted_interrupts() && !acknowledges(controls));
    }
}

#[test]
fn without_a_tpr_shadow_cr8_exits() {
    let good = processor("Core i5-3570");
    let tpr_shadow = u64::from(PrimaryControls::TPR_SHADOW.bits()) << 32;
    let controls =
        Controls::new(&Capabilities { primary: good.primary & !tpr_shadow, ..good }).unwrap();
    assert!(!controls.has_tpr_shadow());
    assert!(controls.apic_interface(Interface::Msrs).is_empty());
    assert!(controls.primary.contains(PrimaryControls::CR8_LOAD | PrimaryControls::CR8_STORE));
}

#[test]
fn a_preemption_timer_that_starts_anew_at_each_entry_is_not_used() {
    let good = processor("Core i5-3570");
    let save = u64::from(ExitControls::SAVE_PREEMPTION_TIMER.bits()) << 32;
    let controls = Controls::new(&Capabilities { exit: good.exit & !save, ..good }).unwrap();
    assert!(!controls.has_preemption_timer());
    let timer = u64::from(PinControls::PREEMPTION_TIMER.bits()) << 32;
    let controls = Controls::new(&Capabilities { pin: good.pin & !timer, ..good }).unwrap();
    assert!(!controls.exit.contains(ExitControls::SAVE_PREEMPTION_TIMER));
}

#[test]
fn no_page_is_logged_without_dirty_flags() {
    let good = processor("Bochs corei7_skylake_x");
    assert!(Controls::new(&good).unwrap().has_page_log());
    let ept_vpid = good.ept_vpid.with_accessed_dirty(false);
    assert!(!Controls::new(&Capabilities { ept_vpid, ..good }).unwrap().has_page_log());
}

#[test]
fn vpids_that_cannot_be_flushed_are_not_used() {
    let good = processor("Core i5-3570");
    let ept_vpid = good.ept_vpid.with_invvpid(false);
    assert!(!Controls::new(&Capabilities { ept_vpid, ..good }).unwrap().has_vpid());
}
