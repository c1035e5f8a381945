//! `multicall`: lists of calls.

use conformance::cpu::{self, peek, poke};
use conformance::report::equal;
use conformance::xen::mode::Mode;
use conformance::xen::{NOWHERE, RAM_END, error, number};
use conformance::{name, page_tables};

use crate::entry::VERSION;

/// Where lists are: an entry of the first lies across the end of a page.
const LIST: u64 = 0x33_0fd8;
/// More than are done at once.
const COUNT: u64 = 21;

/// A list in memory, for code of a mode.
struct List {
    mode: Mode,
    at: u64,
}

impl List {
    const fn entry_bytes(&self) -> u64 {
        8 * self.mode.long_bytes()
    }

    fn put(&self, entry: u64, word: u64, value: u64) {
        let at = self.at + entry * self.entry_bytes() + word * self.mode.long_bytes();
        match self.mode.long_bytes() {
            8 => poke(at, value),
            _ => poke(at, value as u32),
        }
    }

    fn set(&self, entry: u64, number: u64, first: u64, second: u64) {
        for (word, value) in [number, 0xbad, first, second, 0, 0, 0, 0].into_iter().enumerate() {
            self.put(entry, word as u64, value);
        }
    }

    fn result(&self, entry: u64) -> i64 {
        let at = self.at + entry * self.entry_bytes() + self.mode.long_bytes();
        match self.mode.long_bytes() {
            8 => peek(at),
            _ => i64::from(peek::<i32>(at)),
        }
    }

    /// Calls of all kinds.
    fn fill(&self) {
        for entry in 0..COUNT {
            match entry % 4 {
                0 => self.set(entry, number::XEN_VERSION, 0, 0),
                1 => self.set(entry, number::MULTICALL, 0, 0),
                2 => self.set(entry, number::XEN_VERSION, 6, NOWHERE),
                _ => self.set(entry, 63, 0, 0),
            }
        }
    }

    /// The first entry, of the first `count`, that has not its result, and that result.
    fn wrong(&self, count: u64) -> Option<(u64, i64)> {
        const WANT: [i64; 4] = [VERSION, error::INVAL, error::FAULT, error::NOSYS];
        (0..count)
            .map(|entry| (entry, self.result(entry)))
            .find(|&(entry, result)| result != WANT[entry as usize % 4])
    }

    fn call(&self, count: u64) -> i64 {
        self.mode.call(number::MULTICALL, [self.at, count, 0, 0, 0])
    }
}

pub fn run(mode: Mode) {
    let list = List { mode, at: LIST };
    list.fill();
    equal(&name!("multicall-of-none-{mode}"), (list.call(0), list.result(0)), (0, 0xbad));
    equal(&name!("multicall-{mode}"), (list.call(COUNT), list.wrong(COUNT)), (0, None));
    // Entries before the end of memory are done.
    let entry_bytes = list.entry_bytes();
    let list = List { mode, at: RAM_END - 4 * entry_bytes - entry_bytes / 2 };
    for entry in 0..4 {
        list.set(entry, number::XEN_VERSION, 0, 0);
    }
    let done = (list.call(6), [0, 1, 2, 3].map(|entry| list.result(entry)));
    equal(&name!("multicall-past-memory-{mode}"), done, (error::FAULT, [VERSION; 4]));
    let list = List { mode, at: NOWHERE };
    equal(&name!("multicall-at-no-memory-{mode}"), list.call(1), error::FAULT);
}

/// A list on pages that follow each other in linear addresses only.
pub fn paged() {
    /// Beyond RAM; its pages of 4 KiB are in a table of their own, the second one before the first.
    const LINEAR: u64 = 0x2000_0000;
    const TABLE: u64 = 0x34_0000;
    const PAGES: u64 = 0x35_0000;
    const PRESENT_WRITE: u64 = 3;
    let entry = page_tables() + 0x2000 + (LINEAR >> 21) * 8;
    let old: u64 = peek(entry);
    for index in 0..512 {
        poke(TABLE + index * 8, 0u64);
    }
    poke(TABLE, (PAGES + 0x1000) | PRESENT_WRITE);
    poke(TABLE + 8, PAGES | PRESENT_WRITE);
    poke(entry, TABLE | PRESENT_WRITE);
    cpu::invlpg(LINEAR);
    let list = List { mode: Mode::Bits64, at: LINEAR + 0xfd8 };
    list.fill();
    equal("multicall-on-scattered-pages-64", (list.call(COUNT), list.wrong(COUNT)), (0, None));
    // The page behind is absent.
    let list = List { mode: Mode::Bits64, at: LINEAR + 0x2000 - 3 * 64 };
    for entry in 0..3 {
        list.set(entry, number::XEN_VERSION, 0, 0);
    }
    let done = (list.call(5), [0, 1, 2].map(|entry| list.result(entry)));
    equal("multicall-into-an-absent-page-64", done, (error::FAULT, [VERSION; 3]));
    poke(entry, old);
    cpu::invlpg(LINEAR);
}
