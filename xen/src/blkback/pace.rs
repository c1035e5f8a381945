//! How often a front end tells of its requests: each time costs it an exit.

/// Times that the front end has told of requests, after which it is to tell of many at once; twice
/// as many each time that it has not had many then, up to the second.
const PATIENCE: u32 = 32;
const MAX_PATIENCE: u32 = 4096;
/// Looks by the clock, in which fewer requests than [`FEW`] come if they are to be told of one by
/// one again: those of a guest that awaits each answer while its CPU is busy.
const LOOKS: u32 = 4;
const FEW: u32 = 8;

/// The pace of a front end, which tells of each request that finds its ring empty, or, while it has
/// many, when most of the ring is full. The back end then looks by itself when the guest has
/// nothing to run, as one that only awaits answers, and by the clock.
#[derive(Debug)]
pub(super) struct Pace {
    gathers: bool,
    patience: u32,
    /// Requests, or times that they were told of, and looks since it was last decided.
    requests: u32,
    looks: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { gathers: false, patience: PATIENCE, requests: 0, looks: 0 }
    }
}

impl Pace {
    /// A request was taken, perhaps the first one of which the front end has told.
    pub const fn count(&mut self, is_first: bool) {
        if self.gathers || is_first {
            self.requests = self.requests.saturating_add(1);
        }
        if !self.gathers && self.requests >= self.patience {
            *self = Self { gathers: true, patience: self.patience, requests: 0, looks: 0 };
        }
    }

    /// A look by the clock ends.
    pub const fn look(&mut self) {
        self.looks += 1;
        if self.looks >= LOOKS {
            let gathers = self.gathers && self.requests >= FEW;
            let patience = match (self.gathers, gathers) {
                (true, false) if self.patience < MAX_PATIENCE => 2 * self.patience,
                (true, true) => PATIENCE,
                _ => self.patience,
            };
            *self = Self { gathers, patience, requests: 0, looks: 0 };
        }
    }

    /// The back end has to look by itself.
    pub const fn gathers(&self) -> bool {
        self.gathers
    }

    /// Requests in an empty ring of `entries` of which the front end is to tell.
    pub const fn awaited(&self, entries: u32) -> u32 {
        if self.gathers && entries >= 4 { entries / 4 * 3 } else { 1 }
    }
}
