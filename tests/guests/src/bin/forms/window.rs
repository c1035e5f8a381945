//! The window: pages that are RAM or the VGA's memory.

use conformance::Global;
use conformance::cpu::{self, invlpg, poke};
use conformance::planes::{self, PLANES};

use crate::table::{CODE, Case, Mode, OPERAND, WINDOW};

const PAGE: u64 = 0x1000;
const PRESENT_WRITE: u64 = 3;

/// The RAM behind the window, beside the planes.
const RAM: u64 = 0x0130_0000;

/// The pages of the window: two for operands, and two for the stack.
const OPERANDS: [u64; 2] = [1, 2];
const STACK: [u64; 2] = [4, 5];

#[repr(C, align(4096))]
struct PageTable([u64; 512]);
static PAGE_TABLE: Global<PageTable> = Global::new(PageTable([0; 512]));

/// Where the operand and the stack are, in pages of which kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Inside a page.
    Inside,
    /// In two pages of the device.
    Across,
    /// In a page of RAM and the next, of the device.
    IntoDevice,
    /// The other way round.
    OutOfDevice,
    /// In a page of the device and one that is absent.
    IntoAbsent,
}

#[derive(Clone, Copy)]
enum Kind {
    Ram,
    Device,
    Absent,
}

impl Place {
    pub const ALL: [Self; 5] =
        [Self::Inside, Self::Across, Self::IntoDevice, Self::OutOfDevice, Self::IntoAbsent];

    /// Whether the case runs there: with an operand that can lie in two pages, or the stack; those
    /// that use vector registers by prefixes that are the same in all code, in 64-bit code
    /// only.
    pub fn suits(self, case: &Case, components: u64) -> bool {
        let is_divisible = case.split != 0 || case.stack;
        self == Self::Inside || is_divisible && (components == 0 || case.mode == Mode::Bits64)
    }

    /// The offset of the operand in the window.
    pub fn operand(self, case: &Case) -> u64 {
        match self {
            Self::Inside => OPERAND,
            _ => OPERANDS[1] * PAGE - case.split,
        }
    }

    /// The offset of the top of the stack.
    pub fn stack(self, case: &Case) -> u64 {
        let half = match case.mode {
            Mode::Bits16 => 1,
            Mode::Bits32 => 2,
            Mode::Bits64 => 4,
        };
        match self {
            Self::Inside => STACK[0] * PAGE + PAGE / 2,
            _ if case.pushes => STACK[1] * PAGE + half,
            _ => STACK[1] * PAGE - half,
        }
    }

    fn kinds(self) -> [Kind; 2] {
        match self {
            Self::Inside | Self::Across => [Kind::Device; 2],
            Self::IntoDevice => [Kind::Ram, Kind::Device],
            Self::OutOfDevice => [Kind::Device, Kind::Ram],
            Self::IntoAbsent => [Kind::Device, Kind::Absent],
        }
    }

    /// Makes the pages what they are; without `on_device`, RAM in place of the device.
    pub fn map(self, on_device: bool) {
        for pages in [OPERANDS, STACK] {
            for (page, kind) in pages.into_iter().zip(self.kinds()) {
                set_page(
                    page,
                    match kind {
                        Kind::Device if on_device => (PLANES + page * PAGE) | PRESENT_WRITE,
                        Kind::Absent => 0,
                        Kind::Device | Kind::Ram => (RAM + page * PAGE) | PRESENT_WRITE,
                    },
                );
            }
        }
    }

    /// The same with the absent page there, for what comes before and after the instruction.
    pub fn map_all(self, on_device: bool) {
        match self {
            Self::IntoAbsent => Self::Across.map(on_device),
            _ => self.map(on_device),
        }
    }
}

fn set_page(page: u64, entry: u64) {
    poke(PAGE_TABLE.address() as u64 + 8 * page, entry);
    invlpg(WINDOW + page * PAGE);
}

/// Sets up the device and the window.
pub fn set_up() {
    planes::set_up();
    // The second GiB's first 2 MiB: the guest's tables lie behind each other.
    let directory = conformance::page_tables() + PAGE * (2 + (WINDOW >> 30));
    poke(directory, PAGE_TABLE.address() as u64 | PRESENT_WRITE);
    cpu::set_cr3(cpu::cr3());
    let code = (CODE - WINDOW) / PAGE;
    set_page(code, (RAM + code * PAGE) | PRESENT_WRITE);
    Place::Across.map(false);
}
