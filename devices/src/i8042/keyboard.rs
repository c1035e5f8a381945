//! The keyboard at the controller's first port: what it answers to commands, and what it sends for keys (IBM PS/2
//! Hardware Interface Technical Reference, "Keyboards (101- and 102-key)").

use super::scancodes;
use super::spec::device::{ACK, RESEND, SELF_TEST_PASSED};
use crate::keys::Key;
use crate::ring::Ring;

const SET_LEDS: u8 = 0xed;
const ECHO: u8 = 0xee;
const SCAN_CODE_SET: u8 = 0xf0;
const IDENTIFY: u8 = 0xf2;
const SET_TYPEMATIC: u8 = 0xf3;
const ENABLE: u8 = 0xf4;
const DISABLE: u8 = 0xf5;
const DEFAULTS: u8 = 0xf6;
const ALL_KEYS_FIRST: u8 = 0xf7;
const ALL_KEYS_LAST: u8 = 0xfa;
const KEY_TYPE_FIRST: u8 = 0xfb;
const KEY_TYPE_LAST: u8 = 0xfd;
const RESET: u8 = 0xff;

/// An MF2 keyboard.
const IDENTITY: [u8; 2] = [0xab, 0x83];

/// Typematic: 500 ms, 10.9 characters a second.
const DEFAULT_TYPEMATIC: u8 = 0x2b;

/// The keyboard.
#[derive(Clone, Debug)]
pub struct Keyboard {
    enabled: bool,
    scan_code_set: u8,
    leds: u8,
    typematic: u8,
    /// The command whose parameter comes next.
    command: Option<u8>,
    replies: Ring<u8, 16>,
    scan_codes: Ring<u8, 128>,
    last_sent: u8,
}

impl Keyboard {
    /// A keyboard after power-on, its self-test long past.
    pub fn new() -> Self {
        Self {
            enabled: true,
            scan_code_set: 2,
            leds: 0,
            typematic: DEFAULT_TYPEMATIC,
            command: None,
            replies: Ring::default(),
            scan_codes: Ring::default(),
            last_sent: 0,
        }
    }

    /// Bit 0: Scroll Lock, bit 1: Num Lock, bit 2: Caps Lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// A key is pressed (again) or released; false if there is no room for it now.
    pub fn key(&mut self, key: Key, pressed: bool) -> bool {
        if !self.enabled {
            return true;
        }
        let bytes = match self.scan_code_set {
            1 => scancodes::set_1(key, pressed),
            _ => scancodes::set_2(key, pressed),
        };
        self.scan_codes.push_all(&bytes)
    }

    /// True if a reply waits to be sent: replies go before scan codes.
    pub fn has_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// True if a scan code waits to be sent.
    pub fn has_scan_code(&self) -> bool {
        !self.scan_codes.is_empty()
    }

    /// Takes the next byte to send.
    pub fn send(&mut self) -> Option<u8> {
        let byte = self.replies.pop().or_else(|| self.scan_codes.pop())?;
        self.last_sent = byte;
        Some(byte)
    }

    fn reply(&mut self, bytes: &[u8]) {
        // A guest that never reads loses replies.
        self.replies.push_all(bytes);
    }

    fn set_defaults(&mut self) {
        self.scan_code_set = 2;
        self.typematic = DEFAULT_TYPEMATIC;
        self.scan_codes.clear();
    }

    /// Takes a byte from the controller.
    pub fn receive(&mut self, byte: u8) {
        // Bytes of commands end a command that waits for its parameter.
        match self.command.take() {
            Some(command) if byte < SET_LEDS => self.parameter(command, byte),
            _ => self.start(byte),
        }
    }

    fn start(&mut self, command: u8) {
        match command {
            SET_LEDS | SCAN_CODE_SET | SET_TYPEMATIC | KEY_TYPE_FIRST..=KEY_TYPE_LAST => {
                self.command = Some(command);
                self.reply(&[ACK]);
            }
            ECHO => self.reply(&[ECHO]),
            IDENTIFY => self.reply(&[ACK, IDENTITY[0], IDENTITY[1]]),
            ENABLE => {
                self.enabled = true;
                self.reply(&[ACK]);
            }
            DISABLE => {
                self.enabled = false;
                self.set_defaults();
                self.reply(&[ACK]);
            }
            DEFAULTS => {
                self.set_defaults();
                self.reply(&[ACK]);
            }
            ALL_KEYS_FIRST..=ALL_KEYS_LAST => self.reply(&[ACK]),
            RESEND => self.reply(&[self.last_sent]),
            RESET => {
                *self = Self::new();
                self.reply(&[ACK, SELF_TEST_PASSED]);
            }
            _ => self.reply(&[RESEND]),
        }
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match (command, value) {
            (SET_LEDS, _) => self.leds = value & 7,
            (SET_TYPEMATIC, _) => self.typematic = value & 0x7f,
            (SCAN_CODE_SET, 0) => {
                self.reply(&[ACK, self.scan_code_set]);
                return;
            }
            (SCAN_CODE_SET, 1..=3) => {
                self.scan_code_set = value;
                self.scan_codes.clear();
            }
            (SCAN_CODE_SET, _) => {
                self.reply(&[RESEND]);
                return;
            }
            // Key types of set 3: more keys may follow, until a command.
            _ => self.command = Some(command),
        }
        self.reply(&[ACK]);
    }
}
