//! The mouse at the controller's second port: a PS/2 mouse that becomes an IntelliMouse (wheel) or
//! Explorer (five buttons) when the guest knocks (IBM PS/2 Hardware Interface Technical Reference,
//! "Mouse"; Microsoft's IntelliMouse protocol).

use super::spec::device::{ACK, RESEND, SELF_TEST_PASSED};
use crate::ring::Ring;
use arrayvec::ArrayVec;
use bitfield_struct::bitfield;

const SCALING_1_1: u8 = 0xe6;
const SCALING_2_1: u8 = 0xe7;
const SET_RESOLUTION: u8 = 0xe8;
const STATUS_REQUEST: u8 = 0xe9;
const STREAM_MODE: u8 = 0xea;
const READ_DATA: u8 = 0xeb;
const END_WRAP: u8 = 0xec;
const WRAP_MODE: u8 = 0xee;
const REMOTE_MODE: u8 = 0xf0;
const IDENTIFY: u8 = 0xf2;
const SET_SAMPLE_RATE: u8 = 0xf3;
const ENABLE: u8 = 0xf4;
const DISABLE: u8 = 0xf5;
const DEFAULTS: u8 = 0xf6;
const RESET: u8 = 0xff;

/// Buttons that are down.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Buttons {
    /// Left.
    pub left: bool,
    /// Right.
    pub right: bool,
    /// Middle: the wheel.
    pub middle: bool,
    /// Fourth: back.
    pub back: bool,
    /// Fifth: forward.
    pub forward: bool,
    #[bits(3)]
    __: u8,
}

/// First byte of a movement packet.
#[bitfield(u8)]
struct PacketHead {
    left: bool,
    right: bool,
    middle: bool,
    #[bits(default = true)]
    always: bool,
    x_negative: bool,
    y_negative: bool,
    x_overflow: bool,
    y_overflow: bool,
}

/// First byte of the answer to a status request.
#[bitfield(u8)]
struct StatusHead {
    right: bool,
    middle: bool,
    left: bool,
    __: bool,
    scaling_2_1: bool,
    enabled: bool,
    remote: bool,
    __: bool,
}

/// Fourth byte of an Explorer's packet.
#[bitfield(u8)]
struct WheelAndButtons {
    #[bits(4)]
    wheel: u8,
    back: bool,
    forward: bool,
    #[bits(2)]
    __: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    Plain = 0,
    IntelliMouse = 3,
    Explorer = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Stream,
    Remote,
}

/// Bytes of movement that wait at most; what moves beyond is added up until there is room.
const MAX_QUEUED_BYTES: usize = 48;

/// The most movement that waits, in counts; the rest is lost, as under a mouse that is lifted.
const MAX_BACKLOG: i32 = 4096;

/// The mouse.
#[derive(Clone, Debug)]
pub struct Mouse {
    mode: Mode,
    wrap: bool,
    enabled: bool,
    scaling_2_1: bool,
    resolution: u8,
    sample_rate: u8,
    identity: Identity,
    /// The last three sample rates that were set, oldest first: the knock.
    rates: [u8; 3],
    command: Option<u8>,
    replies: Ring<u8, 16>,
    packets: Ring<u8, 64>,
    last_sent: u8,
    // Movement not yet in a packet: right, up, and the wheel towards the user.
    dx: i32,
    dy: i32,
    dz: i32,
    buttons: Buttons,
    /// The buttons in the last packet.
    reported: Buttons,
}

impl Mouse {
    /// A mouse after power-on, its self-test long past.
    pub fn new() -> Self {
        Self {
            mode: Mode::Stream,
            wrap: false,
            enabled: false,
            scaling_2_1: false,
            resolution: 2,
            sample_rate: 100,
            identity: Identity::Plain,
            rates: [0; 3],
            command: None,
            replies: Ring::default(),
            packets: Ring::default(),
            last_sent: 0,
            dx: 0,
            dy: 0,
            dz: 0,
            buttons: Buttons::new(),
            reported: Buttons::new(),
        }
    }

    /// The mouse moved right by `dx` and down by `dy` counts, its wheel by `dz` towards the user,
    /// and `buttons` are down.
    pub fn moved(&mut self, dx: i32, dy: i32, dz: i32, buttons: Buttons) {
        self.buttons = buttons;
        if self.mode == Mode::Stream && !self.enabled {
            return;
        }
        self.dx = self.dx.saturating_add(dx).clamp(-MAX_BACKLOG, MAX_BACKLOG);
        self.dy = self.dy.saturating_sub(dy).clamp(-MAX_BACKLOG, MAX_BACKLOG);
        self.dz = self.dz.saturating_add(dz).clamp(-MAX_BACKLOG, MAX_BACKLOG);
        self.queue_movement();
    }

    fn has_news(&self) -> bool {
        self.dx != 0 || self.dy != 0 || self.dz != 0 || self.buttons != self.reported
    }

    fn streams(&self) -> bool {
        self.mode == Mode::Stream && self.enabled && !self.wrap
    }

    /// Makes packets of movement while there is room.
    fn queue_movement(&mut self) {
        // One movement may take several packets, but not without bound: what is left follows when
        // the queue drains.
        while self.streams() && self.has_news() && self.packets.len() + 4 <= MAX_QUEUED_BYTES {
            let packet = self.packet();
            self.packets.push_all(&packet);
        }
    }

