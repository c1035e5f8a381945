//! One 8259A: eight inputs, priorities, one output.

use super::spec::{Icw1, Icw4, Ocw2, Ocw3, PollWord, SPURIOUS_LEVEL};

/// Which word the controller expects next at its data port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Never initialised: no interrupts.
    Icw1,
    Icw2,
    Icw3,
    Icw4,
    /// Initialised: the data port is the mask.
    Ocw1,
}

/// The volatile state of one 8259A.
#[derive(Clone, Debug)]
pub(super) struct Chip {
    /// Levels of the inputs.
    lines: u8,
    /// Rising edges not yet acknowledged, of inputs that are still high.
    edges: u8,
    /// ELCR: inputs that are level triggered.
    level_triggered: u8,
    mask: u8,
    in_service: u8,
    /// The input of lowest priority; the one after it has the highest.
    lowest: u8,
    expect: Expect,
    icw1: Icw1,
    vector_base: u8,
    icw3: u8,
    icw4: Icw4,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
    /// INT. It stays high when the request falls, until the processor acknowledges or a command
    /// changes what may interrupt.
    int: bool,
}

impl Chip {
    /// A controller after power-on: it waits for ICW1.
    pub(super) fn new() -> Self {
        Self {
            lines: 0,
            edges: 0,
            level_triggered: 0,
            mask: 0,
            in_service: 0,
            lowest: 7,
            expect: Expect::Icw1,
            icw1: Icw1::new(),
            vector_base: 0,
            icw3: 0,
            icw4: Icw4::new(),
            rotate_on_auto_eoi: false,
            special_mask: false,
            read_isr: false,
            poll: false,
            int: false,
        }
    }

    /// An input has become high or low. "In both the edge and level triggered modes the IR inputs
    /// must remain high until after the falling edge of the first INTA" (8259A data sheet,
    /// "Edge and level triggered modes"): a request whose input falls before is none any more.
    /// "If the IR input goes low before this time a default IR7 will occur when the CPU
    /// acknowledges the interrupt": INT stays.
    pub(super) fn set_line(&mut self, input: u8, high: bool) {
        let bit = 1 << (input & 7);
        if high {
            self.edges |= bit & !self.lines;
            self.lines |= bit;
        } else {
            self.lines &= !bit;
            self.edges &= !bit;
        }
    }

    /// The request register: latched edges, and level-triggered inputs as they are.
    fn requests(&self) -> u8 {
        (self.edges & !self.level_triggered) | (self.lines & self.level_triggered)
    }

    /// The input of highest priority in `inputs`, with its rank (0 is highest).
    fn highest(&self, inputs: u8) -> Option<(u8, u32)> {
        if inputs == 0 {
            return None;
        }
        let first = (self.lowest + 1) & 7;
        let rank = inputs.rotate_right(u32::from(first)).trailing_zeros();
        Some(((first + rank as u8) & 7, rank))
    }

    /// The input whose interrupt the controller asks for: its output is high when there is one.
    ///
    /// `cascade` is the input that a second controller is wired to: in special fully nested mode,
    /// an interrupt in service there does not block another one from there.
    pub(super) fn pending(&self, cascade: Option<u8>) -> Option<u8> {
        if self.expect != Expect::Ocw1 {
            return None;
        }
        let (input, rank) = self.highest(self.requests() & !self.mask)?;
        let blocking =
            if self.special_mask { self.in_service & !self.mask } else { self.in_service };
        let Some((_, in_service_rank)) = self.highest(blocking) else {
            return Some(input);
        };
        let nested_again =
            self.icw4.special_fully_nested() && cascade == Some(input) && rank == in_service_rank;
        (rank < in_service_rank || nested_again).then_some(input)
    }

    /// INT, after inputs have changed or commands were written. `cascade` as in [`Chip::pending`].
    pub(super) fn drive(&mut self, cascade: Option<u8>) -> bool {
        self.int |= self.pending(cascade).is_some();
        self.int
    }

    /// INT falls, until [`Chip::drive`] finds a reason for it.
    pub(super) fn withdraw(&mut self) {
        self.int = false;
    }

    /// True if ICW1 and ICW3 say that a second controller is at `input`.
    pub(super) fn has_cascade_at(&self, input: u8) -> bool {
        !self.icw1.single() && self.icw3 & (1 << (input & 7)) != 0
    }

