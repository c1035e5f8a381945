//! Banks of a fake CPU, which knows what registers it has.

use super::*;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;
use spin::Mutex;

const VALID: u64 = 1 << 63;
const OVERFLOW: u64 = 1 << 62;
const UNCORRECTED: u64 = 1 << 61;
const ENABLED: u64 = 1 << 60;
const MISC: u64 = 1 << 59;
const ADDRESS: u64 = 1 << 58;
const CORRUPT: u64 = 1 << 57;
const SIGNALLED: u64 = 1 << 56;
const ACTION: u64 = 1 << 55;
const DEFERRED: u64 = 1 << 44;

pub(crate) const RESTART: u64 = 1;
const OF_INSTRUCTION: u64 = 2;
const IN_PROGRESS: u64 = 4;

/// MCG_CAP: ten banks, MCG_CTL, recovery.
pub(crate) const RECOVERS: u64 = 1 << 24 | 1 << 8 | 10;
/// A data load that met an error that nothing could correct, as the SDM has it (SRAR, 16.9.3.2).
pub(crate) const DATA_LOAD: u64 =
    VALID | UNCORRECTED | ENABLED | MISC | ADDRESS | SIGNALLED | ACTION | 0x0134;
/// MCi_MISC: a physical address of a line of 64 bytes.
pub(crate) const PHYSICAL_LINE: u64 = 2 << 6 | 6;

/// Where the guest's memory is.
const ITS_MEMORY: core::ops::Range<u64> = 0x4000_0000..0x5000_0000;

/// A CPU's registers.
pub(crate) struct Fake {
    maker: Maker,
    values: Mutex<BTreeMap<u32, u64>>,
}

impl Fake {
    pub(crate) fn new(capabilities: u64, status: u64) -> Self {
        let values = BTreeMap::from([(0x179, capabilities), (0x17a, status)]);
        Self { maker: Maker::Intel { keeps_first_control: false }, values: Mutex::new(values) }
    }

    /// Puts an error into a bank.
    pub(crate) fn with(self, bank: u32, status: u64, address: u64, misc: u64) -> Self {
        let first = 0x400 + 4 * bank;
        self.values.lock().extend([(first + 1, status), (first + 2, address), (first + 3, misc)]);
        self
    }

    fn amd(self) -> Self {
        Self { maker: Maker::Amd { contains: true }, ..self }
    }

    pub(crate) fn get(&self, msr: u32) -> u64 {
        self.values.lock().get(&msr).copied().unwrap_or(0)
    }

    /// A processor without the register raises #GP.
    fn check(&self, register: Register) {
        let capabilities = self.get(0x179);
        let exists = match register {
            Register::Capabilities | Register::Status => true,
            Register::Control => capabilities & 1 << 8 != 0,
            Register::BankControl(bank) | Register::BankStatus(bank) => {
                u64::from(bank) < capabilities & 0xff
            }
            Register::BankAddress(bank) => {
                self.get(Register::BankStatus(bank).msr()) & ADDRESS != 0
            }
            Register::BankMisc(bank) => self.get(Register::BankStatus(bank).msr()) & MISC != 0,
        };
        assert!(exists, "{register:?}");
    }

    fn of_guest(&self) -> Verdict {
        verdict(self, Interrupted::Guest(&|address| ITS_MEMORY.contains(&address)))
    }

    fn of_hypervisor(&self) -> Verdict {
        verdict(self, Interrupted::Hypervisor)
    }

    fn words(&self) -> String {
        errors(self).map(|bank| bank.to_string()).collect::<Vec<_>>().join("\n")
    }
}

impl Registers for Fake {
    fn read(&self, register: Register) -> u64 {
        self.check(register);
        self.get(register.msr())
    }

    fn write(&self, register: Register, value: u64) {
        self.check(register);
        self.values.lock().insert(register.msr(), value);
    }

    fn maker(&self) -> Maker {
        self.maker
    }
}

#[test]
fn what_was_corrected_disturbs_nobody() {
    let fake =
        Fake::new(RECOVERS | 1 << 10, RESTART).with(2, VALID | ADDRESS | 3 << 38 | 0x9f, 0x1234, 0);
    assert_eq!((fake.of_guest(), fake.of_hypervisor()), (Verdict::GoesOn, Verdict::GoesOn));
    let words = "bank 2: memory error, read: corrected, 3 times (status 0x840000c00000009f, address 0x1234)";
    assert_eq!(fake.words(), words);
}

