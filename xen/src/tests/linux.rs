//! The sequences in which kernels set themselves up.

use super::*;
use crate::hypercall::{Outcome, Then};

struct Nothing;

impl crate::events::BackEnd for Nothing {
    fn notified(&self) {}
}

const SHARED_INFO_GFN: u32 = 1;
const SHARED_INFO: u64 = 4096;
/// Where the kernel has its own `vcpu_info` of the first virtual CPU.
const VCPU_INFO: u64 = 0x3_0040;
const VECTOR: u8 = 0xf3;

/// Linux 6.1 up to its first timer, as traced on Xen 4.17.
fn boot_linux(guest: &mut Guest) {
    let (result, features) = guest.op(17, 6, [0; 8]);
    assert_eq!((result, &features[4..]), (0, &0x0001_2305_u32.to_le_bytes()[..]));
    assert_eq!(guest.put(0, 0, SHARED_INFO_GFN), 0);
    assert_eq!(guest.op(34, 9, [0; 16]).0, -22, "tables are nested");
    let mut place = [0; 16];
    place[..8].copy_from_slice(&(VCPU_INFO / 4096).to_le_bytes());
    place[8..12].copy_from_slice(&((VCPU_INFO % 4096) as u32).to_le_bytes());
    guest.poke(ARGUMENT, &place);
    assert_eq!(guest.call(24, &[10, 0, ARGUMENT]), 0);
    assert_eq!(guest.op(32, 11, [0; 24]).0, -38, "two-level events");
    assert_eq!(guest.op(34, 23, [0, 0, 0, 0, VECTOR, 0, 0, 0]).0, 0);
    assert_eq!(guest.param(0, Some(1)), Ok(1));
    assert_eq!(guest.param(18, None), Ok(0), "no console");
    assert_eq!(guest.call(24, &[7, 0, 0]), 0);
    guest.poke(ARGUMENT, &0x4_0000_u64.to_le_bytes());
    assert_eq!(guest.call(24, &[5, 0, ARGUMENT]), 0);
    assert_eq!(guest.event(1, [0, 0, 0]), (0, [0, 0, 1]), "the timer's port");
    assert_eq!(guest.event(13, [1, 0]).0, -38);
    for command in [9, 7, 7] {
        assert_eq!(guest.call(24, &[command, 0, 0]), 0);
    }
    assert_eq!(guest.call(21, &[0, 5]), 0);
    assert_eq!(guest.event(7, [0, 0]), (0, [0, 2]));
    // Told so far: upcalls for the vCPU's own place and for its vector.
    guest.told();
    guest.poke(VCPU_INFO, &[0; 16]);
}

#[test]
fn linux_gets_its_timer_by_its_own_vector() {
    let mut guest = Guest::new(Width::Bits64, 1);
    boot_linux(&mut guest);
    let mut timer = [0; 16];
    timer[..8].copy_from_slice(&5_000_000_u64.to_le_bytes());
    guest.poke(ARGUMENT, &timer);
    assert_eq!(guest.call(24, &[8, 0, ARGUMENT]), 0);
    assert_eq!(guest.told(), [Told::Timer { vcpu: 0, at_ns: Some(5_000_000) }]);
    *guest.machine.now_ns.lock().unwrap() = 5_000_000;
    guest.platform.timer_expired(0, GuestTime::from_ns(5_000_000));
    let expected =
        [Told::Timer { vcpu: 0, at_ns: None }, Told::Interrupt { vcpu: 0, vector: VECTOR }];
    assert_eq!(guest.told(), expected);
    assert_eq!(guest.u64_at(SHARED_INFO + 2048), 1 << 1, "port 1 is pending");
    assert_eq!((guest.u64_at(VCPU_INFO) as u8, guest.u64_at(VCPU_INFO + 8)), (1, 1));
    // A second expiry while the first waits raises nothing.
    guest.platform.timer_expired(0, GuestTime::from_ns(6_000_000));
    assert_eq!(guest.told(), [Told::Timer { vcpu: 0, at_ns: None }]);
}

