//! The keyboard at the controller's first port: what it answers to commands, and what it sends for
//! keys (IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)").

use super::key_type::{KeyType, KeyTypes};
use super::scancodes;
use super::spec::device::{ACK, RESEND, SELF_TEST_PASSED};
use crate::keys::Key;
use crate::ring::Ring;
use crate::time::GuestTime;

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

/// How long a key is held down before it repeats.
fn delay_ns(typematic: u8) -> u64 {
    250_000_000 * (u64::from(typematic >> 5 & 3) + 1)
}

/// Time between two repetitions: (8 + A) * 2^B * 4.17 ms, A in bits 2 to 0, B in bits 4 and 3.
fn period_ns(typematic: u8) -> u64 {
    ((8 + u64::from(typematic & 7)) * 4_170_000) << (typematic >> 3 & 3)
}

/// The key that was pressed last, and is still down.
#[derive(Clone, Copy, Debug)]
struct Held {
    key: Key,
    repeats_at: GuestTime,
}

/// The keyboard.
#[derive(Clone, Debug)]
pub struct Keyboard {
    enabled: bool,
    scan_code_set: u8,
    leds: u8,
    typematic: u8,
    /// The command whose parameter comes next.
    command: Option<u8>,
    key_types: KeyTypes,
    held: Option<Held>,
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
            key_types: KeyTypes::new(),
            held: None,
            replies: Ring::default(),
            scan_codes: Ring::default(),
            last_sent: 0,
        }
    }

    /// Bit 0: Scroll Lock, bit 1: Num Lock, bit 2: Caps Lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// A key is pressed or released; false if there is no room for it now. A key that is pressed
    /// while it is down is repetition by the host's keyboard, which this one does by itself.
    pub fn key(&mut self, key: Key, pressed: bool, now: GuestTime) -> bool {
        let is_held = self.held.is_some_and(|held| held.key == key);
        if is_held && pressed {
            return true;
        }
        if self.enabled && !self.send_key(key, pressed) {
            return false;
        }
        if pressed {
            let repeats_at = now + delay_ns(self.typematic);
            let repeats = self.enabled && self.key_type(key).repeats;
            self.held = repeats.then_some(Held { key, repeats_at });
        } else if is_held {
            self.held = None;
        }
        true
    }

    fn key_type(&self, key: Key) -> KeyType {
        match (self.scan_code_set, scancodes::set_3_code(key)) {
            // It tells of its release as it is pressed.
            (1 | 2, _) if key == Key::PAUSE => KeyType { repeats: false, breaks: false },
            (3, Some(code)) => self.key_types.get(code),
            _ => KeyType::TYPEMATIC_MAKE_BREAK,
        }
    }

    /// Queues what a key sends; false if there is no room.
    fn send_key(&mut self, key: Key, pressed: bool) -> bool {
        if !pressed && !self.key_type(key).breaks {
            return true;
        }
        let bytes = match self.scan_code_set {
            1 => scancodes::set_1(key, pressed),
            2 => scancodes::set_2(key, pressed),
            _ => scancodes::set_3(key, pressed),
        };
        self.scan_codes.push_all(&bytes)
    }

    /// When the key that is held down repeats next.
    pub fn repeats_at(&self) -> Option<GuestTime> {
        self.held.map(|held| held.repeats_at)
    }

    /// Repeats the key that is held down if it is time, and `ready`: while the keyboard cannot
    /// send, nothing is stored. A repetition that is late by a whole period is left out, since
    /// its key may have been released meanwhile.
    pub fn repeat(&mut self, now: GuestTime, ready: bool) {
        let Some(held) = self.held.filter(|held| held.repeats_at <= now) else { return };
        let period_ns = period_ns(self.typematic);
        if ready && self.scan_codes.is_empty() && now < held.repeats_at + period_ns {
            self.send_key(held.key, true);
        }
        self.held = Some(Held { repeats_at: now + period_ns, ..held });
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
        self.key_types = KeyTypes::new();
        self.scan_codes.clear();
    }

    /// Takes a byte from the controller. The unsent rest of the answer to the byte before is
    /// dropped.
    pub fn receive(&mut self, byte: u8) {
        self.replies.clear();
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
                self.held = None;
                self.set_defaults();
                self.reply(&[ACK]);
            }
            DEFAULTS => {
                self.set_defaults();
                self.reply(&[ACK]);
            }
            ALL_KEYS_FIRST..=ALL_KEYS_LAST => {
                if let Some(key_type) = KeyType::of_command(command) {
                    self.key_types.set_all(key_type);
                }
                self.scan_codes.clear();
                self.reply(&[ACK]);
            }
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
            // More keys may follow, until a command.
            _ => {
                if let Some(key_type) = KeyType::of_command(command) {
                    self.key_types.set(value, key_type);
                }
                self.command = Some(command);
            }
        }
        self.reply(&[ACK]);
    }
}