#[test]
fn data_that_an_instruction_met_ends_whose_it_is() {
    let load =
        |address, status| Fake::new(RECOVERS, status).with(1, DATA_LOAD, address, PHYSICAL_LINE);
    let [inside, outside] = [0x4000_0010, 0x1000];
    for status in [RESTART | IN_PROGRESS, OF_INSTRUCTION | IN_PROGRESS] {
        assert_eq!(load(inside, status).of_guest(), Verdict::GuestIsLost);
        assert_eq!(
            load(outside, status).of_guest(),
            Verdict::MachineIsLost,
            "the hypervisor's memory"
        );
        assert_eq!(load(inside, status).of_hypervisor(), Verdict::MachineIsLost);
    }
    assert_eq!(
        load(inside, IN_PROGRESS).of_guest(),
        Verdict::MachineIsLost,
        "what it interrupted is lost"
    );
    let unknown = Fake::new(RECOVERS, RESTART).with(1, DATA_LOAD, outside, 1 << 6);
    assert_eq!(unknown.of_guest(), Verdict::GuestIsLost, "a linear address");
}

#[test]
fn the_low_bits_that_do_not_count_are_not_taken_for_an_address() {
    let fake = Fake::new(RECOVERS, RESTART).with(1, DATA_LOAD, 0x1234_5678, 2 << 6 | 12);
    let bank = errors(&fake).next().unwrap();
    assert_eq!(bank.physical_address(), Some(0x1234_5000));
}

#[test]
fn nothing_goes_on_with_a_state_that_may_be_wrong() {
    for status in
        [CORRUPT | UNCORRECTED | ENABLED, CORRUPT, DATA_LOAD | OVERFLOW, DATA_LOAD & !SIGNALLED]
    {
        let fake = Fake::new(RECOVERS, RESTART).with(9, VALID | status, 0x4000_0000, PHYSICAL_LINE);
        assert_eq!(
            (fake.of_guest(), fake.of_hypervisor()),
            (Verdict::MachineIsLost, Verdict::MachineIsLost)
        );
    }
}

#[test]
fn what_nothing_has_used_yet_ends_nothing() {
    // No action required (UCNA), optional (SRAO), not enabled.
    for status in [UNCORRECTED | ENABLED, UNCORRECTED | ENABLED | SIGNALLED | 0xc0, UNCORRECTED] {
        let fake = Fake::new(RECOVERS, RESTART | IN_PROGRESS).with(3, VALID | status, 0, 0);
        assert_eq!(
            (fake.of_guest(), fake.of_hypervisor()),
            (Verdict::GoesOn, Verdict::GoesOn),
            "{status:#x}"
        );
    }
}

#[test]
fn a_processor_that_cannot_recover_says_less() {
    let error = VALID | UNCORRECTED | ENABLED | ADDRESS;
    let fake = |status| Fake::new(6, RESTART).with(0, status, 0x1000, 0);
    assert_eq!(fake(error).of_guest(), Verdict::GuestIsLost, "of no known kind of address");
    assert_eq!(fake(error | OVERFLOW).of_guest(), Verdict::MachineIsLost);
    assert_eq!(fake(error).of_hypervisor(), Verdict::MachineIsLost);
}

#[test]
fn amds_bits_are_amds() {
    let fake =
        |status, address| Fake::new(1 << 8 | 7, RESTART).with(4, VALID | status, address, 0).amd();
    assert_eq!(fake(DEFERRED | ADDRESS, 0x1000).of_hypervisor(), Verdict::GoesOn);
    let load = UNCORRECTED | ENABLED | ADDRESS | 0x0135;
    assert_eq!(fake(load, 0x4000_0000).of_guest(), Verdict::GuestIsLost);
    assert_eq!(fake(load, 0x1000).of_guest(), Verdict::MachineIsLost);
    assert_eq!(
        fake(load & !0xffff | 0x0a0f, 0x1000).of_guest(),
        Verdict::GuestIsLost,
        "no physical address"
    );
    assert_eq!(
        fake(load | ACTION, 0x4000_0000).of_guest(),
        Verdict::GuestIsLost,
        "TCC, where Intel has AR"
    );
    let mut spreading = fake(load, 0x4000_0000);
    spreading.maker = Maker::Amd { contains: false };
    assert_eq!(spreading.of_guest(), Verdict::MachineIsLost);
    // The bit is part of a count for Intel.
    let intel = Fake::new(RECOVERS, RESTART).with(4, VALID | DEFERRED, 0, 0);
    assert_eq!(errors(&intel).next().unwrap().severity(), Severity::Corrected);
}

