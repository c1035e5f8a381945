//! The machine's own display, keyboard and mouse: one guest has them.

use super::guests::Guests;
use super::mirror::Mirror;
use control::host::{Display, Host, InputEvent, host_ns};
use devices::i8042::Buttons;
use devices::keys::Set1Decoder;

/// Events taken from the machine at once.
const EVENTS_AT_ONCE: usize = 64;

/// The seat of the person at the machine.
pub struct Seat {
    display: Option<&'static dyn Display>,
    mirror: Mirror,
    decoder: Set1Decoder,
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
            guest: None,
            next_refresh_ns: 0,
        }
    }

    /// A guest's life begins: it is seen if no other is.
    pub fn attach(&mut self, number: u32) {
        if self.guest.is_none_or(|seen| seen == number) {
            self.look_at(number);
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
        self.decoder = Set1Decoder::default();
        self.mirror.invalidate();
        self.next_refresh_ns = 0;
    }

    /// Takes what was done at the machine's keyboard and mouse for the guest that is seen.
    pub fn take_input(&mut self, host: &dyn Host, guests: &mut Guests, now_ns: u64) {
        let mut touched = false;
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = host.take_input() else { break };
            touched = true;
            let guest = self.guest.and_then(|number| guests.get_mut(number));
            match event {
                InputEvent::KeyboardByte(byte) => {
                    if let (Some((key, pressed)), Some(guest)) = (self.decoder.feed(byte), guest) {
                        guest.keyboard.hold(key, pressed);
                    }
                }
                InputEvent::Mouse { dx, dy, dz, buttons } => {
                    if let Some(ports) = guest.and_then(|guest| guest.ports.as_ref()) {
                        ports.i8042.mouse_move(
                            dx.into(),
                            -i32::from(dy),
                            dz.into(),
                            Buttons::from_bits(buttons & 0x1f),
                        );
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
