//! The machine's own display, keyboard and mouse: one guest has them, and a chord of keys moves them
//! round.

use super::chord::{Chords, Meaning, Turn};
use super::guests::{Guest, Guests};
use super::mirror::Mirror;
use control::host::{Display, Host, InputEvent, host_ns};
use devices::i8042::Buttons;
use devices::keys::{Key, Set1Decoder};

/// Events taken from the machine at once.
const EVENTS_AT_ONCE: usize = 64;

/// The seat of the person at the machine.
pub struct Seat {
    display: Option<&'static dyn Display>,
    mirror: Mirror,
    decoder: Set1Decoder,
    chords: Chords,
    /// Buttons of the mouse that are down.
    buttons: Buttons,
    /// The guest that is seen.
    guest: Option<u32>,
    next_refresh_ns: u64,
}

impl Seat {
    /// With no guest yet.
    pub fn new(host: &'static dyn Host) -> Self {
        Self {
            display: host.display(),
            mirror: Mirror::new(),
            decoder: Set1Decoder::default(),
            chords: Chords::default(),
            buttons: Buttons::default(),
            guest: None,
            next_refresh_ns: 0,
        }
    }

    /// A guest's life begins: it is seen if no other is.
    pub fn attach(&mut self, number: u32) {
        if self.guest.is_none_or(|seen| seen == number) {
            self.look_at(number);
            // It does not know that they are down.
            self.chords.release().for_each(drop);
            self.mirror.invalidate();
        }
    }

    /// A guest is gone: the next one is seen.
    pub fn forget(&mut self, number: u32, guests: &Guests) {
        if self.guest == Some(number) {
            self.guest = None;
            if let Some(next) = guests.after(number).or_else(|| guests.after(0)) {
                self.look_at(next);
            }
        }
    }

    fn look_at(&mut self, number: u32) {
        self.guest = Some(number);
        self.mirror.turn();
        self.next_refresh_ns = 0;
    }

    /// Moves screen, keyboard and mouse to the next guest.
    fn turn(&mut self, turn: Turn, guests: &mut Guests) {
        let number = self.guest.unwrap_or_default();
        let next = match turn {
            Turn::Next => guests.after(number).or_else(|| guests.after(0)),
            Turn::Previous => guests.before(number).or_else(|| guests.before(u32::MAX)),
        };
        let Some(next) = next.filter(|next| *next != number) else { return };
        let (keys, buttons) = (self.chords.release(), core::mem::take(&mut self.buttons));
        if let Some(guest) = guests.get_mut(number) {
            keys.for_each(|key| guest.keyboard.hold(key, false));
            if let Some(ports) = guest.ports.as_ref().filter(|_| buttons != Buttons::default()) {
                ports.i8042.mouse_move(0, 0, 0, Buttons::default());
            }
        }
        self.look_at(next);
    }

    fn key(&mut self, key: Key, pressed: bool, guests: &mut Guests) {
        match self.chords.take(key, pressed) {
            Meaning::Turn(turn) => self.turn(turn, guests),
            Meaning::Nothing => {}
            Meaning::Passes => {
                if let Some(guest) = self.seen(guests) {
                    guest.keyboard.hold(key, pressed);
                }
            }
        }
    }

    fn seen<'a>(&self, guests: &'a mut Guests) -> Option<&'a mut Guest> {
        guests.get_mut(self.guest?)
    }

    /// Takes what was done at the machine's keyboard and mouse for the guest that is seen.
    pub fn take_input(&mut self, host: &dyn Host, guests: &mut Guests, now_ns: u64) {
        let mut touched = false;
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = host.take_input() else { break };
            touched = true;
            match event {
                InputEvent::KeyboardByte(byte) => {
                    if let Some((key, pressed)) = self.decoder.feed(byte) {
                        self.key(key, pressed, guests);
                    }
                }
                InputEvent::Mouse { dx, dy, dz, buttons } => {
                    self.buttons = Buttons::from_bits(buttons & 0x1f);
                    if let Some(ports) = self.seen(guests).and_then(|guest| guest.ports.as_ref()) {
                        let (dx, dy) = (dx.into(), -i32::from(dy));
                        ports.i8042.mouse_move(dx, dy, dz.into(), self.buttons);
                    }
                }
            }
        }
        if touched {
            self.mirror.hurry();
            self.next_refresh_ns = self.next_refresh_ns.min(now_ns + self.mirror.period_ns());
        }
    }

    /// Shows what has changed on the screen, if it is time.
    pub fn refresh(&mut self, host: &dyn Host, guests: &Guests, now_ns: u64) {
        let guest = self.guest.and_then(|number| guests.get(number)?.ports.as_ref());
        if let (Some(display), Some(guest)) = (self.display, guest)
            && now_ns >= self.next_refresh_ns
        {
            self.mirror.refresh(&guest.vga, display, || host_ns(host));
            self.next_refresh_ns = now_ns + self.mirror.period_ns();
        }
    }

    /// When there is something to do next, if nothing else happens.
    pub fn deadline_ns(&self, guests: &Guests) -> Option<u64> {
        let guest = self.guest.and_then(|number| guests.get(number)?.ports.as_ref());
        (self.display.is_some() && guest.is_some()).then_some(self.next_refresh_ns)
    }
}