#[test]
fn a_check_without_an_error_ends_what_cannot_be_restarted() {
    let of = |status| Fake::new(RECOVERS, status | IN_PROGRESS);
    assert_eq!(
        (of(RESTART).of_guest(), of(RESTART).of_hypervisor()),
        (Verdict::GoesOn, Verdict::GoesOn)
    );
    assert_eq!(of(OF_INSTRUCTION).of_guest(), Verdict::GuestIsLost);
    assert_eq!(of(OF_INSTRUCTION).of_hypervisor(), Verdict::MachineIsLost);
    assert_eq!(of(0).of_guest(), Verdict::MachineIsLost);
}

#[test]
fn all_errors_are_told_of_from_the_start() {
    let fake = Fake::new(RECOVERS, 0).with(3, VALID | 1, 0, 0).with(4, 0x55, 0, 0);
    enable(&fake, 0);
    assert_eq!(fake.get(0x17b), u64::MAX);
    for bank in 0..10 {
        assert_eq!(
            (fake.get(0x400 + 4 * bank), fake.get(0x401 + 4 * bank)),
            (u64::MAX, 0),
            "bank {bank}"
        );
    }
    enable(&Fake::new(0, 0), 0);
    let mut old = Fake::new(6, 0);
    old.maker = Maker::Intel { keeps_first_control: true };
    enable(&old, 0);
    assert_eq!((old.get(0x400), old.get(0x404)), (0, u64::MAX));
}

#[test]
fn kinds_of_errors_have_words() {
    let words = |code| format!("{}", error_code::ErrorCode(code));
    assert_eq!(words(0x0005), "internal parity error");
    assert_eq!(words(0x0014), "error in the data TLB, level 0");
    assert_eq!(words(0x0093), "memory error, read, channel 3");
    assert_eq!(words(0x1135), "error in the data cache, level 1, data read");
    assert_eq!(words(0x0400), "internal timer ran out");
    assert_eq!(words(0x0f0f), "the bus did not answer in time, use");
    assert_eq!(words(0xe00b), "error 0xe00b");
    for code in 0..=u16::MAX {
        assert!(!words(code).is_empty());
    }
}

fn any_maker() -> impl Strategy<Value = Maker> {
    (any::<bool>(), any::<bool>()).prop_map(|(is_amd, value)| match is_amd {
        true => Maker::Amd { contains: value },
        false => Maker::Intel { keeps_first_control: value },
    })
}

proptest! {
    /// Registers that do not exist are not touched, whatever those that do hold; nothing that is
    /// fatal goes on; after the log no bank is full, and another #MC may come.
    #[test]
    fn random_banks(
        capabilities: u64,
        global: u64,
        maker in any_maker(),
        banks in proptest::collection::vec((0u32..40, any::<[u64; 3]>()), 0..20),
    ) {
        let mut fake = Fake::new(capabilities, global);
        fake.maker = maker;
        for (bank, [status, address, misc]) in banks {
            fake = fake.with(bank, status, address, misc);
        }
        let is_corrupt = errors(&fake).any(|bank| bank.status.context_corrupt());
        for verdict in [fake.of_guest(), fake.of_hypervisor()] {
            prop_assert!(verdict == Verdict::MachineIsLost || !is_corrupt);
        }
        prop_assert!(fake.of_hypervisor() != Verdict::GuestIsLost);
        prop_assert!(global & RESTART != 0 || fake.of_guest() != Verdict::GoesOn);
        let _ = fake.words();
        log_and_clear(&fake, 0);
        prop_assert_eq!(errors(&fake).count(), 0);
        prop_assert_eq!(fake.get(0x17a), 0);
        enable(&fake, 0);
    }
}
