//! The two DMA controllers (Intel 8237A) and their page registers: what is written is read back.
//! Nothing is transferred.

#![no_std]
#![no_main]

use conformance::cpu::{inb, outb};
use conformance::report::equal;

conformance::topic!(run);

/// Registers of a controller after the addresses and counts of its channels.
const STATUS: u16 = 8;
const REQUEST: u16 = 9;
const MODE: u16 = 11;
const CLEAR_FLIP_FLOP: u16 = 12;
const MASTER_CLEAR: u16 = 13;
const ALL_MASKS: u16 = 15;

const MASK_ALL: u8 = 0x0f;
/// Channel 2, single transfers that only verify.
const SINGLE_VERIFY: u8 = 0x42;
const SET_CHANNEL_2: u8 = 6;
const CLEAR_CHANNEL_2: u8 = 2;

/// The page registers of channels 0 to 3, 5 to 7 and of the cascade.
const PAGES: [u16; 8] = [0x87, 0x83, 0x81, 0x82, 0x8b, 0x89, 0x8a, 0x8f];

/// A controller: its first port, and how far its registers are apart.
#[derive(Clone, Copy)]
struct Controller(u16, u16);

impl Controller {
    fn port(self, register: u16) -> u16 {
        self.0 + register * self.1
    }

    fn write(self, register: u16, value: u8) {
        outb(self.port(register), value);
    }

    fn read(self, register: u16) -> u8 {
        inb(self.port(register))
    }

    fn write_word(self, register: u16, value: u16) {
        value.to_le_bytes().into_iter().for_each(|byte| self.write(register, byte));
    }

    fn read_word(self, register: u16) -> u16 {
        u16::from_le_bytes([self.read(register), self.read(register)])
    }
}

fn run() {
    let (bytes, words) = (Controller(0, 1), Controller(0xc0, 2));
    registers(bytes, ["bytes-addresses-and-counts", "bytes-flip-flop", "bytes-flip-flop-cleared"]);
    registers(words, ["words-addresses-and-counts", "words-flip-flop", "words-flip-flop-cleared"]);
    requests(bytes, ["bytes-request", "bytes-request-withdrawn", "bytes-master-clear"]);
    requests(words, ["words-request", "words-request-withdrawn", "words-master-clear"]);
    pages();
}

fn registers(controller: Controller, [read_back, shared, cleared]: [&str; 3]) {
    let value = |register: u16| 0x1234 + 0x1111 * register;
    controller.write(MASTER_CLEAR, 0);
    for register in 0..8 {
        controller.write_word(register, value(register));
    }
    let read: [u16; 8] = core::array::from_fn(|register| controller.read_word(register as u16));
    equal(read_back, read, core::array::from_fn(|register| value(register as u16)));
    // The low byte of one register, and the high byte of another.
    equal(
        shared,
        [controller.read(4), controller.read(5)],
        [value(4) as u8, (value(5) >> 8) as u8],
    );
    controller.read(4);
    controller.write(CLEAR_FLIP_FLOP, 0);
    equal(cleared, controller.read_word(4), value(4));
}

fn requests(controller: Controller, [requested, withdrawn, cleared]: [&str; 3]) {
    controller.write(ALL_MASKS, MASK_ALL);
    controller.write(MODE, SINGLE_VERIFY);
    controller.write(REQUEST, SET_CHANNEL_2);
    equal(requested, controller.read(STATUS), 0x40);
    controller.write(REQUEST, CLEAR_CHANNEL_2);
    equal(withdrawn, controller.read(STATUS), 0);
    controller.write(REQUEST, SET_CHANNEL_2);
    controller.write_word(4, 0x1234);
    controller.read(4);
    controller.write(MASTER_CLEAR, 0);
    equal(cleared, (controller.read(STATUS), controller.read_word(4)), (0, 0x1234));
}

fn pages() {
    for port in PAGES {
        outb(port, port as u8 ^ 0x5a);
    }
    equal("pages", PAGES.map(inb), PAGES.map(|port| port as u8 ^ 0x5a));
    for port in PAGES {
        outb(port, 0);
    }
}