#[test]
fn linux_reads_time_without_an_exit() {
    let mut guest = Guest::new(Width::Bits64, 2);
    boot_linux(&mut guest);
    let time = VCPU_INFO + 32;
    assert_eq!(guest.u32_at(time) % 2, 0, "nothing is being written");
    assert_eq!((guest.u64_at(time + 8), guest.u64_at(time + 16)), (0, 0));
    // Half a nanosecond a tick, and the same on all virtual CPUs.
    assert_eq!((guest.u32_at(time + 24), guest.u32_at(time + 28)), (1 << 31, 0x100));
    let version = guest.u32_at(time);
    guest.platform.set_zero_tsc(0, 77);
    assert_eq!(guest.u64_at(time + 8), 77);
    assert_eq!(guest.u32_at(time + 28), 0, "they differ");
    assert_ne!(guest.u32_at(time), version);
    guest.platform.set_zero_tsc(1, 77);
    assert_eq!(guest.u32_at(time + 28), 0x100, "they agree again");
    // UTC at the start, in the layout of 64 bits.
    let wall = [3076, 3080, 3084].map(|offset| guest.u32_at(SHARED_INFO + offset));
    assert_eq!(wall, [2, 3, 1]);
}

#[test]
fn run_states_are_written_where_the_guest_wants_them() {
    let mut guest = Guest::new(Width::Bits64, 1);
    boot_linux(&mut guest);
    *guest.machine.now_ns.lock().unwrap() = 1000;
    guest.own[0].times.enter(crate::time::RunState::Running, 600);
    let ram = guest.machine.ram.clone();
    let mut caller = TestVcpu { number: 0, width: Width::Bits64, ram: &ram };
    guest.platform.write_run_state(&mut guest.own[0], &mut caller);
    let area = [8, 16, 24].map(|offset| guest.u64_at(0x4_0000 + offset));
    assert_eq!(area, [600, 0, 600], "the mark of being written is gone");
    // The call counts the state in which the virtual CPU is.
    assert_eq!(guest.call(24, &[4, 0, 0x5_0000]), 0);
    assert_eq!([8, 16, 24].map(|offset| guest.u64_at(0x5_0000 + offset)), [600, 400, 600]);
}

#[test]
fn an_upcall_of_a_virtual_cpu_that_was_not_started_is_repeated_after_init() {
    let mut guest = Guest::new(Width::Bits64, 2);
    boot_linux(&mut guest);
    let mut place = [0; 16];
    place[..8].copy_from_slice(&0x31_u64.to_le_bytes());
    guest.poke(ARGUMENT, &place);
    assert_eq!(guest.call(24, &[10, 1, ARGUMENT]), 0);
    assert_eq!(guest.op(34, 23, [1, 0, 0, 0, VECTOR, 0, 0, 0]).0, 0);
    guest.told();
    guest.platform.repeat_upcall(1);
    assert_eq!(guest.told(), [Told::Interrupt { vcpu: 1, vector: VECTOR }]);
}

/// Kernels of the time of Linux 2.6.32: shared info, a vector for all, no timer of Xen's.
#[test]
fn an_old_kernel_is_told_past_the_local_apic_in_the_layout_of_32_bits() {
    let mut guest = Guest::new(Width::Bits32, 1);
    guest.platform.latch_width(Width::Bits32);
    assert_eq!(guest.put(0, 0, 0x20), 0);
    assert_eq!(guest.param(0, Some(2 << 56 | u64::from(VECTOR))), Ok(2 << 56 | 0xf3));
    assert_eq!(guest.event(6, [u32::from(SELF), 0]), (0, [u32::from(SELF), 1]));
    assert_eq!(guest.event(7, [0, 0]), (0, [0, 2]));
    assert_eq!(guest.platform.upcall_to_inject(0), None);
    assert_eq!(guest.event(4, [2]).0, 0);
    assert_eq!(guest.told(), [Told::Look { vcpu: 0 }]);
    assert_eq!(guest.platform.upcall_to_inject(0), Some(VECTOR));
    assert_eq!(guest.u32_at(0x2_0000 + 2048), 1 << 2);
    // Its bit of the mask is 128 bytes behind.
    guest.poke(0x2_0000 + 2176, &(1_u32 << 1).to_le_bytes());
    let back_end: Arc<dyn crate::events::BackEnd> = Arc::new(Nothing);
    guest.platform.with_ports(|ports, _| ports.connect(1, back_end.clone())).unwrap();
    guest.platform.notify(&back_end);
    assert_eq!(guest.u32_at(0x2_0000 + 2048), 0b110);
    assert_eq!(guest.told(), [], "it is masked");
    assert_eq!((guest.u32_at(0x2_0000) as u8, guest.u32_at(0x2_0004)), (1, 1));
    // The kernel takes it.
    guest.poke(0x2_0000, &[0]);
    assert_eq!(guest.platform.upcall_to_inject(0), None);
}

