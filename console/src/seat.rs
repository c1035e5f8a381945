//! The machine's own display, keyboard and mouse: one guest has them, or the hypervisor's prompt,
//! and a chord of keys moves them round.

use super::chord::{Chords, Meaning, Turn};
use super::guests::{Guest, Guests};
use super::mirror::Mirror;
use super::panel::Panel;
use alloc::string::String;
use control::host::{Display, Host, InputEvent, host_ns};
use devices::i8042::Buttons;
use devices::keys::{Key, Set1Decoder};

/// Events taken from the machine at once.
const EVENTS_AT_ONCE: usize = 64;

/// The picture on the display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// The picture from before the first guest.
    Begin,
    /// The screen of the guest with this number.
    Guest(u32),
    /// The last picture of the last guest. A key leads to the prompt.
    End,
    /// The prompt.
    Prompt,
}

/// The seat of the person at the machine.
pub struct Seat {
    display: Option<&'static dyn Display>,
    mirror: Mirror,
    decoder: Set1Decoder,
    chords: Chords,
    /// Buttons of the mouse that are down.
    buttons: Buttons,
    view: View,
    panel: Panel,
    /// The display can show the prompt, as far as is known.
    has_prompt: bool,
    next_refresh_ns: u64,
}

impl Seat {
    /// With no guest yet.
    pub fn new(host: &'static dyn Host) -> Self {
        let display = host.display();
        Self {
            display,
            mirror: Mirror::new(),
            decoder: Set1Decoder::default(),
            chords: Chords::default(),
            buttons: Buttons::default(),
            view: View::Begin,
            panel: Panel::default(),
            has_prompt: display.is_some(),
            next_refresh_ns: 0,
        }
    }

    /// A guest's life begins: it is seen if no other is.
    pub fn attach(&mut self, number: u32) {
        if matches!(self.view, View::Begin | View::End) || self.view == View::Guest(number) {
            self.look_at(View::Guest(number));
            // It does not know that they are down.
            self.chords.release().for_each(drop);
            self.mirror.invalidate();
        }
    }

    /// A guest is gone: the next one is seen.
    pub fn forget(&mut self, number: u32, guests: &Guests) {
        if self.view == View::Guest(number) {
            match guests.after(number).or_else(|| guests.after(0)) {
                Some(next) => self.look_at(View::Guest(next)),
                None => self.view = View::End,
            }
        }
    }

    /// The next line that was typed at the prompt.
    pub fn take_command(&mut self) -> Option<String> {
        self.panel.take_command()
    }

    /// Shows text at the prompt, and the prompt again.
    pub fn print(&mut self, text: &str) {
        self.show(text);
        self.panel.show_prompt();
    }

    /// Shows text at the prompt, which is busy.
    pub fn show(&mut self, text: &str) {
        self.panel.print(text);
        self.mirror.hurry();
    }

    fn look_at(&mut self, view: View) {
        self.view = view;
        self.mirror.turn();
        self.next_refresh_ns = 0;
    }

    /// Moves screen, keyboard and mouse round: the guests by their numbers, the prompt.
    fn turn(&mut self, turn: Turn, guests: &mut Guests) {
        let (number, of_guest) = match self.view {
            View::Guest(number) => (number, true),
            View::Begin | View::End | View::Prompt => (0, false),
        };
        let prompt = (self.has_prompt && of_guest).then_some(View::Prompt);
        let (next, round) = match (turn, of_guest) {
            (Turn::Next, _) => (guests.after(number), guests.after(0)),
            (Turn::Previous, true) => (guests.before(number), guests.before(u32::MAX)),
            (Turn::Previous, false) => (guests.before(u32::MAX), None),
        };
        let next = next.map(View::Guest).or(prompt).or(round.map(View::Guest));
        let Some(next) = next.filter(|next| *next != self.view) else { return };
        let (keys, buttons) = (self.chords.release(), core::mem::take(&mut self.buttons));
        self.panel.release_keys();
        if let Some(guest) = self.seen(guests) {
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
            Meaning::Passes => match self.view {
                View::Guest(number) => {
                    if let Some(guest) = guests.get_mut(number) {
                        guest.keyboard.hold(key, pressed);
                    }
                }
                View::Prompt => self.panel.key(key, pressed),
                View::End if pressed && self.has_prompt => self.look_at(View::Prompt),
                View::Begin | View::End => {}
            },
        }
    }

    fn seen<'a>(&self, guests: &'a mut Guests) -> Option<&'a mut Guest> {
        let View::Guest(number) = self.view else { return None };
        guests.get_mut(number)
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
    pub fn refresh(&mut self, host: &dyn Host, guests: &mut Guests, now_ns: u64) {
        let Some(display) = self.display.filter(|_| now_ns >= self.next_refresh_ns) else { return };
        match self.view {
            View::Begin | View::End => return,
            View::Guest(number) => {
                let ports = guests.get(number).and_then(|guest| guest.ports.as_ref());
                let Some(ports) = ports else { return };
                self.mirror.refresh(&ports.vga, display, || host_ns(host));
            }
            View::Prompt => {
                let screen = self.panel.screen();
                if !self.mirror.refresh_text(&screen, display, || host_ns(host)) {
                    log::info!("console: the display shows no text, and therefore no prompt");
                    self.has_prompt = false;
                    self.view = View::End;
                    self.turn(Turn::Next, guests);
                }
            }
        }
        self.next_refresh_ns = now_ns + self.mirror.period_ns();
    }

    /// When there is something to do next, if nothing else happens.
    pub fn deadline_ns(&self, guests: &Guests) -> Option<u64> {
        let is_shown = match self.view {
            View::Begin | View::End => false,
            View::Guest(number) => guests.get(number).is_some_and(|guest| guest.ports.is_some()),
            View::Prompt => true,
        };
        (self.display.is_some() && is_shown).then_some(self.next_refresh_ns)
    }
}
