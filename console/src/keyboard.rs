//! Keys for a guest: those of the machine's own keyboard, and those that a program types.

use alloc::collections::VecDeque;
use devices::i8042::I8042;
use devices::keys::{Key, key_presses};

/// Between two keys that a program types: what a BIOS and a slow program keep up with.
const TYPING_GAP_NS: u64 = 10_000_000;
/// After a key that the guest's keyboard had no room for.
const RETRY_NS: u64 = 10_000_000;
/// Key presses and releases that wait at most.
const MAX_TYPED: usize = 16 << 10;
/// Keys of a person that wait while the guest does not read; later ones are lost, as with a real
/// keyboard.
const MAX_HELD: usize = 64;

/// There is no room for more typed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Keys on their way to the guest.
#[derive(Debug, Default)]
pub struct Keyboard {
    held: VecDeque<(Key, bool)>,
    typed: VecDeque<(Key, bool)>,
    next_key_ns: u64,
}

impl Keyboard {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Queues the keys of `text`; the error is the first character that no key types.
    pub fn type_text(&mut self, text: &str) -> Result<Result<(), QueueFull>, char> {
        if let Some(character) = text.chars().find(|&character| key_presses(character).is_empty()) {
            return Err(character);
        }
        let keys = text.chars().map(|character| key_presses(character).len()).sum::<usize>();
        if self.typed.len() + keys > MAX_TYPED {
            return Ok(Err(QueueFull));
        }
        self.typed.extend(text.chars().flat_map(key_presses));
        Ok(Ok(()))
    }

    /// Queues one press or release.
    pub fn press(&mut self, key: Key, pressed: bool) -> Result<(), QueueFull> {
        if self.typed.len() >= MAX_TYPED {
            return Err(QueueFull);
        }
        self.typed.push_back((key, pressed));
        Ok(())
    }

    /// Queues what a person did with a key of the machine's own keyboard.
    pub fn hold(&mut self, key: Key, pressed: bool) {
        // A release goes in even then: the guest's keyboard would repeat its key for ever.
        if self.held.len() < if pressed { MAX_HELD } else { 2 * MAX_HELD } {
            self.held.push_back((key, pressed));
        }
    }

    /// Passes on what is due at `now_ns`.
    pub fn attend(&mut self, guest: Option<&I8042>, now_ns: u64) {
        match guest {
            Some(guest) => self.pass_on(guest, now_ns),
            None => self.held.clear(),
        }
    }

    fn pass_on(&mut self, guest: &I8042, now_ns: u64) {
        while let Some(&(key, pressed)) = self.held.front() {
            if !guest.key(key, pressed) {
                break;
            }
            self.held.pop_front();
        }
        while now_ns >= self.next_key_ns
            && let Some(&(key, pressed)) = self.typed.front()
        {
            if !guest.key(key, pressed) {
                self.next_key_ns = now_ns + RETRY_NS;
                return;
            }
            self.typed.pop_front();
            // Shift and Ctrl go together with their key.
            let modifier = [Key::LEFT_SHIFT, Key::LEFT_CTRL].contains(&key);
            self.next_key_ns = now_ns + if modifier { 0 } else { TYPING_GAP_NS };
        }
    }

    /// When there is something to do next, if nothing else happens.
    pub fn deadline_ns(&self, now_ns: u64) -> Option<u64> {
        let typed = (!self.typed.is_empty()).then_some(self.next_key_ns);
        let held = (!self.held.is_empty()).then_some(now_ns + RETRY_NS);
        typed.into_iter().chain(held).min()
    }
}