    /// Acknowledges [`Chip::pending`]; returns the input, or `None` if the request has vanished.
    pub(super) fn acknowledge(&mut self, cascade: Option<u8>) -> Option<u8> {
        self.int = false;
        let input = self.pending(cascade)?;
        self.edges &= !(1 << input);
        if !self.icw4.auto_eoi() {
            self.in_service |= 1 << input;
        } else if self.rotate_on_auto_eoi {
            self.lowest = input;
        }
        Some(input)
    }

    /// The vector of `input`, or of the spurious interrupt for `None`.
    pub(super) fn vector(&self, input: Option<u8>) -> u8 {
        self.vector_base | input.unwrap_or(SPURIOUS_LEVEL)
    }

    /// True if the next read is a poll, which acknowledges an interrupt.
    pub(super) fn takes_poll(&mut self) -> bool {
        core::mem::take(&mut self.poll)
    }

    /// The poll word for an acknowledged `input`.
    pub(super) fn poll_word(input: Option<u8>) -> u8 {
        match input {
            Some(level) => PollWord::new().with_level(level).with_requested(true).into(),
            None => PollWord::new().into(),
        }
    }

    pub(super) fn read_command(&self) -> u8 {
        if self.read_isr { self.in_service } else { self.requests() }
    }

    pub(super) fn read_data(&self) -> u8 {
        self.mask
    }

    pub(super) fn write_command(&mut self, value: u8) {
        if Icw1::from(value).is_icw1() {
            self.start_initialisation(Icw1::from(value));
        } else if Ocw3::from(value).is_ocw3() {
            self.write_ocw3(Ocw3::from(value));
        } else {
            self.write_ocw2(Ocw2::from(value));
        }
    }

    pub(super) fn write_data(&mut self, value: u8) {
        self.int = false;
        match self.expect {
            Expect::Icw1 | Expect::Ocw1 => self.mask = value,
            Expect::Icw2 => {
                self.vector_base = value & !7;
                self.expect = if self.icw1.single() { self.after_icw3() } else { Expect::Icw3 };
            }
            Expect::Icw3 => {
                self.icw3 = value;
                self.expect = self.after_icw3();
            }
            Expect::Icw4 => {
                self.icw4 = Icw4::from(value);
                self.expect = Expect::Ocw1;
            }
        }
    }

    /// ICW1 ("Initialization command words"): edges seen so far, mask and priorities are cleared.
    fn start_initialisation(&mut self, icw1: Icw1) {
        *self = Self {
            lines: self.lines,
            level_triggered: self.level_triggered,
            vector_base: self.vector_base,
            icw1,
            expect: Expect::Icw2,
            ..Self::new()
        };
    }

    fn after_icw3(&self) -> Expect {
        if self.icw1.needs_icw4() { Expect::Icw4 } else { Expect::Ocw1 }
    }

    fn write_ocw2(&mut self, word: Ocw2) {
        self.int = false;
        if !word.end_of_interrupt() {
            match (word.rotate(), word.specific()) {
                (rotate, false) => self.rotate_on_auto_eoi = rotate,
                (true, true) => self.lowest = word.level(),
                (false, true) => {}
            }
            return;
        }
        let level = if word.specific() {
            Some(word.level())
        } else {
            // In special mask mode a masked level is not ended by a non-specific command.
            let candidates =
                if self.special_mask { self.in_service & !self.mask } else { self.in_service };
            self.highest(candidates).map(|(level, _)| level)
        };
        let Some(level) = level else { return };
        self.in_service &= !(1 << level);
        if word.rotate() {
            self.lowest = level;
        }
    }

    fn write_ocw3(&mut self, word: Ocw3) {
        if word.special_mask_valid() {
            self.special_mask = word.special_mask();
        }
        if word.read_register() {
            self.read_isr = word.read_isr();
        }
        self.poll = word.poll();
    }

    pub(super) fn elcr(&self) -> u8 {
        self.level_triggered
    }

    /// Sets which inputs are level triggered. An input keeps no edge from before the change.
    pub(super) fn set_elcr(&mut self, level_triggered: u8) {
        self.edges &= !(self.level_triggered ^ level_triggered);
        self.int = false;
        self.level_triggered = level_triggered;
    }
}