    /// A packet with as much of the movement as it can hold.
    fn packet(&mut self) -> ArrayVec<u8, 4> {
        let dx = self.dx.clamp(-255, 255);
        let dy = self.dy.clamp(-255, 255);
        self.dx -= dx;
        self.dy -= dy;
        let (dx, dy) = if self.scaling_2_1 && self.mode == Mode::Stream {
            (scale_2_1(dx), scale_2_1(dy))
        } else {
            (dx, dy)
        };
        let buttons = self.buttons;
        self.reported = buttons;
        let head = PacketHead::new()
            .with_left(buttons.left())
            .with_right(buttons.right())
            .with_middle(buttons.middle())
            .with_x_negative(dx < 0)
            .with_y_negative(dy < 0);
        let mut packet = ArrayVec::new();
        packet.extend([head.into_bits(), dx as u8, dy as u8]);
        let wheel_range = match self.identity {
            Identity::Plain => 0,
            Identity::IntelliMouse => 127,
            Identity::Explorer => 7,
        };
        let dz = self.dz.clamp(-wheel_range, wheel_range);
        match self.identity {
            Identity::Plain => self.dz = 0,
            Identity::IntelliMouse => packet.push(dz as u8),
            Identity::Explorer => packet.push(
                WheelAndButtons::new()
                    .with_wheel(dz as u8 & 0x0f)
                    .with_back(buttons.back())
                    .with_forward(buttons.forward())
                    .into_bits(),
            ),
        }
        self.dz -= dz * i32::from(self.identity != Identity::Plain);
        packet
    }

    /// Takes the next byte to send.
    pub fn send(&mut self) -> Option<u8> {
        let byte = self.replies.pop().or_else(|| self.packets.pop())?;
        self.last_sent = byte;
        self.queue_movement();
        Some(byte)
    }

    fn reply(&mut self, bytes: &[u8]) {
        // A guest that never reads loses replies.
        self.replies.push_all(bytes);
    }

    fn forget_movement(&mut self) {
        self.packets.clear();
        (self.dx, self.dy, self.dz) = (0, 0, 0);
        self.reported = self.buttons;
    }

    fn set_defaults(&mut self) {
        self.mode = Mode::Stream;
        self.enabled = false;
        self.scaling_2_1 = false;
        self.resolution = 2;
        self.sample_rate = 100;
        self.forget_movement();
    }

    /// Takes a byte from the controller.
    pub fn receive(&mut self, byte: u8) {
        if self.wrap && !matches!(byte, END_WRAP | RESET) {
            self.reply(&[byte]);
            return;
        }
        // A command stops what is being sent.
        self.packets.clear();
        match self.command.take() {
            Some(SET_RESOLUTION) => {
                self.resolution = byte & 3;
                self.reply(&[ACK]);
            }
            Some(_) => {
                self.set_sample_rate(byte);
                self.reply(&[ACK]);
            }
            None => self.start(byte),
        }
    }

    fn set_sample_rate(&mut self, rate: u8) {
        self.sample_rate = rate;
        self.rates = [self.rates[1], self.rates[2], rate];
        match self.rates {
            [200, 100, 80] => self.identity = Identity::IntelliMouse,
            [200, 200, 80] => self.identity = Identity::Explorer,
            _ => {}
        }
    }

    fn start(&mut self, command: u8) {
        match command {
            RESET => {
                *self = Self { buttons: self.buttons, ..Self::new() };
                self.reply(&[ACK, SELF_TEST_PASSED, Identity::Plain as u8]);
                return;
            }
            RESEND => {
                self.reply(&[self.last_sent]);
                return;
            }
            IDENTIFY => {
                self.reply(&[ACK, self.identity as u8]);
                return;
            }
            STATUS_REQUEST => {
                let head = StatusHead::new()
                    .with_right(self.buttons.right())
                    .with_middle(self.buttons.middle())
                    .with_left(self.buttons.left())
                    .with_scaling_2_1(self.scaling_2_1)
                    .with_enabled(self.enabled)
                    .with_remote(self.mode == Mode::Remote);
                self.reply(&[ACK, head.into_bits(), self.resolution, self.sample_rate]);
                return;
            }
            READ_DATA => {
                let packet = self.packet();
                self.reply(&[ACK]);
                self.reply(&packet);
                return;
            }
            SCALING_1_1 => self.scaling_2_1 = false,
            SCALING_2_1 => self.scaling_2_1 = true,
            SET_RESOLUTION | SET_SAMPLE_RATE => self.command = Some(command),
            STREAM_MODE => self.mode = Mode::Stream,
            REMOTE_MODE => {
                self.mode = Mode::Remote;
                self.forget_movement();
            }
            WRAP_MODE => self.wrap = true,
            END_WRAP => self.wrap = false,
            ENABLE => {
                self.enabled = true;
                self.forget_movement();
            }
            DISABLE => self.enabled = false,
            DEFAULTS => self.set_defaults(),
            _ => {
                self.reply(&[RESEND]);
                return;
            }
        }
        self.reply(&[ACK]);
    }
}

/// Small movements become smaller, large ones twice as large.
const fn scale_2_1(counts: i32) -> i32 {
    let scaled = match counts.unsigned_abs() {
        small @ (0 | 1 | 3) => small as i32,
        2 => 1,
        4 => 6,
        5 => 9,
        large => 2 * large as i32,
    };
    let scaled = if scaled > 255 { 255 } else { scaled };
    if counts < 0 { -scaled } else { scaled }
}
