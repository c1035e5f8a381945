//! Every form of an instruction with a memory operand on RAM and on device memory: both must leave
//! the same. The device is the VGA's memory in a planar mode, which is plain bytes to the
//! processor. The forms come from `tests/guests/forms`, and docs/instruction-forms.md lists them.
//!
//! A page of a window is RAM for the first run and the device's for the second: addresses are the
//! same in both, and so is all that an instruction leaves, to the last pointer. Code of 16 and 32
//! bits runs in compatibility mode. Each instruction ends at an INT3 or at a fault.

#![no_std]
#![no_main]

mod execution;
mod state;
mod table;
mod window;

use core::fmt::Write;

use conformance::Global;
use conformance::interrupts::BP;
use conformance::planes;
use conformance::report::{equal, fail, skip, value};
use conformance::serial::Com1;

use execution::{Outcome, Run};
use table::{Case, Cursor, GROUPS, Group, Mode};
use window::Place;

conformance::topic!(run);

static WANT: Global<Outcome> = Global::new(Outcome::NONE);
static GOT: Global<Outcome> = Global::new(Outcome::NONE);

fn run() {
    let components = state::enable();
    window::set_up();
    execution::set_up();
    vex_in_16_bit_code(components);
    let mut cursor = Cursor::new();
    for group in GROUPS {
        let runs = group.is_supported(components);
        let mut count = 0;
        for _ in 0..group.mnemonics {
            count += mnemonic(group, &mut cursor, runs);
        }
        match runs {
            true => value(group.name, format_args!("{count} cases")),
            false => skip(group.name, "the processor does not have it"),
        }
    }
    planes::leave();
}

/// Whether 16-bit code may use VEX prefixes: outside real mode it may.
static VEX_IN_16_BITS: Global<bool> = Global::new(false);

fn vex_in_16_bit_code(components: u64) {
    const NAME: &str = "vex-prefix-in-16-bit-code";
    const AVX: u64 = 7;
    /// VXORPS XMM0, XMM0, XMM0.
    const BYTES: [u8; 4] = [0xc5, 0xf8, 0x57, 0xc0];
    if components & AVX != AVX {
        return skip(NAME, "no AVX");
    }
    let got = unsafe { &mut *GOT.address() };
    Run { case: &Case::plain(Mode::Bits16, &BYTES), place: Place::Inside, on_device: false }
        .perform(got);
    VEX_IN_16_BITS.set(got.vector == u64::from(BP.vector));
    equal(NAME, got.vector, BP.vector.into());
}

/// Runs the cases of a mnemonic, and reports if one differs.
fn mnemonic(group: &Group, cursor: &mut Cursor, runs: bool) -> usize {
    const SHOWN: usize = 4;
    let name = cursor.name();
    let count = cursor.count();
    let mut differing = 0;
    for _ in 0..count {
        let case = cursor.case();
        if !runs || case.mode == Mode::Bits16 && group.components != 0 && !VEX_IN_16_BITS.get() {
            continue;
        }
        for place in Place::ALL.into_iter().filter(|place| place.suits(&case, group.components)) {
            if let Err(difference) = compare(&case, place) {
                differing += 1;
                if differing <= SHOWN {
                    let _ =
                        writeln!(Com1, "form {}-{name} {case} {place:?}: {difference}", group.name);
                }
            }
        }
    }
    if differing != 0 {
        fail(
            Name::new(group.name, name).as_str(),
            format_args!("{differing} runs differ from RAM"),
        );
    }
    count
}

/// The name of a mnemonic's case.
struct Name {
    bytes: [u8; 64],
    length: usize,
}

impl Name {
    fn new(group: &str, mnemonic: &str) -> Self {
        let mut name = Self { bytes: [0; 64], length: 0 };
        for (place, byte) in
            name.bytes.iter_mut().zip(group.bytes().chain([b'-']).chain(mnemonic.bytes()))
        {
            *place = byte;
            name.length += 1;
        }
        name
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

fn compare(case: &Case, place: Place) -> Result<(), execution::Difference> {
    let want = unsafe { &mut *WANT.address() };
    let got = unsafe { &mut *GOT.address() };
    Run { case, place, on_device: false }.perform(want);
    if place == Place::Inside && want.vector != u64::from(BP.vector) {
        return Err(execution::Difference {
            what: "vector on RAM",
            place: 0,
            got: want.vector,
            want: BP.vector.into(),
        });
    }
    Run { case, place, on_device: true }.perform(got);
    got.compare(want, case)
}
