//! The key chord of the machine's own keyboard that moves screen and keyboard round: left Ctrl and
//! left Alt with `]` for the next, with `[` for the one before.
//!
//! The keys are meant by their places on a US keyboard, right of P. A guest finds no other use for
//! them, as for letters, digits, function keys, arrows, Delete, End, Backspace and the keypad's
//! signs with these modifiers: consoles, desktops and emulators have those. The right Alt is AltGr
//! where keyboards have one, and types characters with these keys.

use devices::keys::Key;

const NEXT: Key = Key::plain(0x1b);
const PREVIOUS: Key = Key::plain(0x1a);

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// To the next.
    Next,
    /// To the one before.
    Previous,
}

/// The meaning of what was done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is for whatever is on the screen.
    Passes,
    /// It is over.
    Nothing,
    /// The chord.
    Turn(Turn),
}

/// The keys that are down.
#[derive(Debug, Default)]
pub struct Chords {
    has_control: bool,
    has_alt: bool,
    /// The key that completed a chord, until it is released.
    taken: Option<Key>,
    /// Those whose press was passed on, a bit each: plain ones, and extended ones.
    passed: [u128; 2],
}

impl Chords {
    /// Takes what was done with a key.
    pub fn take(&mut self, key: Key, pressed: bool) -> Meaning {
        match key {
            Key::LEFT_CTRL => self.has_control = pressed,
            Key::LEFT_ALT => self.has_alt = pressed,
            _ => {}
        }
        if self.taken == Some(key) {
            // While it is held the keyboard repeats it.
            self.taken = self.taken.filter(|_| pressed);
            return Meaning::Nothing;
        }
        if pressed && self.has_control && self.has_alt && matches!(key, NEXT | PREVIOUS) {
            self.taken = Some(key);
            return Meaning::Turn(if key == NEXT { Turn::Next } else { Turn::Previous });
        }
        let (bit, passed) = (1 << (key.code & 0x7f), &mut self.passed[usize::from(key.extended)]);
        let was_passed = *passed & bit != 0;
        *passed = if pressed { *passed | bit } else { *passed & !bit };
        // A key that went down before a turn comes up after it.
        if pressed || was_passed { Meaning::Passes } else { Meaning::Nothing }
    }

    /// The keys whose press was passed on and not their release. They count as released from now
    /// on.
    pub fn release(&mut self) -> impl Iterator<Item = Key> + use<> {
        let passed = core::mem::take(&mut self.passed);
        (0..0x80).flat_map(move |code| {
            let is_down = move |&extended: &bool| passed[usize::from(extended)] >> code & 1 == 1;
            let key = move |extended| Key { code, extended };
            [false, true].into_iter().filter(is_down).map(key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const A: Key = Key::plain(0x1e);

    fn take(chords: &mut Chords, keys: &[(Key, bool)]) -> Vec<Meaning> {
        keys.iter().map(|&(key, pressed)| chords.take(key, pressed)).collect()
    }

    #[test]
    fn the_chord_is_taken_once_and_its_keys_come_up_unseen() {
        let mut chords = Chords::default();
        let down = [(A, true), (Key::LEFT_CTRL, true), (Key::LEFT_ALT, true)];
        assert_eq!(take(&mut chords, &down), [Meaning::Passes; 3]);
        let again = [(NEXT, true), (NEXT, true), (NEXT, false), (PREVIOUS, true)];
        let expected = [
            Meaning::Turn(Turn::Next),
            Meaning::Nothing,
            Meaning::Nothing,
            Meaning::Turn(Turn::Previous),
        ];
        assert_eq!(take(&mut chords, &again), expected);
        assert_eq!(chords.release().collect::<Vec<_>>(), vec![Key::LEFT_CTRL, A, Key::LEFT_ALT]);
        let up = [(PREVIOUS, false), (Key::LEFT_ALT, false), (Key::LEFT_CTRL, false), (A, false)];
        assert_eq!(take(&mut chords, &up), [Meaning::Nothing; 4]);
        assert_eq!(take(&mut chords, &[(NEXT, true), (NEXT, false)]), [Meaning::Passes; 2]);
    }

    #[test]
    fn other_modifiers_make_no_chord() {
        let mut chords = Chords::default();
        let right_alt = Key::extended(0x38);
        let keys = [(Key::LEFT_CTRL, true), (right_alt, true), (NEXT, true)];
        assert_eq!(take(&mut chords, &keys), [Meaning::Passes; 3]);
        assert_eq!(chords.release().count(), 3);
    }
}
