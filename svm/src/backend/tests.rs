//! A virtual CPU of AMD-V on CPUs that tests make up.

use super::*;
use devices::local_apic::{ApicInbox, Kick};
use emulator::registers::Exception;
use vmm_core::backend::address_tags::TagPool;
use vmm_core::backend::speculation::LastGuest;
use vmm_core::test_platform::TestPlatform;

struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

pub(super) fn cpu(platform: &'static TestPlatform) -> Cpu {
    let frame = || platform.allocate_frame(FrameSize::Small, Owner::Hypervisor).unwrap();
    // SAFETY: no test touches extended state.
    let extended_state = unsafe { ExtendedState::of_no_cpu() };
    let features = Features {
        next_rip: false,
        decode_assists: false,
        flush_by_asid: false,
        machine_checks: true,
        pause_filter: false,
        pause_filter_threshold: false,
        virtual_spec_ctrl: false,
        extended_state,
    };
    Cpu {
        features,
        host_state: frame(),
        _host_save_area: frame(),
        defences: Defences::default(),
        last_guest: LastGuest::default(),
        asid_count: 16,
        asids: TagPool::new(16),
    }
}

pub(super) fn vcpu(cpu: &Cpu, platform: &'static TestPlatform) -> Svm {
    Svm::new(
        cpu,
        platform,
        &VcpuSetup {
            guest: GuestId::next(),
            nested_root_hpa: 0x1000,
            apic_page: RegisterPage::new(),
            apic_inbox: ApicInbox::new(Arc::new(NoKick)),
            apic_access_hpa: 0x2000,
        },
    )
    .unwrap()
}

#[test]
fn a_vcpu_that_is_gone_leaves_nothing_behind() {
    let platform = TestPlatform::leak();
    let cpu = cpu(platform);
    let before = platform.allocated_bytes();
    for _ in 0..50 {
        let mut vcpu = vcpu(&cpu, platform);
        vcpu.load(&cpu, &Gprs::default());
        assert!(!vcpu.asid.is_shared());
    }
    assert_eq!(platform.allocated_bytes(), before);
}

#[test]
fn a_vcpu_runs_with_what_is_of_the_cpu_that_it_is_on_and_flushes_there() {
    let platform = TestPlatform::leak();
    let cpus = [cpu(platform), cpu(platform)];
    // Another one has the second CPU's first ASID.
    let mut other = vcpu(&cpus[1], platform);
    other.load(&cpus[1], &Gprs::default());
    let mut moving = vcpu(&cpus[0], platform);
    for (cpu, asid) in [(&cpus[0], 1), (&cpus[1], 2), (&cpus[0], 1)] {
        moving.load(cpu, &Gprs::default());
        assert_eq!(moving.switch.host_hpa, cpu.host_state.hpa);
        let control = &mut moving.vmcb_mut().control;
        assert_eq!((control.asid, control.tlb_control), (asid, TlbControl::FlushAll));
        control.tlb_control = TlbControl::Keep;
        moving.unload();
    }
    assert_eq!(cpus[1].asids.take().number(), 2, "it gave it back");
}

/// A CPU that does not keep a guest's IA32_SPEC_CTRL apart has it written where it differs.
#[test]
fn a_guests_control_of_speculation_is_switched_where_the_processor_does_not() {
    let platform = TestPlatform::leak();
    let mut cpu = cpu(platform);
    cpu.defences = Defences { has_control: true, host_control: 1, ..Defences::default() };
    for (by_processor, written) in [(false, Some((4, 1))), (true, None)] {
        cpu.features.virtual_spec_ctrl = by_processor;
        let mut vcpu = vcpu(&cpu, platform);
        vcpu.set_system_register(SystemRegister::SpecCtrl, 1);
        assert_eq!(vcpu.switch.control(), None, "the host's own");
        vcpu.set_system_register(SystemRegister::SpecCtrl, 4);
        assert_eq!(vcpu.switch.control(), written);
        assert_eq!(vcpu.vmcb().save.spec_ctrl, 4);
        assert_eq!(vcpu.system_register(SystemRegister::SpecCtrl), 4);
        vcpu.load(&cpu, &Gprs::default());
        assert_eq!(vcpu.switch.control(), written, "on another CPU too");
    }
}

#[test]
fn what_could_hold_or_slow_the_host_exits() {
    let platform = TestPlatform::leak();
    let mut vcpu = vcpu(&cpu(platform), platform);
    vcpu.init(&mut Gprs::default());
    let control = &vcpu.vmcb().control;
    for exception in [Exception::Debug, Exception::AlignmentCheck, Exception::MachineCheck] {
        assert_ne!(control.intercept_exceptions & 1 << exception as u8, 0, "{exception:?}");
    }
    assert!(control.intercept_1.ferr_freeze(), "x87 errors with CR0.NE clear");
    assert!(
        control.intercept_1.rdpmc() && control.intercept_1.invd() && control.intercept_2.wbinvd()
    );
}

/// How far a processor is in one when it is refused an access cannot be told.
#[test]
fn task_switches_exit_before_they_begin() {
    let platform = TestPlatform::leak();
    assert!(vcpu(&cpu(platform), platform).vmcb().control.intercept_1.task_switch());
}

#[test]
fn a_guest_that_spins_exits_if_the_processor_can_let_it_spin_for_a_while() {
    let platform = TestPlatform::leak();
    let cpu = cpu(platform);
    assert!(!vcpu(&cpu, platform).vmcb().control.intercept_1.pause());
    let mut filtering = cpu;
    filtering.features.pause_filter = true;
    let vcpu = vcpu(&filtering, platform);
    let control = &vcpu.vmcb().control;
    assert!(control.intercept_1.pause() && control.pause_filter_count == u16::MAX);
    assert_eq!(control.pause_filter_threshold, 0, "this processor has none");
}

#[test]
fn an_interrupt_that_the_task_priority_holds_back_waits_for_cr8_and_else_for_a_window() {
    let platform = TestPlatform::leak();
    let mut vcpu = vcpu(&cpu(platform), platform);
    vcpu.init(&mut Gprs::default());
    let state = |vcpu: &Svm| {
        let control = &vcpu.vmcb().control;
        let watches_cr8 = control.intercept_cr & INTERCEPT_CR8_WRITE != 0;
        (control.interrupt_control.irq(), control.intercept_1.vintr(), watches_cr8)
    };
    vcpu.apic_page.set_tpr(0x50);
    vcpu.set_interrupt_window(Some(5));
    assert_eq!(state(&vcpu), (false, false, true), "its own class");
    vcpu.apply_window(4);
    assert_eq!(state(&vcpu), (true, true, true), "the guest lowered it");
    vcpu.apic_page.set_tpr(0xf0);
    vcpu.set_interrupt_window(Some(16));
    assert_eq!(state(&vcpu), (true, true, true), "the 8259 pair's knows no task priority");
    vcpu.set_interrupt_window(None);
    assert_eq!(state(&vcpu), (false, false, false));
}

#[test]
fn a_state_that_the_processor_refuses_is_told_from_an_unknown_exit() {
    let platform = TestPlatform::leak();
    let mut vcpu = vcpu(&cpu(platform), platform);
    let mut exit = |code| {
        vcpu.vmcb_mut().control.exit_code = code;
        decode(&vcpu.vmcb().control)
    };
    // As the manual says, and as QEMU does it.
    assert_eq!(exit(u64::MAX), Exit::EntryFailure);
    assert_eq!(exit(u32::MAX.into()), Exit::EntryFailure);
    assert_eq!(exit(0x3ff), Exit::Unknown(0x3ff));
}