#[test]
fn a_spinning_virtual_cpu_sleeps_until_its_port_has_an_event() {
    let mut guest = Guest::new(Width::Bits64, 2);
    boot_linux(&mut guest);
    assert_eq!(guest.event(7, [1, 0]), (0, [1, 3]));
    let mut poll = [0; 24];
    poll[..8].copy_from_slice(&0x6_0000_u64.to_le_bytes());
    poll[8] = 1;
    guest.poke(0x6_0000, &3_u32.to_le_bytes());
    guest.poke(ARGUMENT, &poll);
    let answer = guest.call_on(1, 29, &[3, ARGUMENT]);
    assert_eq!((answer.outcome, answer.then), (Outcome::Done(0), Then::Wait));
    guest.told();
    assert_eq!(guest.event(4, [3]).0, 0);
    assert!(guest.told().contains(&Told::Look { vcpu: 1 }));
    // It is pending now: who polls does not sleep.
    guest.poke(ARGUMENT, &poll);
    assert_eq!(guest.call_on(1, 29, &[3, ARGUMENT]).then, Then::Continue);
}

#[test]
fn ipxe_puts_pages_into_the_platform_devices_memory() {
    let mut guest = Guest::new(Width::Bits32, 1);
    let first = (FREE_GPA / 4096) as u32;
    assert_eq!(guest.put(0, 0, first), 0);
    let (result, size) = guest.op(20, 6, [0xf0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 0, 0]);
    assert_eq!(result, 0);
    assert_eq!(size[4..14], [1, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
    // From the last frame to the first, as Linux does.
    for frame in (0..4).rev() {
        assert_eq!(guest.put(1, frame, first + 1 + frame), 0);
    }
    let shown = guest.machine.shown.lock().unwrap().clone();
    let runs: Vec<_> = shown.iter().map(|run| (run.gpa, run.first_page, run.count)).collect();
    let (store, console) = (0xfeff_c000, 0xfeff_f000);
    let gpa = FREE_GPA;
    assert_eq!(runs, [(gpa, 0, 1), (store, 1, 1), (console, 2, 1), (gpa + 4096, 3, 4)]);
    assert_eq!(guest.platform.grant_frames(), 4);
    let mut remove = [0; 8];
    remove[..2].copy_from_slice(&SELF.to_le_bytes());
    remove[4..].copy_from_slice(&first.to_le_bytes());
    assert_eq!(guest.op(12, 15, remove).0, 0);
    assert_eq!(guest.op(12, 15, remove).0, -2, "nothing is there any more");
}

#[test]
fn shared_info_keeps_its_content_when_it_moves() {
    let mut guest = Guest::new(Width::Bits64, 1);
    assert_eq!(guest.put(0, 0, 0x20), 0);
    guest.poke(0x2_0000 + 2560, &[0xff; 8]);
    assert_eq!(guest.put(0, 0, 0x21), 0);
    assert_eq!(guest.u64_at(0x2_1000 + 2560), u64::MAX);
    // A frame of the grant table in its place hides it.
    assert_eq!(guest.put(1, 0, 0x21), 0);
    assert_eq!(guest.u64_at(0x2_1000 + 2560), 0);
}
